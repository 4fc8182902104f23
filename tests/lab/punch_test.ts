/**
 * Punches between real kernels: a short version of the suites of punches/suites.ts.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Lab } from "../../lab/kernel/lab.ts";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { labTest } from "./lab_test_case.ts";
import type { NatKindName } from "../../lab/scenarios/punches/nat_kinds.ts";
import { NEAR_SCENES, runNearPunches } from "../../lab/scenarios/punches/near.ts";
import { PunchLab, SERVER_IPS, SERVERS } from "../../lab/scenarios/punches/punch_lab.ts";
import { punchPair } from "../../lab/scenarios/punches/punch_pair.ts";
import { PunchProgram } from "../../lab/scenarios/punches/punch_program.ts";
import { nat } from "../../lab/kernel/topology.ts";
import { STUN_SERVERS } from "../../lab/scenarios/verdicts/stun_servers.ts";

labTest(
  "every punch method connects the NATs that it is for, and both sides report it",
  async () => {
    await using lab = await PunchLab.start({ rttMs: 50 });
    const found: [string, string][] = [];
    for (const { pair } of METHODS) {
      const [run] = await lab.run(pair, { runs: 1, timeoutMs: AN_HOUR_MS });
      found.push([pair.join(" x "), run!.kind === "connected" ? run!.method : run!.reason]);
    }
    assertEquals(found, METHODS.map(({ pair, method }) => [pair.join(" x "), method]));
  },
);

labTest("punches succeed at any skew between two NATs whose resets close the mapping", async () => {
  await using lab = await PunchLab.start({ rttMs: 50 });
  for (const skewMs of [0, 10, 60, 300]) {
    const runs = await lab.run(["closing", "closing"], { runs: 4, atOnce: 4, skewMs });
    assertEquals(runs.map(({ kind }) => kind), [
      "connected",
      "connected",
      "connected",
      "connected",
    ]);
  }
});

labTest(
  "punches between two NATs with random ports are refused on both sides, without a birthday punch",
  async () => {
    await using lab = await PunchLab.start({ rttMs: 50 });
    const [run] = await lab.run(["random", "random"], { runs: 1 });
    assertEquals(run!.kind, "refused");
    assert(
      run!.syns < 32,
      `${run!.syns} SYNs; testing both NATs takes some 16, a birthday punch hundreds`,
    );
  },
);

labTest(
  "hosts on one LAN connect within it, and homes behind one carrier within its network",
  async () => {
    const scenes = NEAR_SCENES.filter(({ isolated }) => !isolated);
    const rows = await runNearPunches(() => {}, { runs: 1, scenes });
    const failed = rows.filter(({ measured }) => measured.connected < measured.runs);
    assertEquals(failed.map(({ setting, measured }) => [setting, measured.notes]), []);
  },
);

labTest(
  "hosts that may not list their interfaces punch through two firewalls over IPv6",
  async () => {
    const home = () => nat("symmetric");
    await using lab = await Lab.start({
      hosts: {
        servers: { addresses: [...SERVER_IPS] },
        a: { behind: home() },
        b: { behind: home() },
      },
      internet: { rttMs: 50 },
      ipv6: true,
    });
    const servers = lab.host("servers");
    const ipv6 = servers.ips.at(-1)!;
    await STUN_SERVERS.punchline(servers);
    const cli = new URL("../../cli.ts", import.meta.url);
    const args = denoArgs(cli, ["serve", "--address", ipv6, "--json"]);
    await servers.serve(Deno.execPath(), args, { ready: /listening/ });
    const programs = ["a", "b"].map((name) =>
      new PunchProgram(lab.host(name), { permissions: "--allow-net" })
    );
    const [a, b] = programs.map((program) => ({ program, report: null }));
    const result = await punchPair([a!, b!], { servers: [...SERVERS, `[${ipv6}]`] });
    await Promise.all(programs.map((program) => program.close()));
    if (result.kind !== "connected") throw new Error(result.reason);
    assertEquals(result.remote.replace(/:\d+$/, ""), lab.host("b").ips.at(-1));
  },
);

/** The lab waits for its programs, which end with their punches: so a timer left behind would show. */
const AN_HOUR_MS = 3_600_000;

const METHODS: readonly {
  readonly pair: readonly [NatKindName, NatKindName];
  readonly method: string;
}[] = [
  { pair: ["public", "random"], method: "direct" },
  { pair: ["portRestricted", "firewall"], method: "simultaneous-open" },
  { pair: ["portRestricted", "resetting"], method: "simultaneous-open" },
  { pair: ["addressRestricted", "random"], method: "one-sided-open" },
  { pair: ["portRestricted", "preserving"], method: "port-prediction" },
  { pair: ["portRestricted", "sequential"], method: "port-prediction" },
  { pair: ["portRestricted", "block"], method: "birthday" },
];
