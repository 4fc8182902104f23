import { assertEquals } from "@std/assert";
import { clampMss } from "../../lab/kernel/mss_clamp.ts";
import { parseIpHeader, transportChecksum } from "../../lab/kernel/ip_header.ts";

/** SYNs of a Linux host, which announce 1460 and 1440 bytes. */
const IPV4_SYN = "4500003cdcf340003f060a5ec6336401c63364029cbf0009a0f55d4d00000000" +
  "a002faf071eb0000020405b40402080af857f352000000000103030a";
const IPV6_SYN =
  "600c8c9f0028063f20010db800010000000000000000000220010db8000200000000000000000002" +
  "13880009b8e5ef5f00000000a002fd2033050000020405a00402080a59e4a6b7000000000103030a";

Deno.test("clampMss() lowers what a SYN announces, and its checksum stays right", () => {
  for (const [text, mss, length] of [[IPV4_SYN, 1360, 4], [IPV6_SYN, 1340, 16]] as const) {
    const packet = hex(text);
    clampMss(packet, 1400);
    assertEquals(announced(packet), mss);
    const ip = parseIpHeader(packet, 0)!;
    assertEquals(transportChecksum(packet, ip.source, length, ip.payload, 6), 0);
  }
});

Deno.test("clampMss() lowers an option at an odd offset as well", () => {
  const packet = hex(IPV4_SYN.replace("020405b40402", "01020405b404"));
  const ip = parseIpHeader(packet, 0)!;
  const sum = new DataView(packet.buffer, ip.payload + 16);
  sum.setUint16(0, 0);
  sum.setUint16(0, transportChecksum(packet, ip.source, 4, ip.payload, 6));
  clampMss(packet, 1400);
  assertEquals(packet.subarray(41, 45), hex("02040550"));
  assertEquals(transportChecksum(packet, ip.source, 4, ip.payload, 6), 0);
});

Deno.test("clampMss() leaves what is small enough, and what is no SYN", () => {
  for (const text of [IPV4_SYN, IPV6_SYN]) {
    const packet = hex(text);
    clampMss(packet, 1500);
    assertEquals(packet, hex(text));
  }
  const segment = hex(IPV4_SYN.replace("a002faf0", "a010faf0"));
  const before = segment.slice();
  clampMss(segment, 1400);
  assertEquals(segment, before);
});

Deno.test("clampMss() changes nothing but options and the checksum, however long options claim to be", () => {
  const [checksum, headerLength] = [36, 40];
  for (let kind = 0; kind < 256; kind++) {
    for (const length of [0, 1, 2, 4, 255]) {
      const packet = hex(IPV4_SYN);
      packet.set([kind, length], headerLength);
      const before = packet.slice();
      clampMss(packet, 1400);
      for (const each of [before, packet]) {
        each.fill(0, headerLength); // the options
        each.fill(0, checksum, checksum + 2);
      }
      assertEquals(packet, before);
    }
  }
});

function announced(packet: Uint8Array): number {
  const at = parseIpHeader(packet, 0)!.payload + 20;
  return packet[at + 2]! << 8 | packet[at + 3]!;
}

function hex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(text);
}
