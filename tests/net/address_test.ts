import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  formatIp,
  formatTransportAddress,
  ipFamily,
  type IpScope,
  ipScope,
  ipToBytes,
  isIp,
  parseHostPort,
  parseIp,
  parsePort,
  parseTransportAddress,
  sameTransportAddress,
} from "../../lib/net/address.ts";

Deno.test("parseIp() reads the text forms of RFC 4291 §2.2", () => {
  for (
    const [text, canonical] of [
      ["ABCD:EF01:2345:6789:ABCD:EF01:2345:6789", "abcd:ef01:2345:6789:abcd:ef01:2345:6789"],
      ["2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a"],
      ["2001:DB8::8:800:200C:417A", "2001:db8::8:800:200c:417a"],
      ["FF01:0:0:0:0:0:0:101", "ff01::101"],
      ["0:0:0:0:0:0:0:1", "::1"],
      ["0:0:0:0:0:0:0:0", "::"],
      ["::", "::"],
      ["0:0:0:0:0:0:13.1.68.3", "::d01:4403"],
      ["::13.1.68.3", "::d01:4403"],
      ["0:0:0:0:0:FFFF:129.144.52.38", "::ffff:129.144.52.38"],
      ["::FFFF:8190:3426", "::ffff:129.144.52.38"],
    ] as const
  ) assertEquals(parseIp(text), canonical);
});

