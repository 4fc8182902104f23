import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import type { Candidate, PunchDescription } from "../../lib/punch/candidates.ts";
import { BEHAVIORS, keyFromSeed, type PunchOffer } from "../../lib/punch/offer.ts";
import { decodeCompactOffer, encodeCompactOffer } from "../../lib/punch/offer_message.ts";
import { hostCandidate, reflexive } from "./fixtures.ts";

const NO_SECRET = new Uint8Array(0);
const SEED = Uint8Array.from({ length: 16 }, (_, index) => index);

const OFFER: PunchOffer = {
  role: "controlling",
  key: keyFromSeed(SEED),
  answers: null,
  isWaiting: true,
  round: 1,
  sampleAgeMs: 500,
  side: {
    profile: {
      mapping: "endpoint-independent",
      filtering: "address-and-port-dependent",
      unsolicitedSyn: "dropped",
      allocation: { kind: "preserving", delta: 0, range: null },
      onlyForNeighbours: false,
      externalIp: "203.0.113.2",
      samples: [],
    },
    candidates: [reflexive("203.0.113.2", 40_000), hostCandidate("2001:db8::1", 40_000)],
    punchPort: 40_000,
    canListenBeside: true,
  },
};

/** The same side by UDP, behind a NAT that chose another port. */
const UDP: PunchDescription = {
  profile: {
    ...OFFER.side.profile,
    filtering: "unknown",
    allocation: { kind: "random", delta: null, range: null },
  },
  candidates: [reflexive("203.0.113.2", 50_001), hostCandidate("2001:db8::1", 50_000)],
  punchPort: 50_000,
  canListenBeside: true,
};

Deno.test("encodeCompactOffer() writes the documented layout", () => {
  assertEquals(
    toHex(encodeCompactOffer(OFFER, NO_SECRET)),
    [
      "03", // version
      "12", // controlling, waits, round 1
      "000102030405060708090a0b0c0d0e0f", // seed of the key
      "01f4", // 500 ms
      "00", // unsolicited SYNs are dropped
      "9c40", // port 40000
      "9c10", // listens beside, a delta of 0, the external IP is the reflexive candidate's; address-and-port-dependent
      "02", // candidates
      ...["52", "cb007102"], // reflexive, IPv4, TCP, the punch port
      ...["54", "20010db8000000000000000000000001"], // host, IPv6, TCP, the punch port
    ].join(""),
  );
});

Deno.test("encodeCompactOffer() writes a candidate for both transports once, with a port for each", () => {
  const side = { ...OFFER.side, profile: { ...OFFER.side.profile, crossingSyn: "reset" as const } };
  assertEquals(
    toHex(encodeCompactOffer({ ...OFFER, side, udp: UDP }, NO_SECRET)),
    [
      "031a", // the same with UDP
      "000102030405060708090a0b0c0d0e0f01f4",
      "08", // crossing SYNs are reset
      "9c409c10",
      "c350", // port 50000
      "8ce0", // listens beside, the external IP is the reflexive candidate's; random, unknown filtering
      "02",
      ...["72", "cb007102", "c351"], // TCP at the punch port, UDP at 50001
      ...["f4", "20010db8000000000000000000000001"], // both at the punch ports
    ].join(""),
  );
});

Deno.test("the usual offer takes at most 60 bytes with both transports", () => {
  const { length } = encodeCompactOffer({ ...OFFER, udp: UDP }, NO_SECRET);
  assert(length <= 60, `${length}`);
});

