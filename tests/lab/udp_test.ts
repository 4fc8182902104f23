/**
 * Punches by UDP between real kernels: a short version of the suites `udp` and `udp-matrix`.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { natBehavior } from "../../lab/model/nat_behavior.ts";
import { PeerLab } from "../../lab/scenarios/peers/peer_lab.ts";
import type { NatKind, NatKindName } from "../../lab/scenarios/punches/nat_kinds.ts";
import { PunchLab } from "../../lab/scenarios/punches/punch_lab.ts";
import { labTest } from "./lab_test_case.ts";

const DROPPING: NatKind = {
  name: "crossing SYNs dropped",
  place: "nat",
  behavior: natBehavior({ crossedSyn: "drop" }),
};

const PAIRS: readonly (readonly [NatKindName | NatKind, NatKindName | NatKind, string])[] = [
  [DROPPING, DROPPING, "simultaneous-open"],
  ["firewall", "portRestricted", "simultaneous-open"],
  ["fullCone", "sequential", "one-sided-open"], // its filter is known from the STUN server
  ["preserving", "byTwos", "port-prediction"],
  ["portRestricted", "block", "birthday"],
];

for (const unstable of [false, true]) {
  labTest(
    `punches by UDP work ${
      unstable ? "with --unstable-net" : "with --allow-net alone"
    }, by every method`,
    async () => {
      await using lab = await PunchLab.start({ rttMs: 20 }, { unstable });
      for (const [a, b, method] of PAIRS) {
        const [run] = await lab.run([a, b], { runs: 1, udp: true });
        assert(run!.kind === "connected", JSON.stringify(run));
        assertEquals(run!.method, method);
      }
    },
  );
}

labTest("a punch by UDP that cannot work opens no path", async () => {
  await using lab = await PunchLab.start({ rttMs: 20 });
  const [run] = await lab.run(["random", "random"], { runs: 1, udp: true, timeoutMs: 3000 });
  assertEquals(run!.kind, "refused");
});

labTest(
  "peers whose NATs drop crossing SYNs connect directly, over UDP",
  async () => {
    await using lab = await PeerLab.start({ internet: { rttMs: 20 } });
    for (const name of ["a/nat", "b/nat"]) await lab.lab.nat(name).setBehavior(DROPPING.behavior);
    const result = await lab.connect(["a", "b"]);
    assert(result.outcome === "connected", JSON.stringify(result));
    assertEquals([result.kind, result.relayed], ["punch-udp", false]);
  },
  { programs: ["ip", "mosquitto", "turnserver"] },
);
