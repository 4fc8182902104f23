import { assert, assertEquals, assertThrows } from "@std/assert";
import { type PlanOptions, planPunch } from "../../lib/punch/check_list.ts";
import type { CheckListEntry, PunchPlan } from "../../lib/punch/plan_types.ts";
import type { PunchDescription } from "../../lib/punch/candidates.ts";
import { hostCandidate, punchSide, RANDOM, reflexive, SEQUENTIAL, symmetric } from "./fixtures.ts";

Deno.test("planPunch() dials a known address once, from the punch port, at once", () => {
  const { method, dials, listens } = planPunch(A, B, { role: "controlling" });
  assertEquals([method, listens], ["simultaneous-open", true]);
  assertEquals(dials, [{
    from: "punch",
    targets: [{ ip: "198.51.100.2", port: 40_000 }],
    perTarget: 1,
    startMs: 0,
    spacingMs: 0,
    maxTries: 200,
    timeoutMs: 12_000,
    isExpected: true,
  }]);
});

Deno.test("planPunch() is deterministic", () => {
  for (const peer of [B, behind(RANDOM), behind(SEQUENTIAL)]) {
    const plan = () => planPunch(A, peer, { role: "controlling", rttMs: 80, signalRttMs: 50 });
    assertEquals(plan(), plan());
  }
});

Deno.test("planPunch() makes the side that knows first wait if the other side's NAT resets", () => {
  const resetting = behind({ unsolicitedSyn: "reset" });
  const start = (me: PunchDescription, peer: PunchDescription, options: PlanOptions) =>
    planPunch(me, peer, { signalRttMs: 60, ...options }).dials[0]?.startMs;
  assertEquals(start(A, resetting, { role: "controlled" }), 30);
  assertEquals(start(A, resetting, { role: "controlling" }), 0);
  assertEquals(start(A, resetting, { role: "controlling", isSecond: true }), 30);
  assertEquals(start(A, resetting, { role: "controlled", isSecond: false }), 0);
  assertEquals(start(resetting, A, { role: "controlled" }), 0);
  assertEquals(start(A, resetting, { role: "controlled", signalRttMs: 0 }), 0);
});

Deno.test("planPunch() makes the side that knows first wait so that SYNs cross, unless its own SYN has to open the way", () => {
  const start = (
    me: PunchDescription,
    peer: PunchDescription,
    options: Partial<PlanOptions> = {},
  ) => planPunch(me, peer, { signalRttMs: 60, role: "controlled", ...options }).dials[0]?.startMs;
  const [resetting, keepingOut] = [{ unsolicitedSyn: "reset" }, {
    crossingSyn: "dropped",
  }] as const;
  assertEquals(start(B, A), 22.5);
  assertEquals(start(A, B, { role: "controlling" }), 0);
  assertEquals(start(A, B, { role: "controlling", isSecond: true }), 22.5);
  assertEquals(start(B, A, { signalRttMs: 5000 }), 300);
  assertEquals(start(B, A, { signalRttMs: 40 }), 0, "little to gain");
  assertEquals(start(behind(resetting), A), 0);
  assertEquals(start(behind(keepingOut), A), 22.5);
  assertEquals(start(B, behind(keepingOut, "198.51.100.1")), 0);
  assertEquals(start(B, A, { isUdp: true }), 0, "a datagram is repeated soon");
});

Deno.test("planPunch() dials a reachable peer, and the peer dials too if it can listen beside", () => {
  const open = behind({ filtering: "endpoint-independent" });
  assertEquals(planPunch(A, open, { role: "controlling" }).method, "direct");
  assertEquals(targetsOf(planPunch(A, open, { role: "controlling" })), ["198.51.100.2:40000"]);
  assertEquals(targetsOf(planPunch(open, A, { role: "controlled" })), ["198.51.100.1:40000"]);
});

Deno.test("planPunch() dials a mapped port", () => {
  const mapped = punchSide("198.51.100.2", RANDOM, {
    candidates: [{ kind: "mapped", address: { ip: "198.51.100.2", port: 7000 } }],
  });
  const plan = planPunch(behind(RANDOM, "198.51.100.1"), mapped, { role: "controlling" });
  assertEquals(plan.method, "direct");
  assertEquals(targetsOf(plan), ["198.51.100.2:7000"]);
  assert(planPunch(mapped, behind(RANDOM), { role: "controlled" }).listens);
});

