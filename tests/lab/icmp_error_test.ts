import { assertEquals, assertThrows } from "@std/assert";
import { buildPortUnreachable } from "../../lab/kernel/icmp_error.ts";
import { parsePacket } from "../../lab/kernel/ip_packet.ts";
import { checksum } from "../../lab/kernel/checksum.ts";
import { parseIpHeader, transportChecksum } from "../../lab/kernel/ip_header.ts";

const IPV4_SYN = "4500003cdcf340003f060a5ec6336401c63364029cbf0009a0f55d4d00000000" +
  "a002faf071eb0000020405b40402080af857f352000000000103030a";
const IPV6_SYN =
  "600c8c9f0028063f20010db800010000000000000000000220010db8000200000000000000000002" +
  "13880009b8e5ef5f00000000a002fd2033050000020405a00402080a59e4a6b7000000000103030a";

Deno.test("buildPortUnreachable() refuses a SYN in the name of its destination", () => {
  for (const text of [IPV4_SYN, IPV6_SYN]) {
    const syn = Uint8Array.fromHex(text);
    const original = parsePacket(syn);
    if (original === undefined || original.protocol === "icmp-error") throw new TypeError(text);
    const error = buildPortUnreachable(syn, original.destination.ip);
    const parsed = parsePacket(error);
    assertEquals(parsed, {
      protocol: "icmp-error",
      sourceIp: original.destination.ip,
      destinationIp: original.source.ip,
      original: { ...original, tcpFlags: { syn: false, ack: false, fin: false, rst: false } },
    });
    const ip = parseIpHeader(error, 0)!;
    if (ip.family === 4) {
      assertEquals(error.subarray(20, 22), new Uint8Array([3, 3]));
      assertEquals([checksum(error.subarray(0, 20)), checksum(error.subarray(20))], [0, 0]);
    } else {
      assertEquals(error.subarray(40, 42), new Uint8Array([1, 4]));
      assertEquals(transportChecksum(error, ip.source, 16, ip.payload, 58), 0);
    }
  }
});

Deno.test("buildPortUnreachable() rejects bytes that are not an IP packet", () => {
  assertThrows(() => buildPortUnreachable(new Uint8Array(10), "192.0.2.1"), TypeError);
});
