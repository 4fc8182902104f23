import { assert, assertEquals } from "@std/assert";
import type { FamilyReport } from "../../lib/nat/behavior.ts";
import {
  type Combination,
  combinations,
  judge,
  nameOf,
} from "../../lab/scenarios/verdicts/combinations.ts";
import type { LinkBehavior } from "../simnet/link.ts";
import { ALTERNATE, PRIMARY, withServer } from "../scenes/nat_scene.ts";

const RTT_MS = 51;

/** The most that a test may ever send: UDP packets and TCP connections. */
const MAX_PACKETS = 170;
const MAX_CONNECTIONS = 20;

/** The most that a test may send on a path without loss. */
const USUAL_PACKETS = 50;

for (const combination of combinations()) {
  Deno.test(`${nameOf(combination)}: all verdicts are right and in time`, async () => {
    for (const servers of [[PRIMARY], [PRIMARY, ALTERNATE]]) {
      const { udp, tcp } = await testBehind(combination, {}, { servers });
      for (const report of [udp, tcp]) {
        assertEquals(judge(combination, report), {
          mapping: "right",
          filtering: "right",
          allocation: "right",
        });
        const { onlyForNeighbours } = report.details.allocation;
        assertEquals(onlyForNeighbours, combination.allocation.kind === "dependent");
      }
      const isFullCone = combination.mapping === "endpoint-independent" &&
        combination.filtering === "endpoint-independent";
      const roundTrips = servers.length === 2 ? 1 : 2;
      const limitMs = isFullCone ? roundTrips * RTT_MS + 15 : 250;
      assert(udp.elapsedMs <= limitMs, `${udp.elapsedMs} ms is more than ${limitMs}`);
      assert(udp.details.packetsSent <= USUAL_PACKETS, `${udp.details.packetsSent} packets`);
      assert(tcp.details.packetsSent <= MAX_CONNECTIONS, `${tcp.details.packetsSent} connections`);
    }
  });
}

const PATHS: Readonly<Record<string, { link: LinkBehavior; seeds: number; unknown: number }>> = {
  "5 % loss each way and 10 ms jitter": {
    link: { loss: 0.05, jitterMs: 10 },
    seeds: 20,
    unknown: 0.02,
  },
  "10 % loss each way": { link: { loss: 0.1, jitterMs: 10 }, seeds: 4, unknown: 0.02 },
  "reordering and duplication": {
    link: { reordering: 0.1, reorderingMs: 20, duplication: 0.05, jitterMs: 5 },
    seeds: 4,
    unknown: 0.02,
  },
  "a round trip of 400 ms": { link: { delayMs: 200 }, seeds: 1, unknown: 0 },
  "a round trip of 560 ms, with jitter and loss": {
    link: { delayMs: 280, jitterMs: 20, loss: 0.02 },
    seeds: 3,
    unknown: 0.02,
  },
  "an outage of 2 s from the first reply on": {
    link: { outages: [[30, 2030]] },
    seeds: 1,
    unknown: 0,
  },
  "an outage of 2 s in the middle": { link: { outages: [[120, 2120]] }, seeds: 1, unknown: 0 },
  "an outage of 2 s from the start": { link: { outages: [[0, 2000]] }, seeds: 1, unknown: 0 },
};

for (const [path, { link, seeds, unknown }] of Object.entries(PATHS)) {
  Deno.test(`over UDP on a path with ${path} no verdict is wrong, and few are unknown`, async () => {
    const { wrong, unknowns, judged } = await run("udp", link, seeds);
    assertEquals(wrong, []);
    assert(unknowns <= judged * unknown, `${unknowns} of ${judged} are unknown`);
  });
}

Deno.test("over TCP no verdict is wrong on any bad path", async () => {
  for (const { link } of Object.values(PATHS)) {
    const { wrong } = await run("tcp", link, 1);
    assertEquals(wrong, []);
  }
});

async function run(
  transport: "udp" | "tcp",
  link: LinkBehavior,
  seeds: number,
): Promise<{ wrong: string[]; unknowns: number; judged: number }> {
  const wrong: string[] = [];
  let [unknowns, judged] = [0, 0];
  let seed = 0;
  for (let round = 0; round < seeds; round++) {
    for (const combination of combinations()) {
      const servers = ++seed % 2 === 0 ? [PRIMARY] : [PRIMARY, ALTERNATE];
      const report =
        (await testBehind(combination, link, { seed, servers }, [transport]))[transport];
      for (const [part, judgement] of Object.entries(judge(combination, report))) {
        judged++;
        if (judgement === "unknown") unknowns++;
        if (judgement === "wrong") {
          const found = JSON.stringify(report[part as "mapping"]);
          wrong.push(`${JSON.stringify(link)}, seed ${seed}, ${nameOf(combination)}: ${found}`);
        }
      }
      assert(report.details.packetsSent <= MAX_PACKETS, `${report.details.packetsSent} packets`);
    }
  }
  return { wrong, unknowns, judged };
}

async function testBehind(
  nat: Combination,
  link: LinkBehavior,
  { seed, servers }: { seed?: number; servers: string[] },
  transports: ("udp" | "tcp")[] = ["udp", "tcp"],
): Promise<{ udp: FamilyReport; tcp: FamilyReport }> {
  const report = await withServer({ nat, link, seed }, ({ test }) => test({ servers, transports }));
  return { udp: report.udp.ipv4!, tcp: report.tcp.ipv4! };
}
