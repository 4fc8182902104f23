import { assert, assertEquals } from "@std/assert";
import { type Probe, RetransmissionTiming } from "../../lib/nat/probe.ts";
import { A1P1, A2P2, answered, probe } from "./probes.ts";

const SPEC = { socket: "mapping", server: 0, test: "binding", to: A1P1 } as const;

Deno.test("RetransmissionTiming schedules a new probe at once", () => {
  assertEquals(new RetransmissionTiming([], 7).nextTryMs(SPEC), 7);
});

Deno.test("RetransmissionTiming retransmits after 100 ms, then ever more slowly, until a round trip is known", () => {
  const probes: Probe[] = [];
  for (let i = 0; i < 6; i++) {
    probes.push(probe({ sentAtMs: new RetransmissionTiming(probes, 0).nextTryMs(SPEC) }));
  }
  assertEquals(probes.map(({ sentAtMs }) => sentAtMs), [0, 100, 250, 475, 812.5, 1312.5]);
});

Deno.test("RetransmissionTiming uses the round trips of that server once there are any", () => {
  const probes = [answered({ socket: "burst 1" }), probe()];
  assertEquals(new RetransmissionTiming(probes, 60).nextTryMs(SPEC), 60);
  assertEquals(new RetransmissionTiming(probes, 60).retransmitMs(1), undefined);
});

Deno.test("RetransmissionTiming waits longer if round trips vary", () => {
  const probes = [answered(), answered({ socket: "burst 1" }, { atMs: 130 })];
  const timing = new RetransmissionTiming(probes, 200);
  assertEquals(timing.roundTripsMs(0), [50, 130]);
  assertEquals(timing.retransmitMs(0), 130 + 80);
  assertEquals(timing.timeoutMs(0), 80);
  assertEquals(new RetransmissionTiming([answered()], 60).timeoutMs(0), 15);
  assertEquals(new RetransmissionTiming([answered({}, { atMs: 400 })], 400).timeoutMs(0), 100);
  assertEquals(new RetransmissionTiming([probe()], 60).timeoutMs(0), Infinity);
});

Deno.test("RetransmissionTiming gives up only after enough tries to survive an outage of two seconds", () => {
  const probes: Probe[] = [];
  for (;;) {
    const nextMs = new RetransmissionTiming(probes, 0).nextTryMs(SPEC);
    if (new RetransmissionTiming(probes, nextMs).isGivenUp(SPEC)) break;
    probes.push(probe({ sentAtMs: nextMs }));
    assert(probes.length < 20);
  }
  const last = probes.at(-1)!.sentAtMs;
  assert(last >= 2000, `the last try is at ${last} ms`);
  assertEquals(new RetransmissionTiming(probes, last + 499).isGivenUp(SPEC), false);
  assertEquals(
    new RetransmissionTiming([...probes, answered({ sentAtMs: last })], 1e6).isGivenUp(SPEC),
    false,
  );
});

Deno.test("RetransmissionTiming doubts a probe after some unanswered tries", () => {
  const tries = (count: number) => Array.from({ length: count }, () => probe());
  assertEquals(new RetransmissionTiming(tries(3), 0).isDoubtful(SPEC), false);
  assertEquals(new RetransmissionTiming(tries(4), 0).isDoubtful(SPEC), true);
  assertEquals(new RetransmissionTiming([...tries(4), answered()], 0).isDoubtful(SPEC), false);
});

Deno.test("RetransmissionTiming distinguishes probes by socket, test, destination and where the answer goes", () => {
  const others = [
    answered({ socket: "burst 1" }),
    answered({ test: "change-port" }),
    answered({ to: A2P2 }),
    answered({ respondTo: A2P2 }),
  ];
  assertEquals(new RetransmissionTiming(others, 0).tries(SPEC), []);
  assertEquals(
    new RetransmissionTiming([...others, answered({ server: 1 })], 0).isAnswered(SPEC),
    true,
  );
});

Deno.test("RetransmissionTiming reports a server's first answer", () => {
  const probes = [answered({ sentAtMs: 10 }), answered({ server: 1 }, { atMs: 40 })];
  assertEquals(
    [0, 1, 2].map((server) => new RetransmissionTiming(probes, 0).firstReplyMs(server)),
    [
      60,
      40,
      Infinity,
    ],
  );
});
