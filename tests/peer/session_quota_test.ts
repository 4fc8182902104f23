/**
 * NATs that open few sessions at once, as a carrier's port blocks do: a spray must not take what a relay needs.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { dialPeer } from "../../lib/peer/dialer.ts";
import { decodeTicket } from "../../lib/peer/ticket.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { inPeerScene, nextOf, SERVERS } from "../scenes/peer_scene.ts";
import { contextWith, testRelay } from "./test_relay.ts";

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
      await using dialer = contextWith(
        { network: a.network, signaling: [hub], servers: SERVERS, mapPorts: false },
        relay,
      );
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
