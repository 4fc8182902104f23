import { assert, assertEquals } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { Probe } from "../../lib/nat/probe.ts";
import { nextUdpStep, type UdpTest } from "../../lib/nat/udp_plan.ts";
import { A1P1, A1P2, A2P1, A2P2, answered, describe, EXTERNAL, probe } from "./probes.ts";

const BURST = ["burst 1", "burst 2", "burst 3", "burst 4", "burst 5", "burst 6"];

function test(probes: Probe[], servers: TransportAddress[] = [A1P1]): UdpTest {
  return { servers, burst: BURST, probes, isOwn: () => false, timeoutMs: 5000 };
}

/** The probes so far, and those that the next step sends. */
function sent(probes: Probe[], atMs: number, servers?: TransportAddress[]): Probe[] {
  const { send } = nextUdpStep(test(probes, servers), atMs);
  return [...probes, ...send.map((spec) => probe({ ...spec, sentAtMs: atMs }))];
}

Deno.test("nextUdpStep() starts mapping, filtering and the burst at once, on separate sockets", () => {
  const step = nextUdpStep(test([]), 0);
  assertEquals(describe(step.send), [
    ...BURST.map((socket) => `${socket} binding 203.0.113.9:3478`),
    "filtering 0 binding 203.0.113.9:3478",
    "filtering 0 change-address-and-port 203.0.113.9:3478",
    "filtering 0 change-port 203.0.113.9:3478",
    "mapping binding 203.0.113.9:3478",
  ]);
  assertEquals(step.send.slice(0, 6).map(({ socket }) => socket), BURST);
  assertEquals([step.done, step.verdict.server], [false, null]);
});

Deno.test("nextUdpStep() tests the mapping with all servers, and the filtering with two", () => {
  const third = { ip: "203.0.113.77", port: 3478 };
  const { send } = nextUdpStep(test([], [A1P1, A2P2, third]), 0);
  const names = describe(send);
  for (const to of ["203.0.113.9:3478", "203.0.113.10:3479", "203.0.113.77:3478"]) {
    assert(names.includes(`mapping binding ${to}`), to);
  }
  assertEquals(names.filter((name) => name.startsWith("filtering")).length, 6);
  assert(!names.some((name) => name.startsWith("filtering 2")));
});

Deno.test("nextUdpStep() does not retransmit early", () => {
  const probes = sent([], 0);
  const step = nextUdpStep(test(probes), 50);
  assertEquals([step.send, step.wakeAtMs], [[], 100]);
});

Deno.test("nextUdpStep() retransmits everything while no server answers", () => {
  const probes = sent([], 0);
  assertEquals(describe(nextUdpStep(test(probes), 100).send), describe(probes));
});

Deno.test("nextUdpStep() gives up if no server answers", () => {
  const probes = sent([], 0);
  assertEquals(nextUdpStep(test(probes), 3199).done, false);
  const { done, send, verdict } = nextUdpStep(test(probes), 3200);
  assertEquals([done, send, verdict.server], [true, [], null]);
  assertEquals(verdict.mapping.behavior, "unknown");
});

Deno.test("nextUdpStep() asks the other addresses of a server after its first answer", () => {
  const [first, ...rest] = sent([], 0).reverse();
  assertEquals(first!.socket, "filtering 0");
  const probes = [...rest.map((p) => p.socket === "mapping" ? answered(p) : p), first!];
  const { send } = nextUdpStep(test(probes), 50);
  const names = describe(send).filter((name) => name.startsWith("mapping"));
  assertEquals(names, [
    "mapping binding 203.0.113.10:3478",
    "mapping binding 203.0.113.10:3479",
    "mapping binding 203.0.113.9:3479",
  ]);
});

Deno.test("nextUdpStep() is done in one round trip if both addresses are known and all answers arrive", () => {
  const servers = [A1P1, A2P2];
  const probes = sent([], 0, servers).map((p) => {
    const port = 6000 + BURST.indexOf(p.socket);
    const from = p.test === "change-address-and-port"
      ? (p.to === A1P1 ? A2P2 : A1P1)
      : p.test === "change-port"
      ? (p.to === A1P1 ? A1P2 : A2P1)
      : p.to;
    const mapped = { ...EXTERNAL, port: p.socket.startsWith("filtering") ? 7000 + p.server : port };
    return answered({ ...p, localPort: port + 10 }, {
      from,
      mapped,
      other: p.to === A1P1 ? A2P2 : A1P1,
    });
  });
  const { done, verdict, send } = nextUdpStep(test(probes, servers), 51);
  assertEquals([done, send], [true, []]);
  assertEquals(verdict.mapping.behavior, "endpoint-independent");
  assertEquals(verdict.filtering.behavior, "endpoint-independent");
  assertEquals(verdict.external, { ...EXTERNAL, port: 5999 });
  assertEquals(verdict.server, A1P1);
});