Deno.test("planPunch() opens an address-restricted filter with one SYN, and dials through it a moment later", () => {
  const opener = behind({ filtering: "address-dependent" });
  const peer = behind(RANDOM, "198.51.100.1");
  const opening = planPunch(opener, peer, { role: "controlling" });
  assertEquals([opening.method, opening.listens], ["one-sided-open", true]);
  assertEquals(targetsOf(opening), ["198.51.100.1:40000"]);
  const [first, again] = planPunch(peer, opener, { role: "controlled", signalRttMs: 60 }).dials;
  assertEquals([first?.from, first?.startMs], ["punch", 30]);
  assertEquals([again?.from, again?.startMs, again?.perTarget], ["fresh", 280, 6]);
});

Deno.test("planPunch() listens after its dials only if a SYN from another address is expected", () => {
  const alone = (side: PunchDescription): PunchDescription => ({ ...side, canListenBeside: false });
  const opener = alone(behind({ filtering: "address-dependent" }));
  const random = alone(behind(RANDOM, "198.51.100.1"));
  assertEquals(planPunch(opener, random, { role: "controlling" }).listens, true);
  assertEquals(planPunch(random, opener, { role: "controlled" }).listens, false);
  assertEquals(planPunch(alone(A), alone(B), { role: "controlling" }).listens, false);
});

Deno.test("planPunch() dials the next ports of a sequential NAT", () => {
  const plan = planPunch(A, behind(SEQUENTIAL), { role: "controlling" });
  assertEquals(plan.method, "port-prediction");
  assertEquals(plan.dials[0]?.targets.map(({ port }) => port), range(30_003, 32));
  const [punch, spare] = planPunch(behind(SEQUENTIAL), A, { role: "controlled" }).dials;
  assertEquals([punch?.from, spare?.from, spare?.perTarget], ["punch", "fresh", 2]);
});

Deno.test("planPunch() dials from the punch port behind a port-preserving NAT", () => {
  const preserving = behind(symmetric({}));
  const plan = planPunch(A, preserving, { role: "controlling" });
  const [first, next] = plan.dials.map(({ targets }) => targets.map(({ port }) => port));
  assertEquals([first, next], [[40_000], range(40_001, 7)]);
  assertEquals(plan.dials.map(({ maxTries }) => maxTries), [200, 8]);
  const dials = planPunch(preserving, A, { role: "controlled" }).dials;
  assertEquals(dials.map(({ from, targets }) => [from, targets.length]), [["punch", 1]]);
});

Deno.test("planPunch() dials from the neighbours of the last local port behind a dependent NAT", () => {
  const dependent = behind({ ...SEQUENTIAL, onlyForNeighbours: true });
  const plan = planPunch(A, dependent, { role: "controlling" });
  assertEquals(plan.dials[0]?.targets.map(({ port }) => port), [30_003, 30_004]);
  const [group] = planPunch(dependent, A, { role: "controlled" }).dials;
  assertEquals(group?.localPorts, [50_007, 50_008]);
});

Deno.test("planPunch() pairs two rows of predicted ports, one with twice the stride of the other", () => {
  const [a, b] = [behind(SEQUENTIAL, "198.51.100.1"), behind(SEQUENTIAL)];
  const ports = ({ dials: [group] }: PunchPlan) => group?.targets.map(({ port }) => port);
  assertEquals(ports(planPunch(a, b, { role: "controlling" })), range(30_003, 32));
  assertEquals(ports(planPunch(b, a, { role: "controlled" })), range(30_003, 32, 2));
});

Deno.test("planPunch() pairs predicted ports so that one pair fits for any drift of both sides", () => {
  const [a, b] = [behind(SEQUENTIAL, "198.51.100.1"), behind(SEQUENTIAL)];
  const row = (plan: PunchPlan) => plan.dials[0]!.targets.map(({ port }) => port - 30_003);
  const [aims, answers] = [
    row(planPunch(a, b, { role: "controlling" })),
    row(planPunch(b, a, { role: "controlled" })),
  ];
  for (let driftA = 0; driftA <= 8; driftA++) {
    for (let driftB = 0; driftB <= 8; driftB++) {
      const hits = aims.filter((aim, i) => answers[aim - driftB] === driftA + i);
      assertEquals(hits.length, 1, `${driftA} ${driftB}`);
    }
  }
});

