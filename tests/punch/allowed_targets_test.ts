import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { formatIp } from "../../lib/net/address.ts";
import {
  allowedHosts,
  claimsSameHost,
  type DialContext,
  dialContext,
  isAllowedTarget,
  whyNotAllowed,
} from "../../lib/punch/candidates.ts";
import { planPunch } from "../../lib/punch/check_list.ts";
import type { Candidate, PunchDescription } from "../../lib/punch/candidates.ts";
import { hostCandidate, punchSide, RANDOM, reflexive, SEQUENTIAL } from "./fixtures.ts";

/** Addresses that a hostile peer may offer, and why they are not dialled. */
const HOSTILE: readonly (readonly [ip: string, why: string])[] = [
  ["0.0.0.0", "it is unspecified"],
  ["::", "it is unspecified"],
  ["127.0.0.1", "it is loopback on another host"],
  ["127.255.0.9", "it is loopback on another host"],
  ["::1", "it is loopback on another host"],
  ["::ffff:127.0.0.1", "it embeds an IPv4 address"],
  ["::ffff:169.254.169.254", "it embeds an IPv4 address"],
  ["::ffff:192.0.2.1", "it embeds an IPv4 address"],
  ["2002:7f00:1::1", "it embeds an IPv4 address"],
  ["64:ff9b::7f00:1", "it is loopback on another host"],
  ["64:ff9b::a9fe:a9fe", "it is a cloud metadata address"],
  ["64:ff9b::c0a8:701", "it is private, but on no network of this host"],
  ["64:ff9b:1::a9fe:a9fe", "it is reserved for address translation"],
  ["192.0.0.1", "it is reserved for address translation"],
  ["169.254.169.254", "it is a cloud metadata address"],
  ["169.254.170.2", "it is a cloud metadata address"],
  ["fd00:ec2::254", "it is a cloud metadata address"],
  ["fd20:ce::254", "it is a cloud metadata address"],
  ["100.100.100.200", "it is a cloud metadata address"],
  ["168.63.129.16", "it is a cloud metadata address"],
  ["192.0.0.192", "it is a cloud metadata address"],
  ["169.254.1.1", "it is link-local, but on no link of this host"],
  ["fe80::1", "it is link-local, but on no link of this host"],
  ["fe80::1%lo", "it is link-local, but on no link of this host"],
  ["224.0.0.1", "it is multicast"],
  ["239.255.255.250", "it is multicast"],
  ["ff02::1", "it is multicast"],
  ["255.255.255.255", "it is reserved"],
  ["240.0.0.1", "it is reserved"],
  ["0.1.2.3", "it is reserved"],
  ["198.18.0.1", "it is reserved"],
  ["10.0.0.1", "it is private, but on no network of this host"],
  ["192.168.7.1", "it is private, but on no network of this host"],
  ["100.64.0.1", "it is private, but on no network of this host"],
  ["fd12:3456::1", "it is private, but on no network of this host"],
  ["192.168.1.5", "it is an address of this host"],
  ["2001:db8::5", "it is an address of this host"],
  ["fe80::5%eth0", "it is an address of this host"],
  ["192.168.1.255", "it is a broadcast address"],
  ["192.168.1.0", "it is a broadcast address"],
];

for (const [ip, why] of HOSTILE) {
  Deno.test(`whyNotAllowed() rejects ${ip}: ${why}`, () => {
    assertEquals(whyNotAllowed({ ip, port: 40_000 }, CONTEXT), why);
    assertEquals(isAllowedTarget({ ip, port: 40_000 }, CONTEXT), false);
  });
}

for (
  const ip of [
    "8.8.8.8",
    "198.51.100.7",
    "2001:db8::9",
    "2600::1",
    "192.168.1.9",
    "fd00::9",
    "fe80::9%eth0",
  ]
) {
  Deno.test(`isAllowedTarget() allows ${ip}, on the internet or on a network of this host`, () => {
    assert(isAllowedTarget({ ip, port: 40_000 }, CONTEXT));
  });
}

Deno.test("isAllowedTarget() rejects port 0, ports above 65535, and fractions", () => {
  for (const port of [0, -1, 65_536, 80.5, NaN]) {
    assertEquals(whyNotAllowed({ ip: "8.8.8.8", port }, CONTEXT), "the port is invalid");
  }
});

Deno.test("isAllowedTarget() allows a private address only at the peer's punch port", () => {
  assertEquals(
    whyNotAllowed({ ip: "192.168.1.9", port: 8080 }, CONTEXT),
    "it is not the port that the peer dials from",
  );
  assertEquals(
    whyNotAllowed({ ip: "192.168.1.9", port: 80 }, { ...CONTEXT, peerPunchPort: 80 }),
    "it is a system port",
  );
});

Deno.test("isAllowedTarget() allows private addresses of other networks behind the same NAT", () => {
  const context = { ...CONTEXT, sharesExternalIp: true };
  assert(isAllowedTarget({ ip: "10.9.8.7", port: 40_000 }, context));
  assert(!isAllowedTarget({ ip: "127.0.0.1", port: 40_000 }, context));
});

Deno.test("isAllowedTarget() allows the addresses of this host to a peer on this host", () => {
  const context = { ...CONTEXT, sharesExternalIp: true, isSameHost: true };
  for (const ip of ["127.0.0.1", "::1", "192.168.1.5"]) {
    assert(isAllowedTarget({ ip, port: 40_000 }, context), ip);
    assert(!isAllowedTarget({ ip, port: 22 }, context), ip);
  }
  assert(!isAllowedTarget({ ip: "169.254.169.254", port: 40_000 }, context));
});

