/**
 * Sends files to a friend, behind whatever router.
 *
 *     deno run --allow-net --allow-read examples/share.ts FILE...                     prints a ticket
 *     deno run --allow-net --allow-read --allow-write examples/share.ts TICKET        receives into this folder, if you agree
 *
 * To use your own rendezvous instead of public brokers, set RENDEZVOUS=ws://HOST:3480 and add
 * `--allow-env=RENDEZVOUS`. An interrupted transfer resumes where it stopped, even if both programs are started again.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { Peer } from "@punchline/punchline";
import { receiveFiles, sendFiles } from "@punchline/punchline/transfer";

const isAgreed = Deno.args.includes("--yes"); // for scripts
const [first, ...rest] = Deno.args.filter((arg) => arg !== "--yes");
if (first === undefined) {
  console.error("Usage: share.ts FILE... | share.ts TICKET");
  Deno.exit(2);
}
const { state } = await Deno.permissions.query({ name: "env", variable: "RENDEZVOUS" });
const rendezvous = state === "granted" ? Deno.env.get("RENDEZVOUS") : undefined;
const signaling = rendezvous === undefined ? undefined : [rendezvous];
const isReceiver = first.startsWith("punchline:");
const onFile = ({ path, size }: { path: string; size: number }) =>
  console.log(`${path}, ${size} bytes`);

await share(first).catch(({ message }) => {
  console.error(message);
  Deno.exit(1);
});
console.log("Done.");

async function share(first: string): Promise<void> {
  await using peer = await Peer.open({ signaling, listen: !isReceiver, protocol: "share/1" });
  if (isReceiver) {
    const next = ({ signal }: { signal: AbortSignal }) =>
      waiting("Connecting to your friend", peer.connect(first, { signal }));
    const onOffer = ({ files, bytes }: { files: number; bytes: number }) =>
      isAgreed || confirm(`Receive ${files} files, ${bytes} bytes?`);
    await receiveFiles(next, ".", { onOffer, onFile });
  } else {
    console.log(`Your friend's ticket: ${peer.ticket}`);
    const next = async ({ signal }: { signal: AbortSignal }) => {
      const incoming = await peer.nextIncoming({ signal });
      return await incoming.accept({ signal });
    };
    await sendFiles(next, [first, ...rest], { onFile });
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
