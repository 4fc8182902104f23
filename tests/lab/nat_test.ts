import { assert, assertEquals, assertThrows } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import { Nat } from "./nat.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "./nat_behavior.ts";
import type { NatPacket, NatVerdict, SessionPacket, TcpFlags } from "./nat_packet.ts";

/** The hosts of these tests; `X` are the two remote addresses with two ports each. */
const A = "192.168.1.2:5000";
const B = "192.168.1.3:5000";
const [X11, X12, X21] = ["198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:1"] as const;
const EXTERNAL_IP = "203.0.113.1";

Deno.test("a mapping is shared as endpoint-independent, address-dependent and -port-dependent say", () => {
  const shared = (mapping: NatBehavior["mapping"]) => {
    const nat = build({ mapping, allocation: { kind: "sequential", delta: 1 } });
    const [first, samePeer, sameIp, otherIp] = [X11, X11, X12, X21].map((to) => send(nat, A, to));
    return [samePeer === first, sameIp === first, otherIp === first];
  };
  assertEquals(shared("endpoint-independent"), [true, true, true]);
  assertEquals(shared("address-dependent"), [true, true, false]);
  assertEquals(shared("address-and-port-dependent"), [true, false, false]);
});

Deno.test("filtering lets in whom its behaviour says, after one packet out to one peer", () => {
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

Deno.test("one packet that the filter let in does not let others in", () => {
  const nat = build({ filtering: "address-dependent" });
  const external = send(nat, A, X11);
  nat.inbound(udp(X12, external), 0);
  nat.behavior = natBehavior({ filtering: "address-and-port-dependent" });
  assertEquals(nat.inbound(udp(X12, external), 0), { action: "drop", reason: "filtered" });
});

Deno.test("the inside answers a packet that was let in from the port that it was sent to", () => {
  const nat = build({
    mapping: "address-and-port-dependent",
    filtering: "endpoint-independent",
    allocation: { kind: "sequential", delta: 1 },
  });
  const external = send(nat, A, X11);
  nat.inbound(udp(X21, external), 0);
  assertEquals(send(nat, A, X21), external);
});

Deno.test("UDP and TCP have tables of their own, and TCP behaves differently if told so", () => {
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

Deno.test("inbound UDP keeps no mapping alive without udpInboundRefresh", () => {
  const nat = build({ udpTimeoutMs: 1000, udpInboundRefresh: false });
  const external = send(nat, A, X11, 0);
  assertEquals(nat.inbound(udp(X11, external), 999).action, "forward");
  assertEquals(nat.inbound(udp(X11, external), 1000).action, "drop");
});

Deno.test("a filter closes for a peer that was silent, while another keeps the mapping alive", () => {
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

Deno.test("a new behaviour applies to new mappings", () => {
  const nat = build({});
  const external = send(nat, A, X11);
  nat.behavior = natBehavior({ allocation: { kind: "offset", delta: 10 } });
  assertEquals(send(nat, A, X21), external);
  assertEquals(send(nat, B, X21), `${EXTERNAL_IP}:5010`);
});

Deno.test("an unsolicited SYN is dropped or reset, at a mapping and without one", () => {
  for (const to of [`${EXTERNAL_IP}:5000`, `${EXTERNAL_IP}:9`]) {
    const dropping = build({ unsolicitedSyn: "drop" });
    sendTcp(dropping, A, X11);
    assertEquals(dropping.inbound(tcp(X21, to, SYN), 0).action, "drop");

    const resetting = build({ unsolicitedSyn: "reset" });
    sendTcp(resetting, A, X11);
    assertEquals(resetting.inbound(tcp(X21, to, SYN), 0), {
      action: "reset",
      packet: tcp(to, X21, { rst: true, ack: true }),
    });
    assertEquals(resetting.inbound(tcp(X21, to, { ack: true }), 0).action, "drop");
  }
});

Deno.test("a crossed SYN is let in or dropped, never reset", () => {
  for (const [crossedSyn, action] of [["accept", "forward"], ["drop", "drop"]] as const) {
    const nat = build({ crossedSyn, unsolicitedSyn: "reset" });
    const external = sendTcp(nat, A, X11);
    assertEquals(nat.inbound(tcp(X11, external, SYN), 0).action, action);
    assertEquals(nat.inbound(tcp(X11, external, { syn: true, ack: true }), 0).action, "forward");
  }
});

Deno.test("RST from either side ends the mapping if resetEndsMapping", () => {
  for (const direction of ["inbound", "outbound"] as const) {
    for (const resetEndsMapping of [true, false]) {
      const nat = build({ resetEndsMapping });
      const external = sendTcp(nat, A, X11);
      const passed = direction === "inbound"
        ? nat.inbound(tcp(X11, external, { rst: true }), 0)
        : nat.outbound(tcp(A, X11, { rst: true }), 0);
      assertEquals(passed.action, "forward");
      assertEquals(
        nat.inbound(tcp(X11, external, SYN), 0).action,
        resetEndsMapping ? "drop" : "forward",
      );
    }
  }
});

Deno.test("RST ends only its own session of a shared mapping", () => {
  const nat = build({ resetEndsMapping: true });
  const external = sendTcp(nat, A, X11);
  sendTcp(nat, A, X21);
  nat.inbound(tcp(X11, external, { rst: true }), 0);
  assertEquals(nat.inbound(tcp(X11, external, SYN), 0), { action: "drop", reason: "filtered" });
  assertEquals(nat.inbound(tcp(X21, external, SYN), 0).action, "forward");
});

Deno.test("a RST about nothing is dropped and opens nothing", () => {
  const nat = build({ filtering: "endpoint-independent" });
  assertEquals(nat.outbound(tcp(A, X11, { rst: true }), 0), {
    action: "drop",
    reason: "no-session",
  });
  const external = sendTcp(nat, A, X11);
  assertEquals(nat.inbound(tcp(X21, external, { rst: true }), 0).action, "drop");
});

Deno.test("TCP sessions live by the transitory timeout until established and again once closing", () => {
  const timeouts = { tcpTransitoryTimeoutMs: 100, tcpEstablishedTimeoutMs: 10_000 };
  const nat = build(timeouts);
  const external = sendTcp(nat, A, X11);
  assertEquals(nat.inbound(tcp(X11, external, SYN), 100).action, "drop");

  sendTcp(nat, A, X11, 200);
  assertEquals(nat.inbound(tcp(X11, external, { syn: true, ack: true }), 250).action, "forward");
  assertEquals(nat.inbound(tcp(X11, external, { ack: true }), 10_000).action, "forward");
  assertEquals(nat.inbound(tcp(X11, external, { fin: true }), 10_100).action, "forward");
  assertEquals(nat.inbound(tcp(X11, external, { ack: true }), 10_200).action, "drop");
});

Deno.test("hairpinning shows the other host the external address of the first", () => {
  const nat = build({ hairpinning: true });
  const [external, toOther] = [send(nat, A, X11), send(nat, B, X11)];
  assertEquals(nat.outbound(udp(A, toOther), 0), { action: "drop", reason: "filtered" });
  assertEquals(nat.outbound(udp(B, external), 0), { action: "hairpin", packet: udp(toOther, A) });
});

Deno.test("without hairpinning a packet to the own external address is dropped", () => {
  const nat = build({ hairpinning: false, filtering: "endpoint-independent" });
  const external = send(nat, A, X11);
  assertEquals(nat.outbound(udp(B, external), 0), { action: "drop", reason: "no-hairpinning" });
});

Deno.test("a hairpinned SYN that is reset is answered at its internal source", () => {
  const nat = build({ unsolicitedSyn: "reset" });
  const to = `${EXTERNAL_IP}:9`;
  assertEquals(nat.outbound(tcp(A, to, SYN), 0), {
    action: "reset",
    packet: tcp(to, A, { rst: true, ack: true }),
  });
});

Deno.test("a firewall translates nothing and filters", () => {
  const nat = new Nat([], NAT_BEHAVIORS.firewall, noRandom);
  const host = "203.0.113.7:5000";
  assertEquals(nat.outbound(udp(host, X11), 0), { action: "forward", packet: udp(host, X11) });
  assertEquals(nat.inbound(udp(X11, host), 0), { action: "forward", packet: udp(X11, host) });
  assertEquals(nat.inbound(udp(X12, host), 0), { action: "drop", reason: "filtered" });
  assertEquals(nat.inbound(udp(X11, "203.0.113.7:1"), 0), { action: "drop", reason: "no-mapping" });
});

Deno.test("an ICMP error about a packet that was sent reaches its sender, both addresses translated", () => {
  const nat = build({ allocation: { kind: "offset", delta: 1 } });
  const external = send(nat, A, X11);
  assertEquals(nat.inbound(icmpError("198.51.100.9", EXTERNAL_IP, udp(external, X11)), 0), {
    action: "forward",
    packet: icmpError("198.51.100.9", "192.168.1.2", udp(A, X11)),
  });
  assertEquals(nat.inbound(icmpError("198.51.100.9", EXTERNAL_IP, udp(external, X12)), 0), {
    action: "drop",
    reason: "no-session",
  });
});

Deno.test("an ICMP error from inside leaves with the external address inside and out", () => {
  const nat = build({ allocation: { kind: "offset", delta: 1 } });
  const external = send(nat, A, X11);
  assertEquals(nat.outbound(icmpError("192.168.1.2", "198.51.100.1", udp(X11, A)), 0), {
    action: "forward",
    packet: icmpError(EXTERNAL_IP, "198.51.100.1", udp(X11, external)),
  });
  assertEquals(
    nat.outbound(icmpError("192.168.1.2", "198.51.100.1", udp(X12, A)), 0).action,
    "drop",
  );
});

Deno.test("an ICMP error about a hairpinned packet comes back to the host that sent it", () => {
  const nat = build({ filtering: "endpoint-independent" });
  const [externalA, externalB] = [send(nat, A, X11), send(nat, B, X11)];
  nat.outbound(udp(A, externalB), 0);
  const error = icmpError("192.168.1.3", EXTERNAL_IP, udp(externalA, B));
  assertEquals(nat.outbound(error, 0), {
    action: "hairpin",
    packet: icmpError(EXTERNAL_IP, "192.168.1.2", udp(A, externalB)),
  });
});

Deno.test("an ICMP echo keeps its identifier free of others' and finds back", () => {
  const nat = build({});
  const echo = (source: string, destination: string): SessionPacket => ({
    ...udp(source, destination),
    protocol: "icmp",
  });
  send(nat, A, X11);
  const request = nat.outbound(echo("192.168.1.2:7", "198.51.100.1:0"), 0);
  assertEquals(request, {
    action: "forward",
    packet: echo(`${EXTERNAL_IP}:64519`, "198.51.100.1:0"), // 7 folded into 1024 to 65535
  });
  const reply = nat.inbound(echo("198.51.100.1:0", `${EXTERNAL_IP}:64519`), 0);
  assertEquals(reply, { action: "forward", packet: echo("198.51.100.1:0", "192.168.1.2:7") });
});

Deno.test("paired pooling keeps a host on one external address, arbitrary pooling does not", () => {
  const externalIps = ["203.0.113.1", "203.0.113.2"];
  const symmetric = { ...NAT_BEHAVIORS.symmetricPreserving };
  const usedBy = (nat: Nat, host: string) =>
    [X11, X12, X21].map((remote) => send(nat, host, remote).split(":")[0]);

  const paired = new Nat(externalIps, natBehavior({ pooling: "paired" }, symmetric), noRandom);
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

Deno.test("a NAT without an external address and a port range outside 1-65535 are refused", () => {
  assertThrows(() => new Nat([], NAT_BEHAVIORS.fullCone, noRandom), RangeError);
  assertThrows(() => natBehavior({ portRange: [0, 10] }), RangeError);
  assertThrows(() => natBehavior({ portRange: [20, 10] }), RangeError);
});

function build(changes: Partial<NatBehavior>): Nat {
  return new Nat([EXTERNAL_IP], natBehavior(changes), noRandom);
}

/** Sends UDP out; the external address that it got. */
function send(nat: Nat, from: string, to: string, nowMs = 0): string {
  return externalOf(nat.outbound(udp(from, to), nowMs));
}

function sendTcp(nat: Nat, from: string, to: string, nowMs = 0): string {
  return externalOf(nat.outbound(tcp(from, to, SYN), nowMs));
}

function externalOf(verdict: NatVerdict): string {
  assert(verdict.action === "forward" && verdict.packet.protocol !== "icmp-error");
  const { ip, port } = verdict.packet.source;
  return `${ip}:${port}`;
}

function udp(source: string, destination: string): SessionPacket {
  return {
    protocol: "udp",
    source: endpoint(source),
    destination: endpoint(destination),
  };
}

/** Unlike an address to send to, it may have port 0, as the answering side of an ICMP echo. */
function endpoint(text: string): TransportAddress {
  const [ip, port] = text.split(":") as [string, string];
  return { ip, port: Number(port) };
}

function tcp(source: string, destination: string, tcpFlags: TcpFlags): SessionPacket {
  return { ...udp(source, destination), protocol: "tcp", tcpFlags };
}

function icmpError(sourceIp: string, destinationIp: string, original: SessionPacket): NatPacket {
  return { protocol: "icmp-error", sourceIp, destinationIp, original };
}

const SYN: TcpFlags = { syn: true };

const noRandom = () => 0;
