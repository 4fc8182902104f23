import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { classifyAllocation, isPattern } from "../../lib/nat/allocation.ts";
import type { PortSample } from "../../lib/nat/probe.ts";
import type { NatAllocation } from "../../lab/model/nat_behavior.ts";
import { PortAllocator } from "../../lab/model/port_allocator.ts";
import { seededRandom } from "../../lab/model/random.ts";

/** Four neighbouring local ports and two others, as a test has them. */
const LOCAL_PORTS = [20001, 20002, 20003, 20004, 40500, 50120];

/** Fixed, so that every run has the same cases: chance produces a pattern once in some ten thousand bursts. */
const SEED = 4787;

/** P2PD's five delta types by its names: the external ports, and the expected verdict. */
const DELTA_TYPES = {
  equal: { external: LOCAL_PORTS, found: ["preserving", 0, false] },
  preserving: { external: LOCAL_PORTS.map((port) => port + 77), found: ["offset", 77, false] },
  independent: { external: [9000, 9002, 9004, 9006, 9008, 9010], found: ["sequential", 2, false] },
  dependent: {
    external: [9000, 9003, 9006, 9009, 31000, 12345],
    found: ["sequential", 3, true],
  },
  random: { external: [51234, 1033, 40777, 23001, 9999, 60001], found: ["random", null, false] },
} as const;

for (const [name, { external, found }] of Object.entries(DELTA_TYPES)) {
  Deno.test(`classifyAllocation() expresses P2PD's ${name} delta`, () => {
    const { allocation, details } = classifyAllocation(samples(external));
    assertEquals([allocation.kind, allocation.delta, details.onlyForNeighbours], [...found]);
    assertEquals(details.samples, 6);
    assertEquals(isPattern(allocation), name !== "random");
  });
}

const CASES: readonly [string, (number | null)[], string, number | null][] = [
  ["steps downwards", [9010, 9007, 9004, 9001, 8998, 8995], "sequential", -3],
  ["a step of 2", [9000, 9002, 9004, 9006, 9008, 9010], "sequential", 2],
  [
    "steps with one of another host's mappings in between",
    [9000, 9001, 9003, 9004, 9005, 9006],
    "sequential",
    1,
  ],
  ["two packets out of order", [9000, 9002, 9001, 9003, 9004, 9005], "sequential", 1],
  ["the first packet last", [9005, 9000, 9001, 9002, 9003, 9004], "sequential", 1],
  ["one answer missing", [9000, null, 9004, 9006, 9008, 9010], "sequential", 2],
  ["two answers missing", [9000, null, 9004, null, 9008, 9010], "unknown", null],
  ["one port that was taken", [20001, 20002, 20003, 20004, 40500, 7], "preserving", 0],
  ["two ports that were taken", [20001, 20002, 20003, 20004, 8, 7], "unknown", null],
  ["an offset with one port taken", [20002, 20003, 20004, 20005, 40501, 7], "offset", 1],
  ["no answers", [null, null, null, null, null, null], "unknown", null],
  ["neighbours disturbed once", [9000, 9003, 9006, 40000, 31000, 12345], "unknown", null],
  ["neighbours without one answer", [51234, null, 40777, 23001, 9999, 60001], "unknown", null],
  ["the same port always", [4242, 4242, 4242, 4242, 4242, 4242], "unknown", null],
];

for (const [name, external, kind, delta] of CASES) {
  Deno.test(`classifyAllocation() finds ${kind} ${delta ?? ""} in ${name}`, () => {
    const { allocation } = classifyAllocation(samples(external));
    assertEquals([allocation.kind, allocation.delta], [kind, delta]);
  });
}

Deno.test("classifyAllocation() detects only preserved ports from consecutive local ports alone", () => {
  const ports = [20001, 20002, 20003, 20004, 20005, 20006];
  const found = (externals: number[]) =>
    classifyAllocation(ports.map((localPort, i) => ({ localPort, externalPort: externals[i]! })))
      .allocation.kind;
  assertEquals(found(ports), "preserving");
  assertEquals(found(ports.map((port) => port + 5)), "unknown");
});

Deno.test("classifyAllocation() reports the range of ports that do not follow the local ones", () => {
  assertEquals(classifyAllocation(samples([3, 9, 4, 8, 1, 7])).allocation.range, [1, 9]);
  assertEquals(classifyAllocation(samples(LOCAL_PORTS)).allocation.range, null);
  assertEquals(classifyAllocation([]).allocation.range, null);
});

