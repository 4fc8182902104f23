import { assert, assertEquals } from "@std/assert";
import type { PeerOptions } from "../../lib/peer/options.ts";
import type { Peer } from "../../lib/peer/peer.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import { inPeerScene, nextOf } from "../scenes/peer_scene.ts";
import { withStunFault } from "../scenes/stun_faults.ts";
import type { Host } from "../simnet/host.ts";

const { portRestricted } = NAT_BEHAVIORS;
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

async function connect(alice: Peer, bob: Peer) {
  const startedMs = performance.now();
  const accepted = nextOf(bob).then((incoming) => incoming.accept());
  await using conn = await alice.connect(bob.ticket);
  const tookMs = performance.now() - startedMs;
  await using _other = await accepted;
  return { kind: conn.path.kind, tookMs };
}

/** An offer that follows, each way. */
const SIGNALING_MS = 100;
