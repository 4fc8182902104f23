import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { NatPacket } from "../../lab/model/nat_packet.ts";
import { decrementTtl, parsePacket, rewritePacket } from "../../lab/kernel/ip_packet.ts";

/**
 * Packets before and after Linux's own NAT (nftables, `snat to 198.51.100.1:40000-40999`), captured on both
 * sides of it. The lab must change addresses, ports, TTL and checksums in the same way.
 */
const LINUX = {
  udp: {
    inside: "4500001f603f40004011eeaec0a80102c633640213880009000b2d026f6464",
    outside: "4500001f603f40003f118724c6336401c63364029f050009000b38fa6f6464",
  },
  tcpSyn: {
    inside: "4500003cdcf34000400671e8c0a80102c633640213880009a0f55d4d00000000" +
      "a002faf063ad0000020405b40402080af857f352000000000103030a",
    outside: "4500003cdcf340003f060a5ec6336401c63364029cbf0009a0f55d4d00000000" +
      "a002faf071eb0000020405b40402080af857f352000000000103030a",
  },
  echoRequest: {
    inside: "450000241a244000400134d5c0a80102c63364020800bf172cd700010001020304050607",
    outside: "450000241a2440003f01cd4ac6336401c63364020800bf172cd700010001020304050607",
  },
  /** An ICMP error about `udp` from the remote host, on its way in. */
  portUnreachable: {
    outside: "45c0003b6b2100004001ba76c6336402c633640103035184000000004500001f603f40003f118724" +
      "c6336401c63364029f050009000b38fa6f6464",
    inside: "45c0003b6b2100003f012401c6336402c0a801020303e8f9000000004500001f603f40003f11efae" +
      "c0a80102c633640213880009000b2d026f6464",
  },
  ipv6PortUnreachable: {
    outside:
      "60089a61003b3a4020010db800020000000000000000000220010db800010000000000000000000201049f3e" +
      "00000000600f9291000b113f20010db800010000000000000000000220010db8000200000000000000000002" +
      "13880009000bbd696f6464",
    inside:
      "60089a61003b3a3f20010db800020000000000000000000220010db800010000000000000000000201049f3e" +
      "00000000600f9291000b113f20010db800010000000000000000000220010db8000200000000000000000002" +
      "13880009000bbd696f6464",
  },
} as const;

Deno.test("parsePacket() reads a UDP datagram, a SYN and an echo request", () => {
  assertEquals(parsePacket(hex(LINUX.udp.inside)), {
    protocol: "udp",
    source: { ip: "192.168.1.2", port: 5000 },
    destination: { ip: "198.51.100.2", port: 9 },
  });
  assertEquals(parsePacket(hex(LINUX.tcpSyn.outside)), {
    protocol: "tcp",
    source: { ip: "198.51.100.1", port: 40127 },
    destination: { ip: "198.51.100.2", port: 9 },
    tcpFlags: { syn: true, ack: false, fin: false, rst: false },
  });
  assertEquals(parsePacket(hex(LINUX.echoRequest.inside)), {
    protocol: "icmp",
    source: { ip: "192.168.1.2", port: 0x2cd7 },
    destination: { ip: "198.51.100.2", port: 0 },
  });
});

Deno.test("parsePacket() reads an ICMP error and the packet that caused it, in IPv4 and IPv6", () => {
  assertEquals(parsePacket(hex(LINUX.portUnreachable.outside)), {
    protocol: "icmp-error",
    sourceIp: "198.51.100.2",
    destinationIp: "198.51.100.1",
    original: {
      protocol: "udp",
      source: { ip: "198.51.100.1", port: 40709 },
      destination: { ip: "198.51.100.2", port: 9 },
    },
  });
  assertEquals(parsePacket(hex(LINUX.ipv6PortUnreachable.outside)), {
    protocol: "icmp-error",
    sourceIp: "2001:db8:2::2",
    destinationIp: "2001:db8:1::2",
    original: {
      protocol: "udp",
      source: { ip: "2001:db8:1::2", port: 5000 },
      destination: { ip: "2001:db8:2::2", port: 9 },
    },
  });
});

Deno.test("decrementTtl() and rewritePacket() change packets as Linux's NAT does", () => {
  for (const [name, { inside, outside }] of Object.entries(LINUX)) {
    const inwards = name.toLowerCase().includes("unreachable");
    const [before, after] = inwards ? [outside, inside] : [inside, outside];
    const bytes = hex(before);
    assertEquals(decrementTtl(bytes), true);
    rewritePacket(bytes, parsePacket(hex(after))!);
    assertEquals(bytes, hex(after), name);
  }
});

Deno.test("rewritePacket() adds no checksum to a UDP datagram without one", () => {
  const bytes = hex(LINUX.udp.inside);
  bytes.set([0, 0], 26);
  rewritePacket(bytes, parsePacket(hex(LINUX.udp.outside))!);
  assertEquals([bytes[26], bytes[27]], [0, 0]);
});

Deno.test("rewriting a packet and back restores the same bytes", () => {
  const ip = fc.ipV4();
  const port = fc.integer({ min: 1, max: 65535 });
  const endpoint = fc.record({ ip, port });
  fc.assert(fc.property(endpoint, endpoint, (source, destination) => {
    for (const packet of [LINUX.udp.inside, LINUX.tcpSyn.inside]) {
      const bytes = hex(packet);
      const before = parsePacket(bytes)!;
      rewritePacket(bytes, { ...before, source, destination } as NatPacket);
      rewritePacket(bytes, before);
      assertEquals(bytes, hex(packet));
    }
  }));
});

Deno.test("decrementTtl() reports a packet whose TTL has expired", () => {
  const bytes = hex(LINUX.udp.inside);
  bytes[8] = 1;
  assertEquals(decrementTtl(bytes), false);
});

Deno.test("parsePacket() rejects fragments, other protocols and truncated packets", () => {
  const fragment = hex(LINUX.udp.inside);
  fragment[6] = 0x20;
  assertEquals(parsePacket(fragment), undefined);
  const igmp = hex(LINUX.udp.inside);
  igmp[9] = 2;
  assertEquals(parsePacket(igmp), undefined);
  for (const [name, { inside }] of Object.entries(LINUX)) {
    const headers = name === "tcpSyn" ? 40 : 28;
    for (let length = 0; length < headers; length++) {
      assertEquals(parsePacket(hex(inside).subarray(0, length)), undefined, `${name} ${length}`);
    }
  }
});

Deno.test("parsePacket() never throws", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 80 }),
      fc.constantFrom(0x45, 0x4f, 0x60),
      (bytes, first) => {
        bytes[0] = first;
        parsePacket(bytes);
      },
    ),
  );
});

function hex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(text);
}
