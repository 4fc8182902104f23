import { assertEquals } from "@std/assert";
import type { SessionPacket } from "../../lab/model/nat_packet.ts";
import { A, B, build, EXTERNAL_IP, icmpError, send, udp, X11, X12 } from "./nat_fixtures.ts";

Deno.test("an ICMP error about a sent packet reaches its sender, with both addresses translated", () => {
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

Deno.test("an ICMP error from inside leaves with the external address in both headers", () => {
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

Deno.test("an ICMP error about a hairpinned packet returns to its sender", () => {
  const nat = build({ filtering: "endpoint-independent" });
  const [externalA, externalB] = [send(nat, A, X11), send(nat, B, X11)];
  nat.outbound(udp(A, externalB), 0);
  const error = icmpError("192.168.1.3", EXTERNAL_IP, udp(externalA, B));
  assertEquals(nat.outbound(error, 0), {
    action: "hairpin",
    packet: icmpError(EXTERNAL_IP, "192.168.1.2", udp(A, externalB)),
  });
});

Deno.test("an ICMP echo gets a unique identifier, and its reply returns", () => {
  const nat = build({});
  const echo = (source: string, destination: string): SessionPacket => ({
    ...udp(source, destination),
    protocol: "icmp",
  });
  send(nat, A, X11);
  const request = nat.outbound(echo("192.168.1.2:7", "198.51.100.1:0"), 0);
  assertEquals(request, {
    action: "forward",
    packet: echo(`${EXTERNAL_IP}:64519`, "198.51.100.1:0"), // 7, wrapped into 1024 to 65535
  });
  const reply = nat.inbound(echo("198.51.100.1:0", `${EXTERNAL_IP}:64519`), 0);
  assertEquals(reply, { action: "forward", packet: echo("198.51.100.1:0", "192.168.1.2:7") });
});
