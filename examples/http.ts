/**
 * HTTP between two programs, without a port: one answers requests over peer connections, the other sends one.
 *
 *     deno run --allow-net examples/http.ts                      prints a ticket and answers
 *     deno run --allow-net examples/http.ts TICKET [PATH]        asks, and prints the answer
 *
 * To use your own rendezvous instead of public brokers, set RENDEZVOUS=ws://HOST:3480 and add
 * `--allow-env=RENDEZVOUS`.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { createServer, request } from "node:http";
import { Duplex } from "node:stream";
import { Peer, type PeerConnection } from "@punchline/punchline";

const [ticket, path = "/"] = Deno.args;
const { state } = await Deno.permissions.query({ name: "env", variable: "RENDEZVOUS" });
const rendezvous = state === "granted" ? Deno.env.get("RENDEZVOUS") : undefined;
const signaling = rendezvous === undefined ? undefined : [rendezvous];

await (ticket === undefined ? answer() : ask(ticket)).catch(({ message }) => {
  console.error(message);
  Deno.exit(1);
});

/** Each connection of a friend is one to the web server. */
async function answer(): Promise<void> {
  await using peer = await Peer.open({ signaling, protocol: "http/1" });
  const server = createServer((asked, response) => response.end(`You asked for ${asked.url}\n`));
  console.log(`Your friend's ticket: ${peer.ticket}`);
  for await (const incoming of peer) {
    incoming.accept()
      .then((conn) => server.emit("connection", socketOf(conn)))
      .catch((error) => console.error(error.message));
  }
}

async function ask(ticket: string): Promise<void> {
  await using peer = await Peer.open({ signaling, listen: false, protocol: "http/1" });
  await using conn = await peer.connect(ticket);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const asking = request({ path, host: "friend", createConnection: () => socketOf(conn) });
  asking.on("error", reject).on("response", async (response) => {
    let text = "";
    for await (const part of response.setEncoding("utf8")) text += part;
    resolve(text);
  }).end();
  console.log(await promise);
}

function socketOf(conn: PeerConnection): Duplex {
  return Duplex.fromWeb({ readable: conn.readable, writable: conn.writable });
}