Deno.test("planPunch() opens many sockets first, then dials many ports, within a second", () => {
  const random = behind(RANDOM, "198.51.100.1");
  const sockets = only(planPunch(random, B, { role: "controlling", rttMs: 80 }));
  const ports = only(planPunch(B, random, { role: "controlled", rttMs: 80, signalRttMs: 60 }));
  assertEquals([sockets.from, sockets.targets.length, sockets.perTarget], ["fresh", 1, 200]);
  assertEquals([ports.from, ports.targets.length, ports.perTarget], ["punch", 1100, 1]);
  assertEquals(new Set(ports.targets.map(({ port }) => port)).size, 1100);
  assertEquals(sockets.startMs, 0);
  assertEquals(ports.startMs, 30 + 200 * 0.5 + 40); // the head start, the time for all sockets, half a round trip
  for (const { timeoutMs, maxTries, startMs, spacingMs, targets, perTarget } of [sockets, ports]) {
    assertEquals([timeoutMs, maxTries], [980, 1]);
    assert(startMs + spacingMs * targets.length * perTarget < 980);
  }
});

Deno.test("planPunch() dials only the block of ports that the samples lie in", () => {
  const samples = [20_100, 20_300, 20_500, 20_700, 20_900].map((externalPort, i) => ({
    localPort: 50_000 + 7 * i,
    externalPort,
  }));
  const plan = planPunch(
    B,
    behind({ ...RANDOM, allocation: RANDOM_PORTS, samples }, "198.51.100.1"),
    {
      role: "controlling",
    },
  );
  const ports = only(plan).targets.map(({ port }) => port);
  assert(Math.min(...ports) >= 19_700 && Math.max(...ports) <= 21_300, `${ports}`);
  assert(ports.length < 100 && plan.successEstimate > 0.98);
});

Deno.test("planPunch() lets the side whose NAT resets dial its many ports first", () => {
  const random = behind(RANDOM, "198.51.100.1");
  const resetting = behind({ unsolicitedSyn: "reset" });
  assertEquals(only(planPunch(resetting, random, { role: "controlled" })).startMs, 0);
  assertEquals(only(planPunch(random, resetting, { role: "controlling" })).startMs, 550 + 25);
});

Deno.test("planPunch() makes both sides dial at once, within a one-way delay, if both NATs reset", () => {
  const random = behind({ ...RANDOM, unsolicitedSyn: "reset" }, "198.51.100.1");
  const resetting = behind({ unsolicitedSyn: "reset" });
  const options = { rttMs: 100, signalRttMs: 60 };
  const [sockets, ports] = [
    only(planPunch(random, resetting, { role: "controlling", ...options })),
    only(planPunch(resetting, random, { role: "controlled", ...options })),
  ];
  assertEquals([sockets.startMs, ports.startMs], [0, 30]);
  assertEquals([200 * sockets.spacingMs, 1100 * ports.spacingMs].map(Math.round), [50, 50]);
});

Deno.test("planPunch() stays within other limits", () => {
  const limits = { maxSockets: 30, maxBirthdayPorts: 60, maxSynsPerSecond: 200 };
  const random = behind(RANDOM, "198.51.100.1");
  assertEquals(only(planPunch(random, B, { role: "controlling", limits })).perTarget, 30);
  const { targets, spacingMs } = only(planPunch(B, random, { role: "controlled", limits }));
  assertEquals([targets.length, spacingMs], [60, 5]);
  assert(planPunch(B, random, { role: "controlled", limits }).successEstimate < 0.03);
});

Deno.test("planPunch() is impossible if the limits leave hardly any chance", () => {
  const random = behind(RANDOM, "198.51.100.1");
  for (const limits of [{ maxSockets: 0 }, { maxBirthdayPorts: 1 }, { maxSynsPerSecond: 10 }]) {
    assertEquals(planPunch(random, B, { role: "controlling", limits }).method, "impossible");
  }
});

