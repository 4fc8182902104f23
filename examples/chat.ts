/**
 * Two people chat, wherever they are.
 *
 *     deno run --allow-net examples/chat.ts              prints a ticket, and waits
 *     deno run --allow-net examples/chat.ts TICKET       connects to whoever printed it
 *
 * With a rendezvous of one's own (`punchline serve`) instead of public brokers: RENDEZVOUS=ws://HOST:3480 and
 * `--allow-env=RENDEZVOUS`. What is said is encrypted, and nobody else can read it or join.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { Peer, type PeerConnection } from "@punchline/punchline";
import { DEFAULT_SIGNALING } from "@punchline/punchline/signal";

const [ticket] = Deno.args;
const { state } = await Deno.permissions.query({ name: "env", variable: "RENDEZVOUS" });
const rendezvous = state === "granted" ? Deno.env.get("RENDEZVOUS") : undefined;
const signaling = rendezvous === undefined ? DEFAULT_SIGNALING : [rendezvous];

await using peer = await Peer.open({ signaling, listen: ticket === undefined, protocol: "chat/1" });
if (ticket === undefined) console.log(`Your friend's ticket: ${peer.ticket}`);

await using conn = ticket === undefined
  ? await (await peer.nextIncoming()).accept()
  : await peer.connect(ticket);
console.log(`Connected (${conn.path.kind}). Say something; Ctrl-D ends it.`);

tellEvents(conn);
const said = Deno.stdin.readable.pipeTo(conn.writable).catch(() => {}); // the other side has gone
for await (const text of conn.readable.pipeThrough(new TextDecoderStream())) {
  console.log(text.trimEnd().replaceAll(/^/gm, "> "));
}
console.log("Your friend has left.");
if (Deno.stdin.isTerminal()) Deno.exit(); // a read from a terminal has no other end
await said;

async function tellEvents({ events }: PeerConnection): Promise<void> {
  for await (const { event } of events) {
    console.log(event === "lost" ? "(connection lost, looking for another way)" : "(and back)");
  }
}