Deno.test("parseIp() returns the form that RFC 5952 §4 and §5 recommend", () => {
  for (
    const [text, canonical, rule] of [
      ["2001:0db8::0001", "2001:db8::1", "§4.1 no leading zeros"],
      ["2001:db8:0:0:0:0:2:1", "2001:db8::2:1", "§4.2.1 as short as possible"],
      ["2001:db8::0:1", "2001:db8::1", "§4.2.1 as short as possible"],
      ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1", "§4.2.2 not for one group"],
      ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1", "§4.2.3 the longest run"],
      ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1", "§4.2.3 the first of equal runs"],
      ["1:2:3:4:5:6:0:0", "1:2:3:4:5:6::", "§4.2 at the end"],
      ["0:0:3:4:5:6:7:8", "::3:4:5:6:7:8", "§4.2 at the start"],
      ["2001:DB8:AAAA:BBBB:CCCC:DDDD:EEEE:AAAA", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:aaaa", "§4.3"],
      [
        "::ffff:c000:0201",
        "::ffff:192.0.2.1",
        "§5 mixed notation where IPv4 is known to be inside",
      ],
    ] as const
  ) assertEquals(parseIp(text), canonical, rule);
});

Deno.test("parseIp() keeps the zone, which distinguishes link-local addresses", () => {
  assertEquals(parseIp("FE80:0::1%eth0"), "fe80::1%eth0");
  assertEquals(parseIp("fe80::1%wlp0s20f3.100"), "fe80::1%wlp0s20f3.100");
  assertEquals(ipToBytes("fe80::1%eth0"), ipToBytes("fe80::1"));
});

Deno.test("parseIp() accepts only dotted decimal for IPv4", () => {
  for (const ip of ["0.0.0.0", "255.255.255.255", "192.0.2.1"]) assertEquals(parseIp(ip), ip);
  assertEquals(ipToBytes("192.0.2.255"), Uint8Array.of(192, 0, 2, 255));
});

Deno.test("parseIp() takes as IPv4 what is four numbers from 0 to 255 without leading zeros", () => {
  const form = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;
  const isIpv4 = (text: string) =>
    form.test(text) && text.split(".").every((n) => Number(n) <= 255);
  const part = fc.oneof(
    fc.integer({ min: 0, max: 300 }).map(String),
    fc.constantFrom("", "00", "1e1", " 1", "+1", "0x1", "-0"),
  );
  const parts = fc.array(part, { minLength: 1, maxLength: 6 }).map((all) => all.join("."));
  const characters = fc.string({ unit: fc.constantFrom(..."0129.:a "), maxLength: 17 });
  fc.assert(
    fc.property(fc.oneof(parts, characters), (text) => {
      assertEquals(isIp(text) && !text.includes(":"), isIpv4(text), text);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("parseIp() rejects other text with a TypeError that quotes it", () => {
  for (const text of NOT_ADDRESSES) {
    assertFalse(isIp(text), text);
    assertThrows(() => parseIp(text), TypeError, JSON.stringify(text));
  }
  assertThrows(() => parseIp("1.2.3"), TypeError, 'Cannot parse IP address: "1.2.3"');
});

Deno.test("ipFamily() distinguishes IPv4 from IPv6", () => {
  assertEquals(ipFamily("192.0.2.1"), 4);
  for (const ip of ["::", "2001:db8::1", "::ffff:192.0.2.1"]) assertEquals(ipFamily(ip), 6);
});

Deno.test("formatIp() accepts four or sixteen bytes", () => {
  assertEquals(formatIp(Uint8Array.of(0, 192, 0, 2, 1).subarray(1)), "192.0.2.1");
  for (const length of [0, 3, 5, 15, 17]) {
    assertThrows(
      () => formatIp(new Uint8Array(length)),
      RangeError,
      `takes 4 or 16 bytes, not ${length}`,
    );
  }
});

Deno.test("ipScope() matches the IANA special-purpose registries up to the first and last addresses", () => {
  for (const [scope, ranges] of Object.entries(SCOPES)) {
    for (const ip of ranges.flat()) assertEquals(ipScope(ip), scope as IpScope, ip);
  }
});

Deno.test("ipScope() looks into IPv4-mapped addresses, and ignores zones", () => {
  assertEquals(ipScope("::ffff:127.0.0.1"), "loopback");
  assertEquals(ipScope("::ffff:c0a8:101"), "private");
  assertEquals(ipScope("::ffff:8.8.8.8"), "global");
  assertEquals(ipScope("fe80::1%eth0"), "link-local");
});

Deno.test("parseHostPort() accepts names and addresses, with and without brackets and port", () => {
  for (
    const [text, host, port] of [
      ["stun.example.net:3478", "stun.example.net", 3478],
      ["stun.example.net.", "stun.example.net.", 1],
      ["my_printer-2:80", "my_printer-2", 80],
      ["localhost", "localhost", 1],
      ["3com.com", "3com.com", 1],
      ["192.0.2.1", "192.0.2.1", 1],
      ["192.0.2.1:65535", "192.0.2.1", 65535],
      ["[2001:db8::1]:3478", "2001:db8::1", 3478],
      ["[fe80::1%eth0]:3478", "fe80::1%eth0", 3478],
      ["[::1]", "::1", 1],
      ["::1", "::1", 1],
      ["2001:db8::1", "2001:db8::1", 1],
    ] as const
  ) assertEquals(parseHostPort(text, 1), { host, port }, text);
});

Deno.test("parseHostPort() reports what is wrong", () => {
  for (
    const [text, message] of [
      ["stun.example.net", '"stun.example.net" has no port'],
      ["[::1]", '"[::1]" has no port'],
      ["::1", '"::1" has no port'],
      ["stun.example.net:", 'Cannot parse port: "" is not a number from 1 to 65535'],
      ["192.0.2.1:99999", 'Cannot parse port: "99999" is not a number from 1 to 65535'],
      ["[::1]:0", 'Cannot parse port: "0" is not a number from 1 to 65535'],
      ["[::1]:http", 'Cannot parse port: "http" is not a number from 1 to 65535'],
      ["192.0.2.256:80", '"192.0.2.256:80" names no host'],
      ["1.2.3:80", '"1.2.3:80" names no host'],
      ["[192.0.2.1]:80", '"[192.0.2.1]:80" names no host'],
      ["[stun.example.net]:80", '"[stun.example.net]:80" names no host'],
      ["[::1]80", '"[::1]80" names no host'],
      ["[::1", '"[::1" names no host'],
      ["2001:db8::1::2", '"2001:db8::1::2" names no host'],
      ["-dash.example:80", '"-dash.example:80" names no host'],
      ["two words:80", '"two words:80" names no host'],
      ["user@example.net:80", '"user@example.net:80" names no host'],
      ["a..b:80", '"a..b:80" names no host'],
      [":80", '":80" names no host'],
      ["", '"" names no host'],
    ] as const
  ) assertThrows(() => parseHostPort(text), TypeError, message);
});

Deno.test("parseHostPort() limits labels to 63 and names to 253 characters; RFC 1035 §2.3.4", () => {
  const label = "a".repeat(63);
  const longest = `${label}.${label}.${label}.${"a".repeat(61)}`;
  for (const host of [label, longest, `${longest}.`]) {
    assertEquals(parseHostPort(host, 1).host, host);
  }
  for (const host of [`${label}a`, `${label}a.example`, `${longest}a`]) {
    assertThrows(() => parseHostPort(host, 1), TypeError, "names no host");
  }
});

Deno.test("parsePort() accepts whole numbers from 1 to 65535", () => {
  for (const port of [1, 80, 65535]) assertEquals(parsePort(`${port}`), port);
  for (
    const text of [
      "0",
      "65536",
      "100000",
      "-1",
      "+1",
      "1.0",
      "1e3",
      "0x50",
      " 80",
      "80 ",
      "８０",
      "",
    ]
  ) {
    assertThrows(() => parsePort(text), TypeError, "is not a number from 1 to 65535");
  }
});

Deno.test("parseTransportAddress() rejects names, and returns the canonical address", () => {
  assertEquals(parseTransportAddress("[2001:DB8:0::1]:80"), { ip: "2001:db8::1", port: 80 });
  assertEquals(parseTransportAddress("192.0.2.1", 3478), { ip: "192.0.2.1", port: 3478 });
  assertThrows(() => parseTransportAddress("localhost:80"), TypeError, '"localhost"');
});

Deno.test("sameTransportAddress() compares IP address and port", () => {
  const address = { ip: "192.0.2.1", port: 80 };
  assert(sameTransportAddress(address, { ip: "192.0.2.1", port: 80 }));
  assertFalse(sameTransportAddress(address, { ip: "192.0.2.1", port: 81 }));
  assertFalse(sameTransportAddress(address, { ip: "192.0.2.2", port: 80 }));
});

Deno.test("ipToBytes() reverses formatIp(), and parseTransportAddress() reverses formatTransportAddress()", () => {
  fc.assert(
    fc.property(ipBytes(), fc.integer({ min: 1, max: 65535 }), (bytes, port) => {
      const ip = formatIp(bytes);
      assertEquals(ipToBytes(ip), bytes);
      assertEquals(parseIp(ip), ip, "canonical already");
      assertEquals(ipFamily(ip), bytes.length === 4 ? 4 : 6);
      const address = { ip, port };
      assertEquals(parseTransportAddress(formatTransportAddress(address)), address);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("ipToBytes() agrees with a URL parser on any notation of an IPv6 address", () => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const { hostname } = new URL(`http://[${text}]/`);
      assertEquals(ipToBytes(text), ipToBytes(hostname.slice(1, -1)));
      const canonical = parseIp(text);
      if (!canonical.startsWith("::ffff:")) assertEquals(`[${canonical}]`, hostname);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("the parsers throw nothing but TypeError for any text", () => {
  const pieces = fc.constantFrom(
    ..."0123456789abcdefxF:.[]%-_ \n@/０é",
    "::",
    "255",
    "ffff",
    "192.0.2.1",
    "%eth0",
    "65535",
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(pieces, { maxLength: 30 }).map((all) => all.join("")),
  );
  fc.assert(
    fc.property(text, (text) => {
      assertEquals(isIp(text), returns(() => parseIp(text)));
      returns(() => ipScope(text));
      returns(() => parsePort(text));
      returns(() => parseTransportAddress(text, 1));
      if (returns(() => parseHostPort(text, 1))) {
        const { host, port } = parseHostPort(text, 1);
        assert(/^[\w.:%-]+$/.test(host), `${host} is safe to print and to hand to a resolver`);
        assert(port >= 1 && port <= 65535);
      }
    }),
    { numRuns: 20_000 },
  );
});

Deno.test("the parsers reject text of a million characters", () => {
  for (const piece of ["1:", "::", "1.", "a-", "%", "%a", "[", "0", "a.", "-"]) {
    const text = piece.repeat(500_000);
    assertFalse(isIp(text), piece);
    assertFalse(returns(() => parseHostPort(text, 1)), piece);
    assertFalse(returns(() => parsePort(text)), piece);
  }
});

/** Whether the call returns. The test fails if it throws anything but TypeError. */
function returns(call: () => unknown): boolean {
  try {
    call();
    return true;
  } catch (error) {
    assert(error instanceof TypeError, `${error}`);
    return false;
  }
}

/** Four or sixteen bytes, often with the runs of zeros and the prefixes that matter for formatting. */
function ipBytes(): fc.Arbitrary<Uint8Array> {
  const group = fc.oneof(
    fc.constantFrom([0, 0], [0, 1], [0xff, 0xff]),
    fc.tuple(fc.nat({ max: 255 }), fc.nat({ max: 255 })),
  );
  const groups = (count: number) => {
    return fc.array(group, { minLength: count, maxLength: count })
      .map((all) => Uint8Array.from(all.flat()));
  };
  return fc.oneof(groups(2), groups(8));
}

const NOT_ADDRESSES = [
  "",
  " ",
  "1.2.3",
  "1.2.3.4.5",
  "256.1.1.1",
  "01.2.3.4",
  "1.2.3.04",
  "0x7f.0.0.1",
  "127.1",
  "2130706433",
  "1.2.3.4 ",
  "1.2.3.4\n",
  "１.2.3.4",
  "1.2.3.4%eth0",
  "1.2.3.-4",
  ":",
  ":::",
  "1",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "1:2:3:4:5:6:7:8::",
  "::1:2:3:4:5:6:7:8",
  "1::2::3",
  "1:::2",
  ":1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:",
  "12345::",
  "::g",
  "::-1",
  "::1.2.3",
  "::1.2.3.256",
  "::1.2.3.4:5",
  "1.2.3.4::",
  "1:2:3:4:5:6:7:1.2.3.4",
  "[::1]",
  "::1%",
  "::1%eth 0",
  "%eth0",
  "::1/128",
  "localhost",
];

/** First and last addresses of ranges, from the IANA special-purpose registries (RFC 6890 and its updates). */
const SCOPES: Record<IpScope, string[][]> = {
  "unspecified": [["0.0.0.0"], ["::"]],
  "loopback": [["127.0.0.0", "127.255.255.255"], ["::1"]],
  "link-local": [
    ["169.254.0.0", "169.254.255.255"],
    ["fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
  ],
  "private": [
    ["10.0.0.0", "10.255.255.255"],
    ["172.16.0.0", "172.31.255.255"],
    ["192.168.0.0", "192.168.255.255"],
    ["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
  ],
  "shared": [["100.64.0.0", "100.127.255.255"]],
  "translation": [
    ["192.0.0.0", "192.0.0.7"], // RFC 7335
    ["64:ff9b::", "64:ff9b::ffff:ffff"], // RFC 6052
    ["64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"], // RFC 8215
  ],
  "documentation": [
    ["192.0.2.0", "192.0.2.255"],
    ["198.51.100.0", "198.51.100.255"],
    ["203.0.113.0", "203.0.113.255"],
    ["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
    ["3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"], // RFC 9637
  ],
  "multicast": [
    ["224.0.0.0", "239.255.255.255"],
    ["ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
  ],
  "reserved": [
    ["0.0.0.1", "0.255.255.255"],
    ["192.0.0.8", "192.0.0.255"],
    ["198.18.0.0", "198.19.255.255"], // RFC 2544
    ["240.0.0.0", "255.255.255.255"],
    ["::2", "::1:0:0"],
    ["64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "64:ff9b::1:0:0", "64:ff9b:2::"],
    ["100::", "100::ffff:ffff:ffff:ffff"], // RFC 6666: discard
    ["2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"], // Teredo and other protocols
    ["1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::", "5f00::"],
    ["fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::", "fec0::"],
  ],
  "global": [
    ["1.0.0.0", "9.255.255.255"],
    ["11.0.0.0", "100.63.255.255"],
    ["100.128.0.0", "126.255.255.255"],
    ["128.0.0.0", "169.253.255.255"],
    ["169.255.0.0", "172.15.255.255"],
    ["172.32.0.0", "191.255.255.255"],
    ["192.0.1.0", "192.0.3.0"],
    ["192.167.255.255", "192.169.0.0"],
    ["198.17.255.255", "198.20.0.0"],
    ["198.51.99.255", "198.51.101.0"],
    ["203.0.112.255", "203.0.114.0", "223.255.255.255"],
    ["2000::", "2001:200::", "2001:db7:ffff::", "2001:db9::", "2606:4700::1111"],
    ["3ffe:ffff::", "3fff:1000::"],
  ],
};
