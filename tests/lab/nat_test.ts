import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Nat } from "../../lab/model/nat.ts";
import {
  NAT_BEHAVIORS,
  type NatAllocation,
  type NatBehavior,
  natBehavior,
} from "../../lab/model/nat_behavior.ts";
import type { NatVerdict } from "../../lab/model/nat_packet.ts";
import {
  A,
  B,
  build,
  EXTERNAL_IP,
  icmpError,
  send,
  sendTcp,
  tcp,
  udp,
  X11,
  X12,
  X21,
} from "./nat_fixtures.ts";

Deno.test("destinations share a mapping as the mapping behavior says", () => {
  const shared = (mapping: NatBehavior["mapping"]) => {
    const nat = build({ mapping, allocation: { kind: "sequential", delta: 1 } });
    const [first, samePeer, sameIp, otherIp] = [X11, X11, X12, X21].map((to) => send(nat, A, to));
    return [samePeer === first, sameIp === first, otherIp === first];
  };
  assertEquals(shared("endpoint-independent"), [true, true, true]);
  assertEquals(shared("address-dependent"), [true, true, false]);
  assertEquals(shared("address-and-port-dependent"), [true, false, false]);
});

Deno.test("after one outbound packet, a filter admits the peers that the filtering behavior says", () => {
  const lets = (filtering: NatBehavior["filtering"]) => {
    const nat = build({ filtering });
    const external = send(nat, A, X11);
    return [X11, X12, X21].map((from) => nat.inbound(udp(from, external), 0).action);
  };
  assertEquals(lets("endpoint-independent"), ["forward", "forward", "forward"]);
  assertEquals(lets("address-dependent"), ["forward", "forward", "drop"]);
  assertEquals(lets("address-and-port-dependent"), ["forward", "drop", "drop"]);
});

Deno.test("an inbound packet is forwarded to the internal address of its mapping", () => {
  const nat = build({});
  const verdict = nat.inbound(udp(X11, send(nat, A, X11)), 0);
  assertEquals(verdict, { action: "forward", packet: udp(X11, A) });
});

Deno.test("an inbound packet to a port without a mapping, or another address, is dropped", () => {
  const nat = build({ filtering: "endpoint-independent" });
  send(nat, A, X11);
  const dropped: NatVerdict = { action: "drop", reason: "no-mapping" };
  assertEquals(nat.inbound(udp(X11, `${EXTERNAL_IP}:5001`), 0), dropped);
  assertEquals(nat.inbound(udp(X11, "203.0.113.9:5000"), 0), dropped);
});

Deno.test("an admitted packet does not open the filter for others", () => {
  const nat = build({ filtering: "address-dependent" });
  const external = send(nat, A, X11);
  nat.inbound(udp(X12, external), 0);
  nat.behavior = natBehavior({ filtering: "address-and-port-dependent" });
  assertEquals(nat.inbound(udp(X12, external), 0), { action: "drop", reason: "filtered" });
});

Deno.test("the answer to an admitted packet comes from the port it was sent to", () => {
  const nat = build({
    mapping: "address-and-port-dependent",
    filtering: "endpoint-independent",
    allocation: { kind: "sequential", delta: 1 },
  });
  const external = send(nat, A, X11);
  nat.inbound(udp(X21, external), 0);
  assertEquals(send(nat, A, X21), external);
});

Deno.test("UDP and TCP have separate tables, and TCP can behave differently", () => {
  const nat = build({
    tcp: { mapping: "address-and-port-dependent", allocation: { kind: "offset", delta: 7 } },
  });
  assertEquals([send(nat, A, X11), send(nat, A, X21)], [
    `${EXTERNAL_IP}:5000`,
    `${EXTERNAL_IP}:5000`,
  ]);
  assertEquals(nat.inbound(tcp(X11, `${EXTERNAL_IP}:5000`, {}), 0).action, "drop");
  assertEquals(sendTcp(nat, A, X11), `${EXTERNAL_IP}:5007`);
  assertEquals(sendTcp(nat, A, X21), `${EXTERNAL_IP}:5008`);
});

Deno.test("a UDP mapping ends when neither side has used it for the timeout", () => {
  const nat = build({ udpTimeoutMs: 1000, allocation: { kind: "sequential", delta: 1 } });
  const external = send(nat, A, X11, 0);
  assertEquals(nat.inbound(udp(X11, external), 999).action, "forward");
  assertEquals(nat.inbound(udp(X11, external), 1998).action, "forward");
  assertEquals(nat.inbound(udp(X11, external), 2998), { action: "drop", reason: "no-mapping" });
  assert(send(nat, A, X11, 2998) !== external);
});