Deno.test("classifyAllocation() detects parity and contiguity, or reports them as unknown", () => {
  const { details } = classifyAllocation(samples([101, 102, 103, 104, 600, 700]));
  assertEquals([details.preservesParity, details.preservesContiguity], [true, true]);
  const odd = classifyAllocation(samples([102, 103, 104, 105, 601, 701])).details;
  assertEquals([odd.preservesParity, odd.preservesContiguity], [false, true]);
  const few = classifyAllocation(samples([101, null, 103, null, null, null])).details;
  assertEquals([few.preservesParity, few.preservesContiguity], ["unknown", "unknown"]);
});

const allocations: fc.Arbitrary<NatAllocation> = fc.oneof(
  fc.constant<NatAllocation>({ kind: "preserving" }),
  fc.integer({ min: 1, max: 3000 }).map((delta): NatAllocation => ({ kind: "offset", delta })),
  fc.constantFrom(1, 2, 3, -1, -2, -3).map((delta): NatAllocation => ({
    kind: "sequential",
    delta,
  })),
  fc.constantFrom(1, 2, 3, -1, 5).map((delta): NatAllocation => ({ kind: "dependent", delta })),
  fc.constant<NatAllocation>({ kind: "random" }),
);

Deno.test("classifyAllocation() is right about every NAT on an undisturbed path", () => {
  fc.assert(
    fc.property(allocations, fc.integer(), (allocation, seed) => {
      const { allocation: found } = classifyAllocation(burstThrough(allocation, seed, {}));
      assertEquals([found.kind, found.delta], [kindOf(allocation), deltaOf(allocation)]);
    }),
    { numRuns: 2000, seed: SEED },
  );
});

Deno.test("classifyAllocation() never claims a wrong pattern or delta on a disturbed path", () => {
  const path = fc.record({
    lost: fc.uniqueArray(fc.nat(5), { maxLength: 3 }),
    swapped: fc.option(fc.nat(4), { nil: undefined }),
    crossTraffic: fc.array(fc.nat(5), { maxLength: 1 }),
  });
  fc.assert(
    fc.property(allocations, fc.integer(), path, (allocation, seed, path) => {
      const { allocation: found } = classifyAllocation(burstThrough(allocation, seed, path));
      if (!isPattern(found)) return;
      assertEquals([found.kind, found.delta], [kindOf(allocation), deltaOf(allocation)]);
    }),
    { numRuns: 5000, seed: SEED },
  );
});

Deno.test("classifyAllocation() calls only random ports random, however many answers are missing", () => {
  const path = fc.record({ lost: fc.uniqueArray(fc.nat(5), { maxLength: 5 }) });
  fc.assert(
    fc.property(allocations, fc.integer(), path, (allocation, seed, path) => {
      const { allocation: found } = classifyAllocation(burstThrough(allocation, seed, path));
      assert(found.kind !== "random" || allocation.kind === "random", `${allocation.kind}`);
    }),
    { numRuns: 5000, seed: SEED },
  );
});

/** A burst through a model NAT: answers lost by index, two packets swapped, other hosts' mappings before some. */
function burstThrough(
  allocation: NatAllocation,
  seed: number,
  path: { lost?: number[]; swapped?: number; crossTraffic?: number[] },
): PortSample[] {
  const allocator = new PortAllocator(seededRandom(seed));
  const taken = new Set<number>();
  const map = (internalPort: number) => {
    const range = [1024, 65535] as const;
    const port = allocator.allocate({
      allocation,
      internalPort,
      range,
      keepsParity: false,
      isFree: (port) => !taken.has(port),
    })!;
    taken.add(port);
    return port;
  };
  const order = LOCAL_PORTS.map((_, index) => index);
  const { swapped } = path;
  if (swapped !== undefined) {
    [order[swapped], order[swapped + 1]] = [order[swapped + 1]!, order[swapped]!];
  }
  const external: number[] = [];
  for (const index of order) {
    if (path.crossTraffic?.includes(index)) map(33_333);
    external[index] = map(LOCAL_PORTS[index]!);
  }
  return samples(external.map((port, index) => path.lost?.includes(index) ? null : port));
}

function kindOf({ kind }: NatAllocation): string {
  return kind === "dependent" ? "sequential" : kind;
}

function deltaOf(allocation: NatAllocation): number | null {
  if (allocation.kind === "random") return null;
  return "delta" in allocation ? allocation.delta : 0;
}

function samples(external: readonly (number | null)[]): PortSample[] {
  return external.map((externalPort, i) => ({ localPort: LOCAL_PORTS[i]!, externalPort }));
}
