import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  decodeOffer,
  encodeOffer,
  MAX_ROUNDS,
  MAX_UDP_CANDIDATES,
  MAX_UDP_SAMPLES,
  type PunchOffer,
} from "../../lib/punch/offer.ts";
import { MAX_SIGNAL_BYTES } from "../../lib/signal/channel.ts";
import { hmac } from "../../lib/base/crypto.ts";
import { concat, toHex } from "../../lib/base/bytes.ts";
import { hostCandidate, OFFER } from "./fixtures.ts";

Deno.test("encodeOffer() writes an authenticator and JSON", () => {
  assertEquals(toText(encodeOffer(OFFER, NO_SECRET)), GOLDEN_SEAL + GOLDEN_JSON);
});

Deno.test("decodeOffer() reads what encodeOffer() writes", () => {
  assertEquals(decodeOffer(toBytes(GOLDEN_SEAL + GOLDEN_JSON), NO_SECRET), OFFER);
});

Deno.test("decodeOffer() rejects an offer that was authenticated with another secret", () => {
  const bytes = encodeOffer(OFFER, toBytes("ours"));
  assertEquals(decodeOffer(bytes, toBytes("ours")), OFFER);
  assertThrows(
    () => decodeOffer(bytes, toBytes("theirs")),
    MalformedMessageError,
    "not authenticated",
  );
  assertThrows(() => decodeOffer(bytes, NO_SECRET), MalformedMessageError, "not authenticated");
});

Deno.test("decodeOffer() rejects an offer with any changed byte", () => {
  const bytes = encodeOffer(OFFER, NO_SECRET);
  for (let at = 0; at < bytes.length; at++) {
    const changed = bytes.slice();
    changed[at]! ^= 1;
    assertThrows(() => decodeOffer(changed, NO_SECRET), MalformedMessageError, "not authenticated");
  }
});

Deno.test("decodeOffer() drops unknown fields", () => {
  const known = { ...JSON.parse(GOLDEN_JSON), later: { version: 2 }, __proto__: null };
  assertEquals(decodeOffer(sealed(known), NO_SECRET), OFFER);
});

Deno.test("decodeOffer() canonicalizes addresses", () => {
  const changed = change(["side", "candidates", 1, "address", "ip"], "2001:DB8:0:0::1");
  const [, candidate] = decodeOffer(sealed(changed), NO_SECRET).side.candidates;
  assertEquals(candidate!.address.ip, "2001:db8::1");
});

for (
  const [path, wrong] of [
    [["punch"], [0, 2, "1", null]],
    [["role"], ["", "both", 1, null, undefined]],
    [["key"], ["", "00", "G".repeat(64), "A".repeat(64), "a".repeat(65), 1, null]],
    [["answers"], ["", "a".repeat(63), 0, {}, undefined]],
    [["round"], [0, MAX_ROUNDS + 1, 1.5, -1, "1", null, 1e9]],
    [["sampleAgeMs"], [-1, "0", null, undefined]],
    [["side"], [null, [], 1, undefined]],
    [["side", "punchPort"], [0, 65_536, 1.5, "80", null]],
    [["side", "candidates"], [null, {}, Array(13).fill(hostCandidate("192.0.2.1"))]],
    [["side", "candidates", 0], [null, [], "192.0.2.1:80"]],
    [["side", "candidates", 0, "kind"], ["relayed", null]],
    [["side", "candidates", 0, "address"], [null, [], "192.0.2.1:80"]],
    [["side", "candidates", 0, "address", "port"], [0, 65_536, -1]],
    [["side", "candidates", 0, "address", "ip"], [
      "",
      "192.0.2.256",
      "example.org",
      "fe80::1%\u001b[2J",
      "1".repeat(100),
      1,
      null,
    ]],
    [["side", "profile"], [null, []]],
    [["side", "profile", "mapping"], ["symmetric", null]],
    [["side", "profile", "filtering"], ["", 1]],
    [["side", "profile", "unsolicitedSyn"], ["drop", null]],
    [["side", "profile", "crossingSyn"], ["drop", null, 1]],
    [["side", "profile", "externalIps"], [
      null,
      "192.0.2.1",
      ["nowhere"],
      Array(5).fill("192.0.2.1"),
    ]],
    [["side", "profile", "sessionLimit"], [0, 65_536, 0.5, "64", null]],
    [["side", "profile", "allocation"], [null, "random"]],
    [["side", "profile", "allocation", "kind"], ["dependent", null]],
    [["side", "profile", "allocation", "delta"], [65_536, -65_536, 0.5, "1", undefined]],
    [["side", "profile", "allocation", "range"], [[1], [1, 2, 3], [2, 1], [0, 1], "1-2"]],
    [["side", "profile", "externalIp"], ["", "nowhere", 1, undefined]],
    [["side", "profile", "samples"], [null, Array(17).fill(aSample())]],
    [["side", "profile", "samples", 0], [null, [1, 2]]],
    [["side", "profile", "samples", 0, "localPort"], [0, 65_536]],
    [["side", "profile", "samples", 0, "externalPort"], [0, 65_536]],
  ] as [Path, unknown[]][]
) {
  Deno.test(`decodeOffer() rejects a malformed ${path.join(".")}`, () => {
    for (const value of wrong) {
      const bytes = sealed(change(path, value));
      assertThrows(
        () => decodeOffer(bytes, NO_SECRET),
        MalformedMessageError,
        "Cannot read offer: ",
        `${JSON.stringify(value)}`,
      );
    }
  });
}