Deno.test("nextUdpStep() repeats silent tests in rounds with controls", () => {
  let probes = sent([], 0).map((p) => p.test === "binding" ? answered(p, mappedOf(p)) : p);
  const rounds: string[][] = [];
  for (let atMs = 50; rounds.length < 4; atMs += 5) {
    const before = probes.length;
    probes = sent(probes, atMs);
    const round = describe(probes.slice(before)).filter((name) => name.startsWith("filtering"));
    if (round.length > 0) rounds.push(round);
    assert(atMs < 200);
  }
  for (const round of rounds) {
    assertEquals(round, [
      "filtering 0 binding 203.0.113.9:3478",
      "filtering 0 change-address-and-port 203.0.113.9:3478",
      "filtering 0 change-port 203.0.113.9:3478",
    ]);
  }
});

Deno.test("nextUdpStep() makes the server prove that its unfiltered answers arrive", () => {
  const probes = [
    ...sent([], 0).map((p) => p.test === "binding" ? answered(p, mappedOf(p)) : p),
    answered({ to: A2P2, sentAtMs: 50 }),
    answered({ to: A2P1, sentAtMs: 50 }),
    answered({ to: A1P2, sentAtMs: 50 }),
  ];
  const names = describe(nextUdpStep(test(probes), 101).send);
  assertEquals(names.filter((name) => name.startsWith("mapping")), [
    "mapping change-address-and-port 203.0.113.9:3478",
    "mapping change-port 203.0.113.9:3478",
  ]);
});

Deno.test("nextUdpStep() directs the proof to the other mapping if mappings differ", () => {
  const probes = [
    ...sent([], 0).map((p) => p.test === "binding" ? answered(p, mappedOf(p)) : p),
    answered({ to: A2P2, sentAtMs: 50 }, { mapped: { ...EXTERNAL, port: 6999 } }),
    answered({ to: A1P2, sentAtMs: 50 }, { mapped: { ...EXTERNAL, port: 6998 } }),
  ];
  const names = describe(nextUdpStep(test(probes), 101).send);
  assertEquals(names.filter((name) => name.includes("change") && name.startsWith("mapping")), [
    "mapping change-address-and-port 203.0.113.9:3478 to 6999",
    "mapping change-port 203.0.113.9:3478 to 6998",
  ]);
});

Deno.test("nextUdpStep() sends the burst to another server if the first is silent", () => {
  const servers = [A1P1, A2P2];
  const probes = sent([], 0, servers).map((p) =>
    p.to === A2P2 ? answered(p, { other: A1P1, ...mappedOf(p) }) : p
  );
  const names = describe(nextUdpStep(test(probes, servers), 70).send);
  assertEquals(names.filter((name) => name.startsWith("burst")).length, 6);
  assert(names.includes("burst 1 binding 203.0.113.10:3479"));
});

Deno.test("nextUdpStep() ends at the timeout with what it knows", () => {
  const probes = sent([], 0).map((p) => p.socket === "mapping" ? answered(p) : p);
  const { done, verdict } = nextUdpStep(test(probes), 5000);
  assertEquals([done, verdict.server, verdict.filtering.behavior], [true, A1P1, "unknown"]);
});

Deno.test("nextUdpStep() never schedules a wake-up in the past", () => {
  let probes: Probe[] = [];
  for (let nowMs = 0; nowMs < 5000; nowMs += 37) {
    probes = sent(probes, nowMs);
    if (nowMs === 370) {
      probes = probes.map((p) => p.test === "binding" ? answered(p, mappedOf(p)) : p);
    }
    const { wakeAtMs, done } = nextUdpStep(test(probes), nowMs);
    assert(done || wakeAtMs > nowMs, `${wakeAtMs} at ${nowMs}`);
  }
  assert(probes.length < 200, `${probes.length} packets`);
});

/** A different external address for each socket. */
function mappedOf({ socket }: Probe) {
  const port = 6000 + BURST.indexOf(socket) + 1 + (socket.startsWith("filtering") ? 1000 : 0);
  return { mapped: { ...EXTERNAL, port } };
}
