/**
 * Gives one friend, and no one else, access to a web server on this machine.
 *
 *     deno run --allow-net examples/reverse_proxy.ts serve 8000          prints a ticket; 8000 is the server's port
 *     deno run --allow-net examples/reverse_proxy.ts open TICKET 9000    then http://localhost:9000 is that server
 *
 * To use your own rendezvous instead of public brokers, set RENDEZVOUS=ws://HOST:3480 and add
 * `--allow-env=RENDEZVOUS`.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { Peer, type PeerConnection } from "@punchline/punchline";

const { state } = await Deno.permissions.query({ name: "env", variable: "RENDEZVOUS" });
const rendezvous = state === "granted" ? Deno.env.get("RENDEZVOUS") : undefined;
const signaling = rendezvous === undefined ? undefined : [rendezvous];

const [role, ...args] = Deno.args;
const port = Number(args.at(-1));
const isPort = Number.isInteger(port) && port >= 0 && port < 65_536;
if (role === "serve" && args.length === 1 && isPort) await serve(port).catch(fail);
else if (role === "open" && args.length === 2 && isPort) await open(args[0]!, port).catch(fail);
else {
  console.error("Usage: reverse_proxy.ts serve PORT | reverse_proxy.ts open TICKET PORT");
  Deno.exit(2);
}

/** The first to connect is the friend; everybody else is refused from then on. */
async function serve(port: number): Promise<void> {
  let friend: string | undefined;
  await using peer = await Peer.open({ signaling, protocol: "web/1" });
  console.log(`Your friend's ticket: ${peer.ticket}`);
  for await (const incoming of peer) {
    friend ??= incoming.remoteId;
    if (incoming.remoteId !== friend) {
      incoming.refuse();
      continue;
    }
    Promise.all([incoming.accept(), Deno.connect({ hostname: "127.0.0.1", port })])
      .then(([visitor, server]) => join(visitor, server))
      .catch((error) => console.error(error.message));
  }
}

/** Forwards each connection of the browser to the friend's server. */
async function open(ticket: string, port: number): Promise<void> {
  await using peer = await Peer.open({ signaling, listen: false, protocol: "web/1" });
  using listener = Deno.listen({ hostname: "127.0.0.1", port });
  console.log(`Open http://localhost:${(listener.addr as Deno.NetAddr).port}`);
  for await (const browser of listener) {
    peer.connect(ticket)
      .then((server) => join(server, browser))
      .catch((error) => {
        console.error(error.message);
        browser.close();
      });
  }
}

function fail({ message }: Error): never {
  console.error(message);
  Deno.exit(1);
}

/** Forwards both directions until both have ended or either breaks. */
async function join(far: PeerConnection, near: Deno.Conn): Promise<void> {
  const both = [near.readable.pipeTo(far.writable), far.readable.pipeTo(near.writable)];
  await Promise.allSettled(both);
  await far[Symbol.asyncDispose]();
}