/** Everything but `crossingSyn`. */
const REQUIRED = [
  "mapping",
  "filtering",
  "unsolicitedSyn",
  "allocation",
  "onlyForNeighbours",
  "externalIp",
  "samples",
] as const;
const PORTS = fc.integer({ min: 1, max: 65_535 });
const KEYS = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(keyFromSeed);
const IPS = fc.constantFrom("192.0.2.1", "10.0.0.2", "2001:db8::1", "fe80::1%eth0.1-b");
const SYNS = fc.constantFrom("dropped", "reset", "accepted", "unknown");
const CANDIDATES = fc.record({
  kind: fc.constantFrom("host", "mapped", "reflexive"),
  address: fc.record({ ip: IPS, port: PORTS }),
}) as fc.Arbitrary<Candidate>;
const SIDES: fc.Arbitrary<PunchDescription> = fc.record({
  profile: fc.record({
    mapping: fc.constantFrom(...BEHAVIORS),
    filtering: fc.constantFrom(...BEHAVIORS),
    unsolicitedSyn: SYNS,
    crossingSyn: SYNS,
    allocation: fc.record({
      kind: fc.constantFrom("preserving", "offset", "sequential", "random", "unknown"),
      delta: fc.option(fc.integer({ min: -65_535, max: 65_535 })),
      range: fc.option(
        fc.tuple(PORTS, PORTS).map(([a, b]) =>
          [Math.min(a, b), Math.max(a, b)] as [number, number]
        ),
      ),
    }),
    onlyForNeighbours: fc.boolean(),
    externalIp: fc.option(fc.constantFrom("192.0.2.1", "198.51.100.7", "2001:db8::1")),
    samples: fc.array(fc.record({ localPort: PORTS, externalPort: PORTS }), { maxLength: 16 }),
  }, { requiredKeys: [...REQUIRED] }),
  candidates: fc.array(CANDIDATES, { maxLength: 12 }),
  punchPort: PORTS,
  canListenBeside: fc.boolean(),
});
const OFFERS: fc.Arbitrary<PunchOffer> = fc.record({
  role: fc.constantFrom("controlling", "controlled"),
  key: KEYS,
  answers: fc.option(KEYS),
  isWaiting: fc.boolean(),
  round: fc.integer({ min: 1, max: 3 }),
  sampleAgeMs: fc.nat(65_535),
  side: SIDES,
});

Deno.test("decodeCompactOffer() reads what encodeCompactOffer() writes", () => {
  fc.assert(fc.property(OFFERS, fc.uint8Array({ maxLength: 40 }), (offer, secret) => {
    assertEquals(decodeCompactOffer(encodeCompactOffer(offer, secret), secret), offer);
  }));
});

Deno.test("decodeCompactOffer() reads the description for UDP, its candidates in the order of TCP", () => {
  const sides = SIDES.map(({ profile: { crossingSyn: _, ...profile }, ...side }) => ({
    ...side,
    profile: { ...profile, unsolicitedSyn: "dropped" as const },
  }));
  fc.assert(fc.property(OFFERS, sides, (offer, udp) => {
    const read = decodeCompactOffer(encodeCompactOffer({ ...offer, udp }, NO_SECRET), NO_SECRET);
    assertEquals(read.side, offer.side);
    const { candidates, ...rest } = read.udp!;
    const { candidates: _, ...given } = udp;
    assertEquals(rest, given);
    assertEquals(candidates.map(textOf).sort(), udp.candidates.map(textOf).sort());
    const again = encodeCompactOffer(read, NO_SECRET);
    assertEquals(decodeCompactOffer(again, NO_SECRET), read);
  }));
});

Deno.test("the external IP for UDP survives if its candidates are read in another order", () => {
  const [one, other] = [reflexive("203.0.113.2", 40_000), reflexive("203.0.113.3", 40_000)];
  const side = { ...OFFER.side, candidates: [other, one] };
  const udp = { ...UDP, candidates: [one, other] };
  const read = decodeCompactOffer(
    encodeCompactOffer({ ...OFFER, side, udp }, NO_SECRET),
    NO_SECRET,
  );
  assertEquals(read.udp, { ...udp, candidates: [other, one] });
});

Deno.test("decodeCompactOffer() rejects an offer that was authenticated with another secret", () => {
  const ours = Uint8Array.of(1, 2, 3);
  const bytes = encodeCompactOffer(OFFER, ours);
  for (const secret of [Uint8Array.of(1, 2, 4), NO_SECRET]) {
    assertThrows(() => decodeCompactOffer(bytes, secret), MalformedMessageError);
  }
  for (let at = 0; at < bytes.length; at++) {
    const changed = bytes.slice();
    changed[at]! ^= 1;
    assertThrows(() => decodeCompactOffer(changed, ours), MalformedMessageError);
  }
});