Deno.test("decodeOffer() rejects bytes that are longer than a signal", () => {
  const long = sealed({ ...JSON.parse(GOLDEN_JSON), padding: "x".repeat(MAX_SIGNAL_BYTES) });
  assertThrows(() => decodeOffer(long, NO_SECRET), MalformedMessageError, "length");
});

Deno.test("the largest offer fits into a signal", () => {
  const address = { ip: "fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff%enp0s31f6-long", port: 65_535 };
  const largest: PunchOffer = {
    ...OFFER,
    role: "controlling",
    answers: "f".repeat(64),
    sampleAgeMs: 12_345_678.901234567,
    side: {
      profile: {
        mapping: "address-and-port-dependent",
        filtering: "address-and-port-dependent",
        unsolicitedSyn: "accepted",
        allocation: { kind: "sequential", delta: -65_535, range: [65_534, 65_535] },
        onlyForNeighbours: false,
        externalIp: address.ip,
        samples: Array(16).fill({ localPort: 65_535, externalPort: 65_535 }),
      },
      candidates: Array(12).fill({ kind: "reflexive", address }),
      punchPort: 65_535,
      canListenBeside: false,
    },
  };
  const bytes = encodeOffer(largest, NO_SECRET);
  assertEquals(decodeOffer(bytes, NO_SECRET), largest);
  assert(bytes.length <= MAX_SIGNAL_BYTES, `${bytes.length} bytes`);
});

Deno.test("the largest offer with a description for UDP fits into a signal", () => {
  const address = { ip: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", port: 65_535 };
  const { profile } = OFFER.side;
  const sampled = (count: number) => ({
    ...profile,
    allocation: { kind: "sequential", delta: -65_535, range: [65_534, 65_535] } as const,
    samples: Array(count).fill({ localPort: 65_535, externalPort: 65_535 }),
  });
  const offer: PunchOffer = {
    ...OFFER,
    answers: "f".repeat(64),
    side: {
      ...OFFER.side,
      profile: sampled(16),
      candidates: Array(12).fill({ kind: "reflexive", address }),
    },
    udp: {
      ...OFFER.side,
      profile: sampled(MAX_UDP_SAMPLES),
      candidates: Array(MAX_UDP_CANDIDATES).fill({ kind: "reflexive", address }),
    },
  };
  const bytes = encodeOffer(offer, NO_SECRET);
  assertEquals(decodeOffer(bytes, NO_SECRET), offer);
  assert(bytes.length <= MAX_SIGNAL_BYTES, `${bytes.length} bytes`);
});

Deno.test("decodeOffer() checks the description for UDP like the other one", () => {
  const wrong = { ...JSON.parse(GOLDEN_JSON), udp: { ...OFFER.side, punchPort: 0 } };
  assertThrows(() => decodeOffer(sealed(wrong), NO_SECRET), MalformedMessageError, "punchPort");
});

Deno.test("decodeOffer() throws only MalformedMessageError, for any bytes", () => {
  const throwsOnlyThat = (bytes: Uint8Array) => {
    try {
      decodeOffer(bytes, NO_SECRET);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), throwsOnlyThat));
  fc.assert(fc.property(fc.json(), (json) => throwsOnlyThat(sealedText(json))));
  fc.assert(fc.property(
    fc.constantFrom(...paths(JSON.parse(GOLDEN_JSON))),
    fc.jsonValue(),
    (path, value) => throwsOnlyThat(sealed(change(path, value))),
  ));
  throwsOnlyThat(sealedText("[".repeat(4000)));
  throwsOnlyThat(sealedText(""));
});

