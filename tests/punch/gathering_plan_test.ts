import { assert, assertEquals } from "@std/assert";
import type { Probe } from "../../lib/nat/probe.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import {
  type Gathering,
  nextGatheringStep,
  NOTHING_GATHERED,
} from "../../lib/punch/gathering_plan.ts";
import { A1P1, A2P1, A2P2, answered, describe, EXTERNAL, probe } from "../nat/probes.ts";

const OTHER = { ...EXTERNAL, port: EXTERNAL.port + 1 };

/** What has arrived after how many milliseconds, and what follows. */
const CASES: readonly {
  readonly name: string;
  readonly gathering?: Partial<Gathering>;
  readonly nowMs?: number;
  readonly dials?: readonly string[];
  readonly needsMorePorts?: true;
  readonly wakeAtMs?: number;
  readonly mapping: string;
  readonly isDone?: true;
}[] = [
  {
    name: "at the start, dials each server once",
    gathering: { servers: [A1P1, A2P1, A1P1] },
    nowMs: 0,
    dials: ["mapping binding 203.0.113.10:3478", "mapping binding 203.0.113.9:3478"],
    mapping: "unknown",
  },
  {
    name: "without servers, is done",
    gathering: { servers: [], deadlineMs: -Infinity },
    mapping: "unknown",
    isDone: true,
  },
  {
    name: "while nothing has arrived, waits",
    gathering: { probes: dialled() },
    mapping: "unknown",
  },
  {
    name: "if no dial is left and nothing has arrived, is done",
    gathering: { probes: dialled(), deadlineMs: -Infinity },
    mapping: "unknown",
    isDone: true,
  },
  {
    name: "after one answer, waits for those that were sent together with it",
    gathering: { probes: [seenBy(A1P1, EXTERNAL), probe({ to: A2P1 })] },
    wakeAtMs: 120,
    mapping: "unknown",
  },
  {
    name: "dials the alternate address of a server, even if no dial is left",
    gathering: {
      servers: [A1P1],
      probes: [seenBy(A1P1, EXTERNAL, A2P2)],
      deadlineMs: -Infinity,
    },
    dials: ["mapping binding 203.0.113.10:3479"],
    wakeAtMs: -Infinity,
    mapping: "unknown",
  },
  {
    name: "if two servers see one address, is done",
    gathering: { probes: seen(EXTERNAL, EXTERNAL) },
    wakeAtMs: 120,
    mapping: "endpoint-independent",
    isDone: true,
  },
  {
    name: "if they see the host's own address, is done: there is no NAT",
    gathering: { probes: seen(EXTERNAL, EXTERNAL), isOwn: () => true },
    wakeAtMs: 120,
    mapping: "none",
    isDone: true,
  },
  {
    name: "if they see two ports, waits for the samples of how the NAT chooses them",
    gathering: { probes: [...seen(EXTERNAL, OTHER), ...burst(2, 3)] },
    wakeAtMs: 120,
    mapping: "address-and-port-dependent",
  },
  {
    name: "if enough samples have arrived, is done",
    gathering: { probes: [...seen(EXTERNAL, OTHER), ...burst(6, 0)] },
    wakeAtMs: 120,
    mapping: "address-and-port-dependent",
    isDone: true,
  },
  {
    name: "if samples are late, samples more ports",
    gathering: { probes: [...seen(EXTERNAL, OTHER), ...burst(1, 4)] },
    nowMs: 120,
    needsMorePorts: true,
    mapping: "address-and-port-dependent",
  },
  {
    name: "samples more ports once",
    gathering: { probes: [...seen(EXTERNAL, OTHER), ...burst(1, 4)], hasMorePorts: true },
    nowMs: 120,
    mapping: "address-and-port-dependent",
  },
  {
    name: "does not wait for a late answer if a NAT test has found the same",
    gathering: {
      probes: [seenBy(A1P1, EXTERNAL), probe({ to: A2P1 })],
      reported: "endpoint-independent",
    },
    nowMs: 120,
    mapping: "endpoint-independent",
    isDone: true,
  },
];

for (const { name, gathering, nowMs = 100, mapping, ...expected } of CASES) {
  Deno.test(`nextGatheringStep() ${name}`, () => {
    const all: Gathering = {
      servers: [A1P1, A2P1],
      probes: [],
      isOwn: () => false,
      reported: "unknown",
      hasMorePorts: false,
      deadlineMs: 3500,
      ...gathering,
    };
    const { dials, needsMorePorts, wakeAtMs, isDone, gathered } = nextGatheringStep(all, nowMs);
    assertEquals({
      dials: describe(dials),
      needsMorePorts,
      wakeAtMs,
      isDone,
      mapping: gathered.mapping,
    }, {
      dials: [...expected.dials ?? []],
      needsMorePorts: expected.needsMorePorts ?? false,
      wakeAtMs: expected.wakeAtMs ?? all.deadlineMs,
      isDone: expected.isDone ?? false,
      mapping,
    });
  });
}

Deno.test("NOTHING_GATHERED is what nextGatheringStep() gathers without servers", () => {
  const { isDone, gathered } = nextGatheringStep({
    servers: [],
    probes: [],
    isOwn: () => false,
    reported: "endpoint-independent",
    hasMorePorts: false,
    deadlineMs: -Infinity,
  }, 100);
  assert(isDone);
  assertEquals(gathered, { ...NOTHING_GATHERED, mapping: "endpoint-independent" });
});

function dialled(): Probe[] {
  return [probe({ to: A1P1 }), probe({ to: A2P1 })];
}

/** What two servers saw of the base port. */
function seen(first: TransportAddress, second: TransportAddress): Probe[] {
  return [
    seenBy(A1P1, first),
    seenBy(A2P1, second),
  ];
}

/** An answer after 80 ms. */
function seenBy(to: TransportAddress, mapped: TransportAddress, other?: TransportAddress): Probe {
  return answered({ to }, { atMs: 80, mapped, other });
}

/** Samples of ports that the NAT keeps, answered or not. */
function burst(arrived: number, missing: number): Probe[] {
  return Array.from({ length: arrived + missing }, (_, index) => {
    const sent = { socket: `burst ${index}`, localPort: 5000 + 10 * index, to: A1P1 };
    if (index >= arrived) return probe(sent);
    const mapped = { ...EXTERNAL, port: sent.localPort };
    return answered(sent, { atMs: 80, mapped });
  });
}
