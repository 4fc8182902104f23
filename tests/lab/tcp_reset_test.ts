import { assertEquals, assertThrows } from "@std/assert";
import { buildReset } from "../../lab/kernel/tcp_reset.ts";

/** SYNs to a closed port of a Linux host, and its RSTs. */
const IPV4_SYN = "4500003cdcf340003f060a5ec6336401c63364029cbf0009a0f55d4d00000000" +
  "a002faf071eb0000020405b40402080af857f352000000000103030a";
const IPV4_RST = "450000280000400040" +
  "06e665c6336402c633640100099cbf00000000a0f55d4e50140000c0590000";
const IPV6_SYN =
  "600c8c9f0028063f20010db800010000000000000000000220010db8000200000000000000000002" +
  "13880009b8e5ef5f00000000a002fd2033050000020405a00402080a59e4a6b7000000000103030a";
const IPV6_RST =
  "60066c2f0014064020010db800020000000000000000000220010db8000100000000000000000002" +
  "0009138800000000b8e5ef605014000098800000";

Deno.test("buildReset() answers a SYN as Linux does", () => {
  assertEquals(buildReset(hex(IPV4_SYN)), hex(IPV4_RST));
});

Deno.test("buildReset() answers an IPv6 SYN as Linux does, but without a flow label", () => {
  const expected = hex(IPV6_RST);
  expected.set([0x60, 0, 0, 0]);
  assertEquals(buildReset(hex(IPV6_SYN)), expected);
});

Deno.test("buildReset() rejects bytes that are not a TCP segment", () => {
  assertThrows(() => buildReset(hex(IPV4_SYN).subarray(0, 30)), TypeError);
});

function hex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(text);
}
