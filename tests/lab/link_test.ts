import { assertEquals } from "@std/assert";
import { LabLink } from "../../lab/kernel/link.ts";
import { linkPlan } from "../../lab/kernel/topology.ts";
import type { NatPacket } from "../../lab/model/nat_packet.ts";

const PACKET: NatPacket = {
  protocol: "udp",
  source: { ip: "192.0.2.1", port: 1 },
  destination: { ip: "192.0.2.2", port: 2 },
};

Deno.test("a line sends one packet after another, and drops those that its buffer has no room for", () => {
  const plan = linkPlan({ delayMs: 5, megabitsPerSecond: 8, bufferBytes: 2500 }); // 1000 bytes a millisecond
  const link = new LabLink("line", plan);
  const cross = (nowMs: number) => link.cross("up", PACKET, 1000, nowMs, () => 0);
  assertEquals([cross(0), cross(0), cross(0)], [6, 7, "buffer-full"]);
  assertEquals(cross(0.5), 7.5);
  assertEquals(link.cross("down", PACKET, 1000, 0, () => 0), 6);
  assertEquals(cross(100), 6);
});

Deno.test("a line carries a packet that is larger than its buffer", () => {
  const link = new LabLink("line", linkPlan({ megabitsPerSecond: 8, bufferBytes: 10 }));
  const cross = () => link.cross("up", PACKET, 1000, 0, () => 0);
  assertEquals([cross(), cross()], [1, "buffer-full"]);
});

Deno.test("a link may be slower in one direction", () => {
  const link = new LabLink("line", linkPlan({ delayMs: { up: 90, down: 10 } }));
  assertEquals(link.cross("up", PACKET, 100, 0, () => 0), 90);
  assertEquals(link.cross("down", PACKET, 100, 0, () => 0), 10);
});

Deno.test("a link with an MTU drops longer packets", () => {
  const link = new LabLink("hole", linkPlan({ mtu: 1400 }));
  assertEquals(link.cross("up", PACKET, 1400, 0, () => 0), 0);
  assertEquals(link.cross("up", PACKET, 1401, 0, () => 0), "too-long");
});
