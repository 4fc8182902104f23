/**
 * A chat between two people, wherever they are.
 *
 *     deno run --allow-net examples/chat.ts              prints a ticket and waits
 *     deno run --allow-net examples/chat.ts TICKET       connects to the one who printed it
 *
 * To use your own rendezvous (`punchline serve`) instead of public brokers, set RENDEZVOUS=ws://HOST:3480 and add
 * `--allow-env=RENDEZVOUS`. The chat is encrypted: no one else can read it or join.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { Peer, type PeerConnection } from "@punchline/punchline";

const [ticket] = Deno.args;
const { state } = await Deno.permissions.query({ name: "env", variable: "RENDEZVOUS" });
const rendezvous = state === "granted" ? Deno.env.get("RENDEZVOUS") : undefined;
const signaling = rendezvous === undefined ? undefined : [rendezvous];

await chat().catch(({ message }) => {
  console.error(message);
  Deno.exit(1);
});

async function chat(): Promise<void> {
  const listen = ticket === undefined;
  await using peer = await Peer.open({ signaling, listen, protocol: "chat/1" });
  if (listen) console.log(`Your friend's ticket: ${peer.ticket}`);
  await using conn = listen
    ? await (await peer.nextIncoming()).accept()
    : await waiting("Connecting to your friend", peer.connect(ticket));
  console.log(`Connected (${conn.path.kind}). Type a message; Ctrl-D ends the chat.`);

  showEvents(conn);
  const sending = Deno.stdin.readable.pipeTo(conn.writable).catch(() => {}); // the other side has gone
  for await (const text of conn.readable.pipeThrough(new TextDecoderStream())) {
    console.log(text.trimEnd().replaceAll(/^/gm, "> "));
  }
  console.log("Your friend has left.");
  if (Deno.stdin.isTerminal()) {
    await conn.closeWrite().catch(() => {}); // the friend may have gone already
    await conn.finished.catch(() => {});
    Deno.exit(); // a read from a terminal would not end
  }
  await sending;
}

async function showEvents({ events }: PeerConnection): Promise<void> {
  for await (const { event } of events) {
    if (event === "lost") console.log("(connection lost, looking for another path)");
    if (event === "path") console.log("(reconnected)");
  }
}

/** Says what is waited for if it takes a second, and with a dot each second after that. */
async function waiting<T>(what: string, job: Promise<T>): Promise<T> {
  const say = (text: string) => Deno.stderr.writeSync(new TextEncoder().encode(text));
  let seconds = 0;
  const timer = setInterval(() => say(seconds++ === 0 ? what : "."), 1000);
  try {
    return await job;
  } finally {
    clearInterval(timer);
    if (seconds > 0) say("\n");
  }
}
