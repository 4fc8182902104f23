import { assertEquals } from "@std/assert";
import {
  A,
  build,
  EXTERNAL_IP,
  icmpError,
  sendTcp,
  SYN,
  tcp,
  X11,
  X12,
  X21,
} from "./nat_fixtures.ts";

Deno.test("an unsolicited SYN is dropped, reset or refused by ICMP, with or without a mapping", () => {
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

    const refusing = build({ unsolicitedSyn: "icmp" });
    sendTcp(refusing, A, X11);
    assertEquals(refusing.inbound(tcp(X21, to, SYN), 0), {
      action: "refuse",
      packet: icmpError(EXTERNAL_IP, "198.51.100.2", tcp(X21, to, SYN)),
    });
    assertEquals(refusing.inbound(tcp(X21, to, { ack: true }), 0).action, "drop");
  }
});

Deno.test("a crossed SYN is treated as crossedSyn says, whatever other SYNs get", () => {
  const actions = { accept: "forward", drop: "drop", reset: "reset", strict: "drop" } as const;
  for (const [crossedSyn, action] of Object.entries(actions) as [keyof typeof actions, string][]) {
    const nat = build({ crossedSyn, unsolicitedSyn: "reset" });
    const external = sendTcp(nat, A, X11);
    assertEquals(nat.inbound(tcp(X11, external, SYN), 0).action, action);
    assertEquals(nat.inbound(tcp(X11, external, { syn: true, ack: true }), 0).action, "forward");
  }
});

Deno.test("a strict NAT lets no SYN-ACK out that answers no SYN", () => {
  for (const [crossedSyn, action] of [["drop", "forward"], ["strict", "drop"]] as const) {
    const nat = build({ crossedSyn });
    sendTcp(nat, A, X11);
    assertEquals(nat.outbound(tcp(A, X11, { syn: true, ack: true }), 0).action, action);
  }
});

Deno.test("a full NAT opens no session from either side until one has expired", () => {
  const nat = build({ maxSessions: 2, filtering: "endpoint-independent" });
  const external = sendTcp(nat, A, X11);
  sendTcp(nat, A, X12);
  const full = { action: "drop", reason: "sessions-exhausted" } as const;
  assertEquals(nat.outbound(tcp(A, X21, SYN), 0), full);
  assertEquals(nat.inbound(tcp(X21, external, SYN), 0), full);
  assertEquals(nat.outbound(tcp(A, X11, SYN), 0).action, "forward");
  assertEquals(nat.outbound(tcp(A, X21, SYN), 240_001).action, "forward");
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

Deno.test("a RST ends only its own session of a shared mapping", () => {
  const nat = build({ resetEndsMapping: true });
  const external = sendTcp(nat, A, X11);
  sendTcp(nat, A, X21);
  nat.inbound(tcp(X11, external, { rst: true }), 0);
  assertEquals(nat.inbound(tcp(X11, external, SYN), 0), { action: "drop", reason: "filtered" });
  assertEquals(nat.inbound(tcp(X21, external, SYN), 0).action, "forward");
});

Deno.test("a RST that matches no session is dropped and opens nothing", () => {
  const nat = build({ filtering: "endpoint-independent" });
  assertEquals(nat.outbound(tcp(A, X11, { rst: true }), 0), {
    action: "drop",
    reason: "no-session",
  });
  const external = sendTcp(nat, A, X11);
  assertEquals(nat.inbound(tcp(X21, external, { rst: true }), 0).action, "drop");
});

Deno.test("TCP sessions have the transitory timeout until established, and again once closing", () => {
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

Deno.test("the RST for a hairpinned SYN goes to its internal source", () => {
  const nat = build({ unsolicitedSyn: "reset" });
  const to = `${EXTERNAL_IP}:9`;
  assertEquals(nat.outbound(tcp(A, to, SYN), 0), {
    action: "reset",
    packet: tcp(to, A, { rst: true, ack: true }),
  });
});
