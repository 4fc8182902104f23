import { assert, assertEquals } from "@std/assert";
import { Pace } from "../../lib/nat/probe.ts";
import type { Probe } from "../../lib/nat/probe.ts";
import { A1P1, A2P2, answered, probe } from "./probes.ts";

const SPEC = { socket: "mapping", server: 0, test: "binding", to: A1P1 } as const;

Deno.test("Pace sends what was never sent at once", () => {
  assertEquals(new Pace([], 7).nextTryMs(SPEC), 7);
});

Deno.test("Pace sends again after 100 ms, then ever more slowly, until a round trip is known", () => {
  const probes: Probe[] = [];
  for (let i = 0; i < 6; i++) {
    probes.push(probe({ sentAtMs: new Pace(probes, 0).nextTryMs(SPEC) }));
  }
  assertEquals(probes.map(({ sentAtMs }) => sentAtMs), [0, 100, 250, 475, 812.5, 1312.5]);
});

Deno.test("Pace goes by the round trips of that server once there are any", () => {
  const probes = [answered({ socket: "burst 1" }), probe()];
  assertEquals(new Pace(probes, 60).nextTryMs(SPEC), 60);
  assertEquals(new Pace(probes, 60).retransmitMs(1), undefined);
});

Deno.test("Pace is patient where round trips differ", () => {
  const probes = [answered(), answered({ socket: "burst 1" }, { atMs: 130 })];
  const pace = new Pace(probes, 200);
  assertEquals(pace.roundTripsMs(0), [50, 130]);
  assertEquals(pace.retransmitMs(0), 130 + 80);
  assertEquals(pace.timeoutMs(0), 80);
  assertEquals(new Pace([answered()], 60).timeoutMs(0), 15);
  assertEquals(new Pace([answered({}, { atMs: 400 })], 400).timeoutMs(0), 100);
  assertEquals(new Pace([probe()], 60).timeoutMs(0), Infinity);
});

Deno.test("Pace gives up after as many tries as outlast an outage of two seconds, and not before", () => {
  const probes: Probe[] = [];
  for (;;) {
    const nextMs = new Pace(probes, 0).nextTryMs(SPEC);
    if (new Pace(probes, nextMs).isGivenUp(SPEC)) break;
    probes.push(probe({ sentAtMs: nextMs }));
    assert(probes.length < 20);
  }
  const last = probes.at(-1)!.sentAtMs;
  assert(last >= 2000, `the last try is at ${last} ms`);
  assertEquals(new Pace(probes, last + 499).isGivenUp(SPEC), false);
  assertEquals(new Pace([...probes, answered({ sentAtMs: last })], 1e6).isGivenUp(SPEC), false);
});

Deno.test("Pace doubts a probe after some silent tries", () => {
  const tries = (count: number) => Array.from({ length: count }, () => probe());
  assertEquals(new Pace(tries(3), 0).isDoubtful(SPEC), false);
  assertEquals(new Pace(tries(4), 0).isDoubtful(SPEC), true);
  assertEquals(new Pace([...tries(4), answered()], 0).isDoubtful(SPEC), false);
});

Deno.test("Pace tells probes apart by socket, test, destination and where the answer goes", () => {
  const others = [
    answered({ socket: "burst 1" }),
    answered({ test: "change-port" }),
    answered({ to: A2P2 }),
    answered({ respondTo: A2P2 }),
  ];
  assertEquals(new Pace(others, 0).tries(SPEC), []);
  assertEquals(new Pace([...others, answered({ server: 1 })], 0).isAnswered(SPEC), true);
});

Deno.test("Pace knows when a server answered first", () => {
  const probes = [answered({ sentAtMs: 10 }), answered({ server: 1 }, { atMs: 40 })];
  assertEquals([0, 1, 2].map((server) => new Pace(probes, 0).firstReplyMs(server)), [
    60,
    40,
    Infinity,
  ]);
});
