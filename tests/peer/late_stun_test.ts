import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { networkWith } from "../../lib/net/local_address.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import type { Peer } from "../../lib/peer/peer.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import { linkOfRoundTrip } from "../scenes/homes.ts";
import { countSyns, inPeerScene, nextOf } from "../scenes/peer_scene.ts";
import { withStunFault } from "../scenes/stun_faults.ts";
import type { Host } from "../simnet/host.ts";

const { portRestricted, symmetric } = NAT_BEHAVIORS;
const dropping = natBehavior({ crossedSyn: "drop" });
const tcpSymmetric = natBehavior({
  tcp: { mapping: "address-and-port-dependent", allocation: { kind: "random" } },
});

for (
  const [what, nat, options] of [
    ["want paths by UDP alone", portRestricted, { strategies: ["punch-udp"] }],
    ["have NATs that are symmetric for TCP", tcpSymmetric, {}],
    ["have NATs that drop crossing SYNs", dropping, {}], // which is not known before
  ] as readonly [string, NatBehavior, PeerOptions][]
) {
  Deno.test(`peers that ${what} connect by UDP as soon as they can, if STUN answers over it are late`, () =>
    inPeerScene({ a: nat, b: nat }, async ({ open, a, b }) => {
      const times = new Map<string, number>();
      for (const who of ["one side", "both sides"]) {
        for (const lateMs of [0, 300, 600, 1000]) {
          const openAt = (host: Host, listen: boolean) => {
            const isLate = listen || who === "both sides";
            const network = withStunFault(host.network, { lateMs: isLate ? lateMs : 0 });
            return open(host, { ...options, listen, network });
          };
          await using bob = await openAt(b, true);
          await using alice = await openAt(a, false);
          const { kind, tookMs } = await connect(alice, bob);
          assertEquals(kind, "punch-udp");
          times.set(`${who}, ${lateMs}`, tookMs);
          const usualMs = times.get(`${who}, 0`)!;
          assert(
            tookMs <= usualMs + lateMs + SIGNALING_MS,
            `${who}: ${usualMs} ms, then ${tookMs} ms`,
          );
        }
      }
    }));
}

Deno.test("late answers let only one spray begin, and not before the relay has its session; the relay does not wait", () =>
  inPeerScene({ a: portRestricted, b: symmetric }, async ({ internet, open, a, b }) => {
    const host = internet.host("rendezvous", { link: linkOfRoundTrip(50) });
    const local = { ip: host.addresses[0]!, port: 3480 };
    await using server = await serveRendezvous({ network: host.network, local });
    let isLate = false;
    const openAt = ({ network }: Host, listen: boolean) => {
      const late = withStunFault(network, { lateMs: 700 });
      const bindUdp: Host["network"]["bindUdp"] = (...args) =>
        (isLate ? late : network).bindUdp(...args);
      return open({ network: networkWith(network, { bindUdp }) }, {
        listen,
        signaling: [server.url],
      });
    };
    await using bob = await openAt(b, true);
    await using alice = await openAt(a, false);
    await connect(alice, bob); // both learn what their NATs do with SYNs, for which a spray would wait
    isLate = true;
    await delay(70_000); // what has been sent by now counts no more
    const syns = countSyns(internet, "a");
    const { kind, tookMs } = await connect(alice, bob, 5000);
    assertEquals(kind, "relay");
    assert(tookMs <= 1200, `${tookMs} ms`);
    assert(syns() < 100, `${syns()} SYNs`);
  }));

async function connect(alice: Peer, bob: Peer, stayMs = 0) {
  const startedMs = performance.now();
  const accepted = nextOf(bob).then((incoming) => incoming.accept());
  await using conn = await alice.connect(bob.ticket);
  const tookMs = performance.now() - startedMs;
  const { kind } = conn.path;
  await using _other = await accepted;
  await delay(stayMs);
  return { kind, tookMs };
}

/** An offer that follows, each way. */
const SIGNALING_MS = 100;
