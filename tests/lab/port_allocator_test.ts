import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { NatAllocation } from "../../lab/model/nat_behavior.ts";
import { PortAllocator } from "../../lab/model/port_allocator.ts";

Deno.test("a preserving allocation keeps the port, or uses the next free one if it is taken", () => {
  assertEquals(allocateAll({ kind: "preserving" }, [5000, 6000, 5000, 5000]), [
    5000,
    6000,
    5001,
    5002,
  ]);
});

Deno.test("an allocation wraps ports beyond the range into it", () => {
  assertEquals(allocateAll({ kind: "preserving" }, [999, 1010], [1000, 1009]), [1009, 1000]);
});

Deno.test("an offset allocation adds delta to the internal port", () => {
  assertEquals(allocateAll({ kind: "offset", delta: -100 }, [5000, 5001]), [4900, 4901]);
});

Deno.test("a sequential allocation adds delta to the last port, regardless of the internal port", () => {
  assertEquals(allocateAll({ kind: "sequential", delta: 3 }, [5000, 80, 9]), [33268, 33271, 33274]);
  assertEquals(allocateAll({ kind: "sequential", delta: -2 }, [5, 5, 5]), [33268, 33266, 33264]);
});

Deno.test("a sequential allocation wraps at the ends of the range and skips taken ports", () => {
  const range = [1000, 1005] as const;
  assertEquals(
    allocateAll({ kind: "sequential", delta: 2 }, [1, 1, 1, 1, 1, 1, 1], range),
    [1003, 1005, 1001, 1004, 1000, 1002, undefined],
  );
});

Deno.test("a dependent allocation adds delta if the internal port is the last one plus 1", () => {
  const ports = allocateAll({ kind: "dependent", delta: 4 }, [5000, 5001, 5002, 7000, 7001]);
  const [a, b, c, d, e] = ports as [number, number, number, number, number];
  assertEquals([b - a, c - b, e - d], [4, 4, 4]);
  assert(d !== c + 4);
});

Deno.test("every allocation assigns each port of the range once, and then none", () => {
  const delta = fc.integer({ min: -20, max: 20 }).filter((value) => value !== 0);
  const allocations: fc.Arbitrary<NatAllocation> = fc.oneof(
    fc.constantFrom<NatAllocation>({ kind: "preserving" }, { kind: "random" }),
    fc.record({
      kind: fc.constantFrom("offset", "sequential", "dependent"),
      delta,
    }) as fc.Arbitrary<
      NatAllocation
    >,
  );
  const internalPorts = fc.array(fc.integer({ min: 1, max: 65535 }), {
    minLength: 11,
    maxLength: 11,
  });
  fc.assert(fc.property(allocations, internalPorts, (allocation, internalPorts) => {
    const ports = allocateAll(allocation, internalPorts, [2000, 2009], Math.random);
    assertEquals(ports.pop(), undefined);
    assertEquals(ports.sort(), Array.from({ length: 10 }, (_, i) => 2000 + i));
  }));
});

/** The external ports of mappings for these internal ports, one after another. */
function allocateAll(
  allocation: NatAllocation,
  internalPorts: number[],
  range: readonly [number, number] = [1000, 65535],
  random = cycle([0.5, 0.25]),
): (number | undefined)[] {
  const allocator = new PortAllocator(random);
  const taken = new Set<number>();
  return internalPorts.map((internalPort) => {
    const isFree = (port: number) => !taken.has(port);
    const port = allocator.allocate({
      allocation,
      internalPort,
      range,
      keepsParity: false,
      isFree,
    });
    if (port !== undefined) taken.add(port);
    return port;
  });
}

function cycle(values: readonly number[]): () => number {
  let turn = 0;
  return () => values[turn++ % values.length]!;
}