Deno.test("planPunch() rejects limits that are out of range", () => {
  for (const limits of [{ maxSockets: -1 }, { timeoutMs: NaN }, { maxSynsPerSecond: 0 }]) {
    assertThrows(() => planPunch(A, B, { role: "controlling", limits }), RangeError, "must not be");
  }
});

Deno.test("planPunch() is impossible for random ports on both sides, and says what would help", () => {
  const plan = planPunch(behind(RANDOM, "198.51.100.1"), behind(RANDOM), { role: "controlling" });
  assertEquals([plan.method, plan.dials, plan.listens], ["impossible", [], false]);
  assert(/relay, .*mapped.*, or IPv6 would help/.test(plan.reason), plan.reason);
});

Deno.test("planPunch() is impossible if no address of one side is known", () => {
  const nowhere = punchSide("198.51.100.2", { externalIp: null }, { candidates: [] });
  assertEquals(planPunch(A, nowhere, { role: "controlling" }).method, "impossible");
  assertEquals(planPunch(nowhere, A, { role: "controlled" }).method, "impossible");
});

Deno.test("planPunch() is impossible between an IPv4 address and an IPv6 address", () => {
  const v6 = punchSide("2001:db8::2");
  assertEquals(planPunch(A, v6, { role: "controlling" }).method, "impossible");
});

Deno.test("planPunch() dials the interfaces behind the same NAT, and hairpins a little later", () => {
  const [a, b] = ["192.168.1.5", "192.168.1.6"].map((ip, i) =>
    punchSide("198.51.100.1", {}, {
      punchPort: 40_000 + i,
      candidates: [reflexive("198.51.100.1", 40_000 + i), hostCandidate(ip, 40_000 + i)],
    })
  ) as [PunchDescription, PunchDescription];
  const plan = planPunch(a, b, { role: "controlling" });
  assertEquals(targetsOf(plan), ["192.168.1.6:40001", "198.51.100.1:40001"]);
  assert(/same NAT/.test(plan.reason));
  const [lan, hairpin] = plan.dials.map(({ startMs }) => startMs);
  assert(hairpin! > lan!, "the LAN comes first");
});

Deno.test("planPunch() connects on a LAN without any server", () => {
  const [a, b] = ["192.168.1.5", "192.168.1.6"].map((ip) =>
    punchSide("", { externalIp: null, mapping: "unknown" }, { candidates: [hostCandidate(ip)] })
  ) as [PunchDescription, PunchDescription];
  const plan = planPunch(a, b, { role: "controlling" });
  assertEquals([plan.method, targetsOf(plan)], ["direct", ["192.168.1.6:40000"]]);
});

Deno.test("planPunch() uses IPv6 if a punch over IPv4 is impossible", () => {
  const side = (ip: string, v6: string) =>
    punchSide(ip, RANDOM, { candidates: [hostCandidate(v6)] });
  const plan = planPunch(side("198.51.100.1", "2001:db8::1"), side("198.51.100.2", "2001:db8::2"), {
    role: "controlling",
  });
  assertEquals([plan.method, targetsOf(plan)], ["direct", ["2001:db8::2:40000"]]);
});

Deno.test("planPunch() treats unknown filtering as the strictest", () => {
  const plan = planPunch(behind({ filtering: "unknown" }), behind(RANDOM, "198.51.100.1"), {
    role: "controlling",
  });
  assertEquals(plan.method, "birthday");
});

function behind(
  profile: Partial<PunchDescription["profile"]>,
  externalIp = "198.51.100.2",
): PunchDescription {
  return punchSide(externalIp, profile);
}

function targetsOf({ dials }: PunchPlan): string[] {
  return dials.flatMap(({ targets }) => targets.map(({ ip, port }) => `${ip}:${port}`));
}

function only({ dials }: PunchPlan): CheckListEntry {
  assertEquals(dials.length, 1);
  return dials[0]!;
}

function range(first: number, count: number, step = 1): number[] {
  return Array.from({ length: count }, (_, i) => first + i * step);
}

const A = punchSide("198.51.100.1");
const B = punchSide("198.51.100.2");
const RANDOM_PORTS = { kind: "random", delta: null, range: null } as const;