Deno.test("decodeCompactOffer() drops candidates for neither TCP nor UDP, and reads the rest", () => {
  const bytes = encodeCompactOffer({ ...OFFER, udp: UDP }, NO_SECRET);
  bytes[bytes.length - 17]! &= 0x0f;
  const { side, udp } = decodeCompactOffer(bytes, NO_SECRET);
  assertEquals(side.candidates, OFFER.side.candidates.slice(0, 1));
  assertEquals(udp!.candidates, UDP.candidates.slice(0, 1));
});

for (
  const [what, change] of [
    ["an older version", (bytes) => bytes[0] = 2],
    ["another version", (bytes) => bytes[0] = 4],
    ["round 0", (bytes) => bytes[1]! &= ~0x30],
    ["a crossing SYN that gets something unknown", (bytes) => bytes[20] = 5 << 2],
    ["port 0", (bytes) => bytes.fill(0, 21, 23)],
    ["an unknown mapping", (bytes) => bytes[24]! |= 7],
    ["an unknown allocation", (bytes) => bytes.fill(0xff, 23, 25)],
    ["samples that are not there", (bytes) => bytes[1]! |= 0x40],
    ["a description for UDP that is not there", (bytes) => bytes[1]! |= 8],
    ["too many candidates", (bytes) => bytes[25] = 25],
    ["a candidate of an unknown kind", (bytes) => bytes[26]! |= 3],
    ["a candidate for UDP without a description for it", (bytes) => bytes[26]! |= 0xa0],
    ["an external IP of no candidate", (bytes) => bytes[26] = 0x50],
  ] as [string, (bytes: Uint8Array) => void][]
) {
  Deno.test(`decodeCompactOffer() rejects ${what}`, () => {
    const bytes = encodeCompactOffer(OFFER, NO_SECRET);
    change(bytes);
    assertThrows(() => decodeCompactOffer(bytes, NO_SECRET), MalformedMessageError);
  });
}

Deno.test("decodeCompactOffer() rejects an offer that is cut or has bytes too many", () => {
  const bytes = encodeCompactOffer(OFFER, NO_SECRET);
  for (let length = 0; length < bytes.length; length++) {
    assertThrows(
      () => decodeCompactOffer(bytes.subarray(0, length), NO_SECRET),
      MalformedMessageError,
    );
  }
  const longer = Uint8Array.from([...bytes, 0]);
  assertThrows(() => decodeCompactOffer(longer, NO_SECRET), MalformedMessageError);
});

Deno.test("decodeCompactOffer() throws nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    for (const start of [[], [3, 0x12], [3, 0xda]]) {
      try {
        decodeCompactOffer(Uint8Array.from([...start, ...bytes]), NO_SECRET);
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
      }
    }
  }));
});

Deno.test("decodeCompactOffer() rejects more candidates for a transport than an offer may have", () => {
  const host = hostCandidate("192.168.1.2", 40_000);
  for (const [tcp, udp] of [[12, 12], [13, 0], [0, 13]] as const) {
    const withHosts = (side: PunchDescription, count: number) => ({
      ...side,
      candidates: Array<Candidate>(count).fill(host),
    });
    const offer = { ...OFFER, side: withHosts(OFFER.side, tcp), udp: withHosts(UDP, udp) };
    const bytes = encodeCompactOffer(offer, NO_SECRET);
    if (tcp === udp) assertEquals(decodeCompactOffer(bytes, NO_SECRET), offer);
    else assertThrows(() => decodeCompactOffer(bytes, NO_SECRET), MalformedMessageError, "most 12");
  }
});

Deno.test("encodeCompactOffer() needs keys that have a seed", () => {
  assertThrows(
    () => encodeCompactOffer({ ...OFFER, key: "ab".repeat(32) }, NO_SECRET),
    RangeError,
  );
});

function textOf({ kind, address: { ip, port } }: Candidate): string {
  return `${kind} ${ip} ${port}`;
}
