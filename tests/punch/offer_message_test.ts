import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import type { Candidate } from "../../lib/punch/candidates.ts";
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

Deno.test("encodeCompactOffer() writes the documented layout", () => {
  assertEquals(
    toHex(encodeCompactOffer(OFFER, NO_SECRET)),
    [
      "02", // version
      "5a", // controlling, waits, listens beside, round 1, a delta
      "000102030405060708090a0b0c0d0e0f", // seed of the key
      "01f4", // 500 ms
      "9c40", // port 40000
      "3010", // the external IP is the reflexive candidate's; preserving, dropped, address-and-port-dependent
      "00", // no samples
      "02", // candidates
      ...["12", "cb007102", "9c40"], // reflexive, IPv4, TCP
      ...["14", "20010db8000000000000000000000001", "9c40"], // host, IPv6, TCP
    ].join(""),
  );
});

Deno.test("the usual offer takes at most 56 bytes", () => {
  const { length } = encodeCompactOffer(OFFER, NO_SECRET);
  assert(length <= 56, `${length}`);
});

Deno.test("decodeCompactOffer() reads what encodeCompactOffer() writes", () => {
  const ports = fc.integer({ min: 1, max: 65_535 });
  const keys = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(keyFromSeed);
  const ips = fc.constantFrom("192.0.2.1", "10.0.0.2", "2001:db8::1", "fe80::1%eth0.1-b");
  const candidates = fc.record({
    kind: fc.constantFrom("host", "mapped", "reflexive"),
    address: fc.record({ ip: ips, port: ports }),
  }) as fc.Arbitrary<Candidate>;
  const offers: fc.Arbitrary<PunchOffer> = fc.record({
    role: fc.constantFrom("controlling", "controlled"),
    key: keys,
    answers: fc.option(keys),
    isWaiting: fc.boolean(),
    round: fc.integer({ min: 1, max: 3 }),
    sampleAgeMs: fc.nat(65_535),
    side: fc.record({
      profile: fc.record({
        mapping: fc.constantFrom(...BEHAVIORS),
        filtering: fc.constantFrom(...BEHAVIORS),
        unsolicitedSyn: fc.constantFrom("dropped", "reset", "accepted", "unknown"),
        allocation: fc.record({
          kind: fc.constantFrom("preserving", "offset", "sequential", "random", "unknown"),
          delta: fc.option(fc.integer({ min: -65_535, max: 65_535 })),
          range: fc.option(
            fc.tuple(ports, ports).map(([a, b]) =>
              [Math.min(a, b), Math.max(a, b)] as [number, number]
            ),
          ),
        }),
        onlyForNeighbours: fc.boolean(),
        externalIp: fc.option(fc.constantFrom("192.0.2.1", "198.51.100.7", "2001:db8::1")),
        samples: fc.array(fc.record({ localPort: ports, externalPort: ports }), { maxLength: 16 }),
      }),
      candidates: fc.array(candidates, { maxLength: 12 }),
      punchPort: ports,
      canListenBeside: fc.boolean(),
    }),
  });
  fc.assert(fc.property(offers, fc.uint8Array({ maxLength: 40 }), (offer, secret) => {
    assertEquals(decodeCompactOffer(encodeCompactOffer(offer, secret), secret), offer);
  }));
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

Deno.test("decodeCompactOffer() drops candidates that cannot be dialled over TCP, and reads the rest", () => {
  const bytes = encodeCompactOffer(OFFER, NO_SECRET);
  const both = Uint8Array.from([...bytes.slice(0, -19), 0x34, ...bytes.slice(-18), 0x9c, 0x41]);
  const { side } = decodeCompactOffer(both, NO_SECRET);
  assertEquals(side.candidates, OFFER.side.candidates);
  const udpOnly = Uint8Array.from(bytes);
  udpOnly[bytes.length - 19] = 0x24;
  assertEquals(
    decodeCompactOffer(udpOnly, NO_SECRET).side.candidates,
    OFFER.side.candidates.slice(0, 1),
  );
});

for (
  const [what, change] of [
    ["another version", (bytes) => bytes[0] = 3],
    ["round 0", (bytes) => bytes[1]! &= ~0x30],
    ["port 0", (bytes) => bytes.fill(0, 20, 22)],
    ["an unknown mapping", (bytes) => bytes[23]! |= 7],
    ["too many samples", (bytes) => bytes[24] = 17],
    ["too many candidates", (bytes) => bytes[25] = 13],
    ["a candidate of an unknown kind", (bytes) => bytes[26]! |= 3],
    ["an external IP of no candidate", (bytes) => bytes[26] = 0x10],
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
    for (const start of [[], [2, 0x5a]]) {
      try {
        decodeCompactOffer(Uint8Array.from([...start, ...bytes]), NO_SECRET);
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
      }
    }
  }));
});

Deno.test("encodeCompactOffer() needs keys that have a seed", () => {
  assertThrows(
    () => encodeCompactOffer({ ...OFFER, key: "ab".repeat(32) }, NO_SECRET),
    RangeError,
  );
});