Deno.test("inbound UDP does not keep a mapping alive without udpInboundRefresh", () => {
  const nat = build({ udpTimeoutMs: 1000, udpInboundRefresh: false });
  const external = send(nat, A, X11, 0);
  assertEquals(nat.inbound(udp(X11, external), 999).action, "forward");
  assertEquals(nat.inbound(udp(X11, external), 1000).action, "drop");
});

Deno.test("a filter closes for a silent peer although another keeps the mapping alive", () => {
  const nat = build({ udpTimeoutMs: 1000 });
  const external = send(nat, A, X11, 0);
  send(nat, A, X21, 600);
  assertEquals(nat.inbound(udp(X11, external), 1200), { action: "drop", reason: "filtered" });
  assertEquals(nat.inbound(udp(X21, external), 1200).action, "forward");
});

Deno.test("flush() forgets mappings and filters", () => {
  const nat = build({ filtering: "endpoint-independent" });
  const external = send(nat, A, X11);
  nat.flush();
  assertEquals(nat.inbound(udp(X11, external), 0), { action: "drop", reason: "no-mapping" });
});

Deno.test("a new behavior applies to new mappings", () => {
  const nat = build({});
  const external = send(nat, A, X11);
  nat.behavior = natBehavior({ allocation: { kind: "offset", delta: 10 } });
  assertEquals(send(nat, A, X21), external);
  assertEquals(send(nat, B, X21), `${EXTERNAL_IP}:5010`);
});

Deno.test("hairpinning shows the other host the external address of the first", () => {
  const nat = build({ hairpinning: true });
  const [external, toOther] = [send(nat, A, X11), send(nat, B, X11)];
  assertEquals(nat.outbound(udp(A, toOther), 0), { action: "drop", reason: "filtered" });
  assertEquals(nat.outbound(udp(B, external), 0), { action: "hairpin", packet: udp(toOther, A) });
});

Deno.test("without hairpinning, a packet to the host's own external address is dropped", () => {
  const nat = build({ hairpinning: false, filtering: "endpoint-independent" });
  const external = send(nat, A, X11);
  assertEquals(nat.outbound(udp(B, external), 0), { action: "drop", reason: "no-hairpinning" });
});

Deno.test("a firewall filters without translating", () => {
  const nat = new Nat([], NAT_BEHAVIORS.firewall, () => 0);
  const host = "203.0.113.7:5000";
  assertEquals(nat.outbound(udp(host, X11), 0), { action: "forward", packet: udp(host, X11) });
  assertEquals(nat.inbound(udp(X11, host), 0), { action: "forward", packet: udp(X11, host) });
  assertEquals(nat.inbound(udp(X12, host), 0), { action: "drop", reason: "filtered" });
  assertEquals(nat.inbound(udp(X11, "203.0.113.7:1"), 0), { action: "drop", reason: "no-mapping" });
});

Deno.test("paired pooling keeps a host on one external address, arbitrary pooling does not", () => {
  const externalIps = ["203.0.113.1", "203.0.113.2"];
  const symmetric = { ...NAT_BEHAVIORS.symmetricPreserving };
  const usedBy = (nat: Nat, host: string) =>
    [X11, X12, X21].map((remote) => send(nat, host, remote).split(":")[0]);

  const paired = new Nat(externalIps, natBehavior({ pooling: "paired" }, symmetric), () => 0);
  assertEquals(usedBy(paired, A), Array(3).fill("203.0.113.1"));
  assertEquals(usedBy(paired, B), Array(3).fill("203.0.113.2"));

  const turns = [0, 0.5, 0.9];
  const arbitrary = new Nat(
    externalIps,
    natBehavior({ pooling: "arbitrary" }, symmetric),
    () => turns.shift()!,
  );
  assertEquals(usedBy(arbitrary, A), ["203.0.113.1", "203.0.113.2", "203.0.113.2"]);
});

Deno.test("a NAT needs an external address, and a port range within 1-65535", () => {
  assertThrows(() => new Nat([], NAT_BEHAVIORS.fullCone, () => 0), RangeError);
  assertThrows(() => natBehavior({ portRange: [0, 10] }), RangeError);
  assertThrows(() => natBehavior({ portRange: [20, 10] }), RangeError);
});

