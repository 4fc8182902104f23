import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { PortAllocation } from "../../lib/nat/behavior.ts";
import { type AnsweredPortSample, portBlock, predictPorts } from "../../lib/nat/allocation.ts";
import { PortAllocator } from "../../lab/model/port_allocator.ts";
import { seededRandom } from "../../lab/model/random.ts";

Deno.test("predictPorts() returns the local port of a preserving NAT, then the ports above it", () => {
  assertEquals(predict([], PRESERVING, { localPorts: [5000], count: 3 }), [5000, 5001, 5002]);
});

Deno.test("predictPorts() returns all local ports of a preserving NAT before the ports above them", () => {
  assertEquals(
    predict([], PRESERVING, { localPorts: [5000, 7000], count: 5 }),
    [5000, 7000, 5001, 7001, 5002],
  );
});

Deno.test("predictPorts() adds a NAT's offset to the local port", () => {
  assertEquals(
    predict([], { kind: "offset", delta: -100, range: null }, { localPorts: [5000], count: 2 }),
    [4900, 4901],
  );
});

Deno.test("predictPorts() continues a sequence from the last sample", () => {
  const samples = sample(3000, 3003, 3006);
  assertEquals(predict(samples, sequential(3), { count: 4 }), [3009, 3012, 3015, 3018]);
});

Deno.test("predictPorts() continues a sequence downwards if its delta is negative", () => {
  assertEquals(predict(sample(3001, 3000), sequential(-1), { count: 3 }), [2999, 2998, 2997]);
});

Deno.test("predictPorts() continues a sequence from the furthest sample if two are out of order", () => {
  assertEquals(predict(sample(3000, 3002, 3001), sequential(1), { count: 2 }), [3003, 3004]);
});

Deno.test("predictPorts() wraps a sequence at the end of the range", () => {
  assertEquals(predict(sample(65_534), sequential(1), { count: 3 }), [65_535, 1024, 1025]);
  assertEquals(
    predict(sample(2001), sequential(-2), { count: 3, portRange: [2000, 2999] }),
    [2999, 2997, 2995],
  );
});

Deno.test("predictPorts() continues a sequence from the last sample if the samples wrapped", () => {
  assertEquals(predict(sample(65_534, 65_535, 1024), sequential(1), { count: 2 }), [1025, 1026]);
});

Deno.test("predictPorts() starts a sequence with the port that other hosts' traffic makes likeliest", () => {
  const options = { sinceLastSampleMs: 1000, driftPerMs: 0.005, count: 6 };
  const [likeliest, ...others] = predict(sample(3000), sequential(1), options);
  assert(likeliest === 3005 || likeliest === 3006, `${likeliest}`);
  assertEquals([likeliest, ...others].toSorted(), [3003, 3004, 3005, 3006, 3007, 3008]);
});

Deno.test("predictPorts() adds a dependent NAT's delta for each step of the local port", () => {
  const samples = [{ localPort: 5000, externalPort: 3000 }];
  const options = { localPorts: [5001, 5002, 5003], onlyForNeighbours: true };
  assertEquals(predict(samples, sequential(2), options), [3002, 3004, 3006]);
});

Deno.test("predictPorts() spreads random ports over the block that the samples lie in", () => {
  const ports = predict(sample(20_100, 20_300, 20_500, 20_700, 20_900), RANDOM, { count: 4 });
  assertEquals(ports, [19_900, 20_300, 20_700, 21_100]);
});

Deno.test("predictPorts() predicts nothing without a pattern, samples or local ports", () => {
  assertEquals(predict(sample(3000), { kind: "unknown", delta: null, range: null }, {}), []);
  assertEquals(predict([], sequential(1), {}), []);
  assertEquals(predict(sample(3000), sequential(0), {}), []);
  assertEquals(predict([], PRESERVING, {}), []);
});