Deno.test("decodeOffer() is the inverse of encodeOffer()", () => {
  fc.assert(fc.property(anOffer(), (offer) => {
    assertEquals(decodeOffer(encodeOffer(offer, NO_SECRET), NO_SECRET), offer);
  }));
});

type Path = (string | number)[];

function anOffer(): fc.Arbitrary<PunchOffer> {
  const port = fc.integer({ min: 1, max: 65_535 });
  const key = fc.stringMatching(/^[0-9a-f]{64}$/);
  const behavior = fc.constantFrom("endpoint-independent" as const, "none" as const);
  return fc.record({
    role: fc.constantFrom("controlling", "controlled"),
    key,
    answers: fc.option(key),
    isWaiting: fc.boolean(),
    round: fc.integer({ min: 1, max: MAX_ROUNDS }),
    sampleAgeMs: fc.double({ min: 0, max: 1e9, noNaN: true }).map(Math.abs),
    side: fc.record({
      profile: fc.record({
        mapping: behavior,
        filtering: behavior,
        unsolicitedSyn: fc.constantFrom("dropped", "reset", "accepted", "unknown"),
        crossingSyn: fc.constantFrom("dropped", "reset", "accepted", "unknown"),
        externalIps: fc.array(fc.ipV4(), { maxLength: 4 }),
        sessionLimit: fc.integer({ min: 1, max: 65_535 }),
        allocation: fc.record({
          kind: fc.constantFrom("preserving", "offset", "sequential", "random", "unknown"),
          delta: fc.option(fc.integer({ min: -65_535, max: 65_535 })),
          range: fc.option(fc.tuple(port, port).map(([a, b]) => a < b ? [a, b] : [b, a])),
        }),
        onlyForNeighbours: fc.boolean(),
        externalIp: fc.option(fc.ipV4()),
        samples: fc.array(fc.record({ localPort: port, externalPort: port }), { maxLength: 16 }),
      }),
      candidates: fc.array(
        fc.record({
          kind: fc.constantFrom("host", "mapped", "reflexive"),
          address: fc.record({ ip: fc.ipV4(), port }),
        }),
        { maxLength: 12 },
      ),
      punchPort: port,
      canListenBeside: fc.boolean(),
    }),
  }) as fc.Arbitrary<PunchOffer>;
}

/** The golden offer with one value changed. */
function change(path: Path, value: unknown): unknown {
  const root = JSON.parse(GOLDEN_JSON);
  const last = path.at(-1)!;
  const parent = path.slice(0, -1).reduce((node, key) => node[key], root);
  if (value === undefined) delete parent[last];
  else parent[last] = value;
  return root;
}

/** Every value of a tree. */
function paths(node: unknown, prefix: Path = []): Path[] {
  if (typeof node !== "object" || node === null) return [prefix];
  const children = Object.entries(node).flatMap(([key, child]) => paths(child, [...prefix, key]));
  return prefix.length === 0 ? children : [prefix, ...children];
}

function sealed(value: unknown): Uint8Array {
  return sealedText(JSON.stringify(value));
}

function sealedText(json: string): Uint8Array {
  const seal = hmac("sha256", NO_SECRET, toBytes("punchline offer "), toBytes(json));
  return concat(toBytes(toHex(seal)), toBytes(json));
}

function toBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function toText(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function aSample() {
  return { localPort: 20_000, externalPort: 20_000 };
}

const NO_SECRET = new Uint8Array(0);

/** As Python's hmac module has it. */
const GOLDEN_SEAL = "048a644e18ea43978f53a68b59188423473e7fe2466b1fe402e85845e4b7bd24";

/** On one line in the message. */
const GOLDEN_JSON =
  '{"punch":1,"role":"controlled","key":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",' +
  '"answers":null,"isWaiting":true,"round":1,"sampleAgeMs":12.5,"side":{"profile":{' +
  '"mapping":"endpoint-independent","filtering":"address-and-port-dependent","unsolicitedSyn":"dropped",' +
  '"allocation":{"kind":"preserving","delta":0,"range":[20000,20003]},"onlyForNeighbours":false,' +
  '"externalIp":"203.0.113.2","samples":[{"localPort":20000,"externalPort":20000}]},"candidates":[' +
  '{"kind":"reflexive","address":{"ip":"203.0.113.2","port":40000}},' +
  '{"kind":"host","address":{"ip":"192.168.1.2","port":40000}}],"punchPort":40000,"canListenBeside":true}}';
