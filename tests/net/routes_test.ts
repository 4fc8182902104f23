import { assertEquals } from "@std/assert";
import { parseIpv4Gateways, parseIpv6Gateways } from "../../lib/net/system/gateways.ts";

/** `/proc/net/route` of Linux 6.18, on a host with an Ethernet interface. */
const IPV4 =
  `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT                                                       
lan	00000000	0101A8C0	0003	0	0	0	00000000	0	0	0                                                                                
lan	0001A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0                                                                                
`;

/** `/proc/net/ipv6_route` of the same host. */
const IPV6 =
  `26000001000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001      lan
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001      lan
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003      lan
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001       lo
26000001000000000000000000000002 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001      lan
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001      lan
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
`;

Deno.test("parseIpv4Gateways() parses the table of Linux", () => {
  assertEquals(parseIpv4Gateways(IPV4), [{ ip: "192.168.1.1", interfaceName: "lan" }]);
});

Deno.test("parseIpv6Gateways() parses the table of Linux, and adds the zone", () => {
  assertEquals(parseIpv6Gateways(IPV6), [{ ip: "fe80::1%lan", interfaceName: "lan" }]);
});

Deno.test("parseIpv6Gateways() adds no zone to other addresses", () => {
  const other = IPV6.replace(
    "fe800000000000000000000000000001",
    "fd000000000000000000000000000001",
  );
  assertEquals(parseIpv6Gateways(other), [{ ip: "fd00::1", interfaceName: "lan" }]);
});

Deno.test("parseIpv4Gateways() puts the lowest metric first", () => {
  const text = IPV4 + "wlan0\t00000000\tFE00A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n" +
    "eth1\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
  assertEquals(parseIpv4Gateways(text).map(({ ip }) => ip), [
    "192.168.1.1",
    "10.0.0.1",
    "192.168.0.254",
  ]);
});

Deno.test("parseIpv6Gateways() puts the lowest metric first", () => {
  const line = IPV6.split("\n")[2]!;
  const wireless = line.replace("00000400", "00000258").replace("lan", "wlan0");
  assertEquals(parseIpv6Gateways(`${line}\n${wireless}`).map(({ ip }) => ip), [
    "fe80::1%wlan0",
    "fe80::1%lan",
  ]);
});

Deno.test("parseIpv4Gateways() skips default routes without a gateway, such as tunnels", () => {
  const tunnel = "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
  assertEquals(parseIpv4Gateways(tunnel), []);
});

Deno.test("parseIpv4Gateways() skips reject routes", () => {
  const refused = "lo\t00000000\t0101A8C0\t0203\t0\t0\t0\t00000000\t0\t0\t0\n";
  assertEquals(parseIpv4Gateways(refused), []);
});

Deno.test("parseIpv4Gateways() and parseIpv6Gateways() skip lines in an unknown format", () => {
  for (
    const text of ["", "\n", "eth0", "eth0 00000000 zz 0003 0 0 0 00000000", "a b c d e f g h"]
  ) {
    assertEquals(parseIpv4Gateways(text), []);
    assertEquals(parseIpv6Gateways(text), []);
  }
});