Deno.test("predictPorts() returns distinct ports within the range, no more than requested", () => {
  fc.assert(fc.property(
    fc.array(fc.record({ localPort: port(), externalPort: port() }), { maxLength: 6 }),
    fc.record({
      kind: fc.constantFrom("preserving", "offset", "sequential", "random", "unknown" as const),
      delta: fc.option(fc.integer({ min: -70_000, max: 70_000 })),
      range: fc.constant(null),
    }),
    fc.record({
      localPorts: fc.array(port(), { maxLength: 5 }),
      onlyForNeighbours: fc.boolean(),
      count: fc.integer({ min: 0, max: 100 }),
      sinceLastSampleMs: fc.integer({ min: 0, max: 5000 }),
      driftPerMs: fc.double({ min: 0, max: 0.1, noNaN: true }),
    }),
    (samples, allocation, options) => {
      const ports = predict(samples, allocation, options);
      assert(ports.length <= options.count);
      assertEquals(new Set(ports).size, ports.length);
      assert(ports.every((port) => Number.isInteger(port) && port >= 1024 && port <= 65_535));
    },
  ));
});

for (const delta of [1, -1, 2, 3, 17]) {
  Deno.test(`predictPorts() predicts the next ports of a model NAT that counts by ${delta}`, () => {
    fc.assert(fc.property(fc.integer(), fc.integer({ min: 0, max: 10 }), (seed, others) => {
      const next = modelNat(seed, { kind: "sequential", delta });
      const samples = [5000, 5007, 5100].map((localPort) => ({ localPort, externalPort: next() }));
      for (let i = 0; i < others; i++) next();
      const ports = predict(samples, sequential(delta), { count: 12 });
      assertEquals(ports[others], next());
    }));
  });
}

Deno.test("portBlock() covers nearly all of the block that five samples come from", () => {
  const random = seededRandom(1);
  let covered = 0;
  const runs = 500;
  for (let run = 0; run < runs; run++) {
    const first = 1024 + Math.floor(random() * 60_000);
    const next = () => first + Math.floor(random() * 1024);
    const [lowest, highest] = portBlock(sample(next(), next(), next(), next(), next()), null);
    assert(highest - lowest < 3 * 1024);
    const inside = Math.min(highest, first + 1023) - Math.max(lowest, first) + 1;
    covered += inside / 1024 / runs;
  }
  assert(covered > 0.93, `${covered}`);
});

Deno.test("portBlock() returns the whole range if the samples are far apart or too few", () => {
  assertEquals(portBlock(sample(2000, 30_000, 60_000, 41_000), null), [1024, 65_535]);
  assertEquals(portBlock(sample(2000, 2001), null), [1024, 65_535]);
  assertEquals(portBlock([], null), [1024, 65_535]);
});

Deno.test("portBlock() counts an earlier range as samples", () => {
  assertEquals(portBlock(sample(20_500), [20_000, 21_000]), [19_000, 22_000]);
});

const predict = predictPorts;

function sample(...externalPorts: number[]): AnsweredPortSample[] {
  return externalPorts.map((externalPort, index) => ({ localPort: 5000 + index, externalPort }));
}

function sequential(delta: number): PortAllocation {
  return { kind: "sequential", delta, range: null };
}

function modelNat(seed: number, allocation: { kind: "sequential"; delta: number }): () => number {
  const allocator = new PortAllocator(seededRandom(seed));
  const taken = new Set<number>();
  return () => {
    const port = allocator.allocate({
      allocation,
      internalPort: 5000,
      range: [1024, 65_535],
      keepsParity: false,
      isFree: (port) => !taken.has(port),
    })!;
    taken.add(port);
    return port;
  };
}

function port(): fc.Arbitrary<number> {
  return fc.integer({ min: 1024, max: 65_535 });
}

const PRESERVING: PortAllocation = { kind: "preserving", delta: 0, range: null };
const RANDOM: PortAllocation = { kind: "random", delta: null, range: null };
