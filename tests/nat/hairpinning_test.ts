import { assertEquals } from "@std/assert";
import { UdpHairpinTest } from "../../lib/nat/hairpinning.ts";
import { answered, EXTERNAL, probe } from "./probes.ts";

const A = { ...EXTERNAL, port: 6001 };
const B = { ...EXTERNAL, port: 6002 };
const KNOWN = [
  answered({ socket: "a" }, { mapped: A }),
  answered({ socket: "b" }, { mapped: B }),
];
const BOTH = [{ from: "a", to: B }, { from: "b", to: A }];

Deno.test("UdpHairpinTest waits until both external addresses are known", () => {
  const hairpin = new UdpHairpinTest("a", "b");
  assertEquals(hairpin.due([probe({ socket: "a" }), KNOWN[1]!], 60), []);
  assertEquals([hairpin.isUnderWay, hairpin.wakeAtMs(60)], [false, Infinity]);
  assertEquals(hairpin.verdict(1e6), "unknown");
});

Deno.test("UdpHairpinTest sends from both sockets, several times", () => {
  const hairpin = new UdpHairpinTest("a", "b");
  const atMs: number[] = [];
  for (let nowMs = 60; nowMs !== Infinity; nowMs = hairpin.wakeAtMs(nowMs)) {
    const due = hairpin.due(KNOWN, nowMs);
    if (due.length === 0) break;
    assertEquals(due, BOTH);
    atMs.push(nowMs);
  }
  assertEquals(atMs, [60, 65, 75, 90]);
});

Deno.test("UdpHairpinTest decides on no after a round trip of silence, and needs no more wake-ups", () => {
  const hairpin = new UdpHairpinTest("a", "b");
  for (const nowMs of [60, 65, 75, 90]) hairpin.due(KNOWN, nowMs);
  assertEquals([hairpin.verdict(139), hairpin.wakeAtMs(139)], ["unknown", 140]);
  assertEquals([hairpin.verdict(140), hairpin.wakeAtMs(140)], [false, Infinity]);
});

Deno.test("UdpHairpinTest catches up one try per call if it is called late", () => {
  const hairpin = new UdpHairpinTest("a", "b");
  assertEquals(hairpin.due(KNOWN, 60), BOTH);
  for (let i = 0; i < 3; i++) assertEquals(hairpin.due(KNOWN, 500), BOTH);
  assertEquals(hairpin.due(KNOWN, 500), []);
});

for (
  const [what, a, b] of [
    ["a neighbour", { ip: "192.168.1.9", port: 9100 }, { ip: "192.168.1.9", port: 9101 }],
    ["a host of the carrier", { ip: "100.64.0.9", port: 4242 }, { ip: "100.64.0.9", port: 4243 }],
    ["a name server", { ...EXTERNAL, port: 53 }, { ...EXTERNAL, port: 54 }],
    ["one address for two local ports", A, A],
  ] as const
) {
  Deno.test(`UdpHairpinTest sends nothing if a server reports ${what}`, () => {
    const hairpin = new UdpHairpinTest("a", "b");
    const probes = [
      answered({ socket: "a" }, { mapped: a }),
      answered({ socket: "b" }, { mapped: b }),
    ];
    assertEquals([hairpin.due(probes, 60), hairpin.isUnderWay], [[], false]);
  });
}