Deno.test("claimsSameHost() goes by the external address and the interfaces", () => {
  const side = (externalIp: string, ...ips: string[]) =>
    punchSide(externalIp, {}, { candidates: ips.map((ip) => hostCandidate(ip)) });
  const isSameHost = (a: PunchDescription, b: PunchDescription) => claimsSameHost(a, b);
  const [A, B] = ["198.51.100.1", "198.51.100.2"] as const;
  assert(isSameHost(side(A, "10.0.0.1", "fd00::1"), side(A, "fd00::1", "10.0.0.1")));
  assert(!isSameHost(side(A, "10.0.0.1"), side(B, "10.0.0.1")));
  assert(!isSameHost(side(A, "10.0.0.1", "10.0.0.3"), side(A, "10.0.0.1", "10.0.0.2")));
  // Without a permission, a program knows only the address that it reached a server from.
  assert(isSameHost(side(A, "10.0.0.1"), side(A, "10.0.0.1", "10.0.0.2")));
  assert(isSameHost(side(A, "10.0.0.1", "10.0.0.2"), side(A, "127.0.0.1")));
  assert(!isSameHost(side(A), side(A)));
  const unseen = punchSide(A, { externalIp: null }, { candidates: [hostCandidate("10.0.0.1")] });
  assert(isSameHost(side(A, "10.0.0.1"), unseen) && isSameHost(unseen, side(A, "10.0.0.1")));
  assert(!dialContext(side(A, "10.0.0.1"), side(A, "10.0.0.1")).isSameHost); // a claim is no proof
});

Deno.test("allowedHosts() returns at most eight addresses, without duplicates", () => {
  const ips = Array.from({ length: 12 }, (_, i) => `192.168.1.${10 + Math.floor(i / 1.2)}`);
  const peer = punchSide(PEER_IP, {}, { candidates: ips.map((ip) => hostCandidate(ip)) });
  const hosts = allowedHosts(peer, dialContext(ME, peer), 8).map(({ ip }) => ip);
  assertEquals(hosts, [...new Set(ips)].slice(0, 8));
});

Deno.test("planPunch() never dials a forbidden address", () => {
  const kinds = ["host", "mapped", "reflexive"] as const;
  for (const profile of [{}, RANDOM, SEQUENTIAL, { mapping: "none" as const }]) {
    for (const [ip] of HOSTILE) {
      const candidates = kinds.map((kind): Candidate => ({ kind, address: { ip, port: 40_000 } }));
      const peer = punchSide(ip, profile, { candidates });
      const { dials } = planPunch(ME, peer, { role: "controlled" });
      assertEquals(dials, [], `${ip} ${JSON.stringify(profile)}`);
    }
  }
});

Deno.test("planPunch() dials only allowed targets, whatever the peer offers", () => {
  fc.assert(fc.property(anySide(), anySide(), fc.boolean(), (me, peer, isControlling) => {
    const role = isControlling ? "controlling" : "controlled";
    const context = dialContext(me, peer);
    for (const { targets, perTarget } of planPunch(me, peer, { role }).dials) {
      assert(targets.length > 0 && targets.length * perTarget <= 1300);
      for (const target of targets) assertEquals(whyNotAllowed(target, context), null);
    }
  }));
});

const CONTEXT: DialContext = {
  ownIps: ["192.168.1.5", "2001:db8::5", "fd00::5", "fe80::5%eth0"],
  sharesExternalIp: false,
  isSameHost: false,
  ownExternalIps: ["198.51.100.1"],
  ownExternal: [{ ip: "198.51.100.1", port: 40_000 }],
  nat64Prefixes: [],
  peerPunchPort: 40_000,
};

const PEER_IP = "198.51.100.2";

const ME = punchSide("198.51.100.1", {}, {
  candidates: [
    reflexive("198.51.100.1", 40_000),
    ...CONTEXT.ownIps.map((ip) => hostCandidate(ip)),
  ],
});

function anySide(): fc.Arbitrary<PunchDescription> {
  const ip = fc.oneof(
    fc.constantFrom(...HOSTILE.map(([ip]) => ip), "198.51.100.1", "8.8.8.8", "192.168.1.9"),
    fc.uint8Array({ minLength: 4, maxLength: 4 }).map(formatIp),
    fc.uint8Array({ minLength: 16, maxLength: 16 }).map(formatIp),
  );
  const port = fc.integer({ min: 1, max: 65_535 });
  const behavior = fc.constantFrom(
    "endpoint-independent",
    "address-dependent",
    "address-and-port-dependent",
    "none",
    "unknown" as const,
  );
  return fc.record({
    profile: fc.record({
      mapping: behavior,
      filtering: behavior,
      unsolicitedSyn: fc.constantFrom("dropped", "reset", "accepted", "unknown" as const),
      allocation: fc.record({
        kind: fc.constantFrom("preserving", "offset", "sequential", "random", "unknown" as const),
        delta: fc.option(fc.integer({ min: -65_535, max: 65_535 })),
        range: fc.option(
          fc.tuple(port, port).map(([a, b]): [number, number] => a < b ? [a, b] : [b, a]),
        ),
      }),
      onlyForNeighbours: fc.boolean(),
      externalIp: fc.option(ip),
      samples: fc.array(fc.record({ localPort: port, externalPort: port }), { maxLength: 6 }),
    }),
    candidates: fc.array(
      fc.record({
        kind: fc.constantFrom("host", "mapped", "reflexive" as const),
        address: fc.record({ ip, port }),
      }),
      { maxLength: 12 },
    ),
    punchPort: port,
    canListenBeside: fc.boolean(),
  });
}
