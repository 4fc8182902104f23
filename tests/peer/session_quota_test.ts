/**
 * NATs that open few sessions at once, as a carrier's port blocks do: a spray must not take what a relay needs.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { makeContext, type PeerContext } from "../../lib/peer/context.ts";
import { dialPeer } from "../../lib/peer/dialer.ts";
import type { RelayOpener } from "../../lib/peer/relay_path.ts";
import { decodeTicket } from "../../lib/peer/ticket.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { inPeerScene, nextOf, SERVERS } from "../scenes/peer_scene.ts";
import { testRelay } from "./test_relay.ts";

const few = { maxSessions: 64 } as const;
const { portRestricted, symmetric, fullCone } = NAT_BEHAVIORS;

for (
  const [name, a, b] of [
    ["random ports and few sessions x a known port", natBehavior(few, symmetric), portRestricted],
    ["a known port x random ports and few sessions", portRestricted, natBehavior(few, symmetric)],
    ["a known port and few sessions x random ports", natBehavior(few, portRestricted), symmetric],
    ["random ports x a known port and few sessions", symmetric, natBehavior(few, portRestricted)],
    ["few sessions on both sides", natBehavior(few, symmetric), natBehavior(few, portRestricted)],
    ["a full cone with few sessions x random ports", natBehavior(few, fullCone), symmetric],
  ] as const
) {
  Deno.test(`peers connect within three seconds, and go on over it, behind ${name}`, () =>
    inPeerScene({ a, b, rttMs: 50 }, async ({ a, b, hub, internet, open, time }) => {
      await using bob = await open(b);
      const relay = testRelay(internet.host("relay", {}));
      await using dialer = contextWith(a.network, hub, relay);
      const accepted = nextOf(bob).then((incoming) => incoming.accept());
      const startedMs = time.nowMs;
      await using conn = await dialPeer(dialer.context, decodeTicket(bob.ticket), {
        protocol: "",
        reconnects: true,
      });
      await using other = await accepted;
      await conn.write(toBytes("hello"));
      assertEquals(await readText(other, 5), "hello");
      await other.write(toBytes("world"));
      assertEquals(await readText(conn, 5), "world");
      assert(time.nowMs - startedMs <= 3000, `${time.nowMs - startedMs} ms`);
      await new Promise((resolve) => setTimeout(resolve, 20_000)); // the spray is over
      await conn.write(toBytes("again"));
      assertEquals(await readText(other, 5), "again");
      await Promise.all([conn.closeWrite(), other.closeWrite(), conn.finished, other.finished]);
    }));
}

/** A peer's context, with a relay that no URL names. */
function contextWith(
  network: PeerContext["network"],
  hub: Parameters<typeof makeContext>[0]["signaling"] extends readonly (infer T)[] | undefined ? T
    : never,
  relay: RelayOpener,
): AsyncDisposable & { readonly context: PeerContext } {
  const closed = new AbortController();
  const jobs: Promise<unknown>[] = [];
  const made = makeContext({ network, signaling: [hub], servers: SERVERS, mapPorts: false }, {
    staticKey: generateKeyPair(),
    closed: closed.signal,
    inBackground: (job) => void jobs.push(Promise.allSettled([job()])),
  });
  const context = { ...made, relays: [relay] };
  const dispose = async () => {
    closed.abort(new Error("closed"));
    await Promise.all(jobs);
    await context.baseSockets?.[Symbol.asyncDispose]();
    await context.signaling[Symbol.asyncDispose]();
  };
  return { context, [Symbol.asyncDispose]: dispose };
}
