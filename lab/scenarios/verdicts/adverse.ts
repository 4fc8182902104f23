/**
 * NAT tests with bad networks and bad servers. Each verdict must be right or "unknown", never wrong.
 *
 * @module
 */

import type { NatReport } from "../../../lib/nat/behavior.ts";
import type { TestNatOptions } from "../../../lib/nat/report.ts";
import { Lab } from "../../kernel/lab.ts";
import { denoArgs } from "../../kernel/lab_host.ts";
import { nat } from "../../kernel/topology.ts";
import { type Combination, judge, type Judgement, nameOf } from "./combinations.ts";
import { type Lie, LIES } from "./lying_stun.ts";
import type { RunnerAnswer } from "./nat_runner.ts";
import { NatTester } from "./nat_tester.ts";
import { STUN_SERVERS } from "./stun_servers.ts";

/** One bad condition behind one NAT. */
export interface AdverseResult {
  readonly condition: string;
  readonly nat: string;
  readonly judgement: Judgement;
  /** The result in words. */
  readonly result: string;
  readonly wallMs: number;
}

/** Runs all conditions behind some NATs. Default: full cone, port-restricted and symmetric. */
export async function runAdverse(
  onResult: (result: AdverseResult) => void,
  nats: readonly Combination[] = ADVERSE_NATS,
): Promise<AdverseResult[]> {
  await using lab = await Lab.start({
    hosts: {
      honest: { addresses: [HONEST, ALTERNATE] },
      ...Object.fromEntries(
        LIE_NAMES.map((lie, index) => [lie, { addresses: addressesOf(index) }]),
      ),
      a: { behind: nat("portRestricted") },
    },
    internet: { rttMs: 51 },
  });
  await STUN_SERVERS.punchline(lab.host("honest"));
  const program = new URL("lying_stun.ts", import.meta.url);
  await Promise.all(
    LIE_NAMES.map((lie, index) =>
      lab.host(lie).serve(
        Deno.execPath(),
        denoArgs(program, [lie, ...addressesOf(index), ALTERNATE]),
        { ready: /ready/ },
      )
    ),
  );
  const tester = new NatTester(lab.host("a"));
  const results: AdverseResult[] = [];
  for (const combination of nats) {
    await lab.nat("a/nat").setBehavior(combination);
    for (const condition of CONDITIONS) {
      await lab.nat("a/nat").flush();
      await condition.begin?.(lab);
      const answer = await tester.run({ transports: ["udp"], families: [4], ...condition.options });
      await condition.end?.(lab);
      const result = {
        condition: condition.name,
        nat: nameOf(combination),
        wallMs: answer.wallMs,
        ...(condition.judge ?? judgeBehaviors)(answer, combination),
      };
      results.push(result);
      onResult(result);
    }
  }
  await tester.close();
  return results;
}

interface Condition {
  readonly name: string;
  readonly options: TestNatOptions;
  begin?(lab: Lab): Promise<void>;
  end?(lab: Lab): Promise<void>;
  judge?(
    answer: RunnerAnswer,
    combination: Combination,
  ): Pick<AdverseResult, "judgement" | "result">;
}

function judgeBehaviors(
  answer: RunnerAnswer,
  combination: Combination,
): Pick<AdverseResult, "judgement" | "result"> {
  if ("error" in answer) return { judgement: "unknown", result: answer.error };
  const report = answer.report.udp.ipv4;
  if (report === null) return { judgement: "unknown", result: answer.report.verdict.summary };
  const { mapping, filtering } = judge(combination, report);
  return {
    judgement: worst(mapping, filtering),
    result: `${report.mapping.behavior}, ${report.filtering.behavior}`,
  };
}

function judgeDifficulty(expected: NatReport["verdict"]["difficulty"]): Condition["judge"] {
  return (answer) => {
    if ("error" in answer) return { judgement: "wrong", result: answer.error };
    const { difficulty, summary } = answer.report.verdict;
    const isInTime = answer.wallMs < 4000;
    return { judgement: difficulty === expected && isInTime ? "right" : "wrong", result: summary };
  };
}

function worst(...judgements: Judgement[]): Judgement {
  return judgements.find((each) => each === "wrong") ??
    judgements.find((each) => each === "unknown") ?? "right";
}

function addressesOf(index: number): [string, string] {
  return [`203.0.113.${20 + 2 * index}`, `203.0.113.${21 + 2 * index}`];
}

const HONEST = "203.0.113.10";
const ALTERNATE = "203.0.113.11";

/** An address without a host. */
const DEAD_SERVER = "203.0.113.249";

const LIE_NAMES = Object.keys(LIES) as Lie[];

/** Full cone, port-restricted and symmetric. */
export const ADVERSE_NATS: readonly Combination[] = [
  {
    mapping: "endpoint-independent",
    filtering: "endpoint-independent",
    allocation: { kind: "random" },
  },
  {
    mapping: "endpoint-independent",
    filtering: "address-and-port-dependent",
    allocation: { kind: "preserving" },
  },
  {
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    allocation: { kind: "random" },
  },
];

const CONDITIONS: readonly Condition[] = [
  ...[400, 560].map((rttMs): Condition => ({
    name: `RTT ${rttMs} ms`,
    options: { servers: [HONEST] },
    begin: (lab) => lab.setInternet({ rttMs }),
    end: (lab) => lab.setInternet({ rttMs: 51 }),
  })),
  ...[20, 70, 110].map((afterMs): Condition => ({
    name: `2 s outage after ${afterMs} ms`,
    options: { servers: [HONEST] },
    begin: (lab) => lab.outage("internet", { afterMs, forMs: 2000 }),
  })),
  { name: "first server dead", options: { servers: [DEAD_SERVER, HONEST] } },
  { name: "second server dead", options: { servers: [HONEST, DEAD_SERVER] } },
  ...LIE_NAMES.flatMap((lie, index): Condition[] => {
    const [address] = addressesOf(index);
    const alone: Condition = { name: `server ${LIES[lie]}`, options: { servers: [address] } };
    const withHonest: Condition = {
      name: `${alone.name}, with an honest one`,
      options: { servers: [address, HONEST] },
    };
    return [alone, withHonest];
  }),
  {
    name: "UDP blocked",
    options: { servers: [HONEST], transports: ["udp", "tcp"] },
    begin: (lab) => lab.block("internet", "udp"),
    end: (lab) => lab.block("internet"),
    judge: judgeDifficulty("blocked"),
  },
  {
    name: "UDP blocked, testing only UDP",
    options: { servers: [HONEST] },
    begin: (lab) => lab.block("internet", "udp"),
    end: (lab) => lab.block("internet"),
    judge: judgeDifficulty("blocked"),
  },
  {
    name: "nothing comes back",
    options: { servers: [HONEST], transports: ["udp", "tcp"] },
    begin: (lab) => lab.block("internet", "udp", "tcp", "icmp"),
    end: (lab) => lab.block("internet"),
    judge: judgeDifficulty("blocked"),
  },
];