Deno.test("with any behavior, answers return to the sender, and no two hosts share an external port", () => {
  const behavior = fc.record({
    mapping: fc.constantFrom(...BEHAVIORS),
    filtering: fc.constantFrom(...BEHAVIORS),
    allocation: fc.constantFrom<NatAllocation>(
      { kind: "preserving" },
      { kind: "offset", delta: 7 },
      { kind: "sequential", delta: -3 },
      { kind: "dependent", delta: 2 },
      { kind: "random" },
    ),
    portRange: fc.constant([5000, 5009] as const),
  });
  const sends = fc.array(fc.tuple(fc.constantFrom(A, B), fc.constantFrom(X11, X12, X21)));
  fc.assert(fc.property(behavior, sends, (behavior, sends) => {
    const nat = new Nat([EXTERNAL_IP], natBehavior(behavior), Math.random);
    const owners = new Map<string, string>();
    for (const [from, to] of sends) {
      const external = send(nat, from, to);
      assertEquals(owners.get(external) ?? from, from);
      owners.set(external, from);
      const answer = nat.inbound(udp(to, external), 0);
      assertEquals(answer, { action: "forward", packet: udp(to, from) });
    }
  }));
});

Deno.test("a NAT without free ports drops packets that need one, until a mapping expires", () => {
  const nat = build({ portRange: [5000, 5001], udpTimeoutMs: 1000 });
  send(nat, A, X11, 0);
  send(nat, B, X11, 500);
  const third = udp("192.168.1.4:5000", X11);
  assertEquals(nat.outbound(third, 999), { action: "drop", reason: "ports-exhausted" });
  assertEquals(nat.outbound(third, 1000).action, "forward");
});

const BEHAVIORS = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
] as const;

Deno.test("an unsolicited datagram is dropped, or refused by ICMP", () => {
  for (const filtering of ["address-and-port-dependent", "endpoint-independent"] as const) {
    const dropping = build({ filtering });
    assertEquals(dropping.inbound(udp(X11, `${EXTERNAL_IP}:9`), 0), {
      action: "drop",
      reason: "no-mapping",
    });
    const refusing = build({ filtering, unsolicitedUdp: "icmp" });
    const packet = udp(X11, `${EXTERNAL_IP}:9`);
    const error = icmpError(EXTERNAL_IP, "198.51.100.1", packet);
    assertEquals(refusing.inbound(packet, 0), { action: "refuse", packet: error });
  }
});

Deno.test("a NAT that keeps the parity of ports maps odd ones to odd ones", () => {
  for (const kind of ["random", "preserving"] as const) {
    let seed = 1;
    const random = () => (seed = seed * 48271 % 0x7fffffff) / 0x7fffffff;
    const behavior = natBehavior({ allocation: { kind }, portParity: true });
    const nat = new Nat([EXTERNAL_IP], behavior, random);
    for (let port = 5000; port < 5040; port++) {
      for (const host of ["192.168.1.2", "192.168.1.3"]) {
        const external = Number(send(nat, `${host}:${port}`, X11).split(":")[1]);
        assertEquals(external % 2, port % 2);
      }
    }
  }
});

Deno.test("a NAT that overloads ports lets two hosts share one, except towards one remote port", () => {
  const nat = build({ portOverloading: true });
  const [a, b] = [A, B].map((host, index) => send(nat, host, [X11, X12][index]!));
  assertEquals([a, b], [`${EXTERNAL_IP}:5000`, `${EXTERNAL_IP}:5000`]);
  assertEquals(receiver(nat, X11), A);
  assertEquals(receiver(nat, X12), B);
  assertEquals(send(nat, "192.168.1.4:5000", X11), `${EXTERNAL_IP}:5001`);
});

Deno.test("a shared port is the latest host's for those whom its filter lets in from elsewhere", () => {
  const nat = build({ portOverloading: true, filtering: "endpoint-independent" });
  send(nat, A, X11, 0);
  send(nat, B, X12, 1000);
  assertEquals(receiver(nat, X21, 2000), B);
  send(nat, A, X11, 200_000);
  assertEquals(receiver(nat, X21, 302_001), A);
});

/** Which host inside gets what is sent to the external port 5000. */
function receiver(nat: Nat, from: string, nowMs = 0): string {
  const verdict = nat.inbound(udp(from, `${EXTERNAL_IP}:5000`), nowMs);
  if (verdict.action !== "forward" || verdict.packet.protocol === "icmp-error") {
    return verdict.action;
  }
  const { ip, port } = verdict.packet.destination;
  return `${ip}:${port}`;
}
