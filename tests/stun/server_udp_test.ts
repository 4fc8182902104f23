import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { toHex } from "../../lib/base/bytes.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import {
  answerBinding,
  encodeAnswer,
  isPlainBinding,
  PlainResponder,
} from "../../lib/stun/server/binding.ts";
import { BINDING, decodeMessage, encodeMessage, getAttribute } from "../../lib/stun/message.ts";
import { newCounters } from "../../lib/stun/server/endpoints.ts";
import { newBuckets, type UdpLimits, UdpResponder } from "../../lib/stun/server/udp.ts";

const ADDRESSES = {
  destination: { ip: "192.0.2.1", port: 3478 },
  other: { ip: "192.0.2.2", port: 3479 },
};
const CLIENT = { ip: "198.51.100.7", port: 40_000 };
const GENEROUS: UdpLimits = {
  excessBytes: { burst: 1e9, perSecond: 0 },
  specialAnswers: { burst: 1e9, perSecond: 0 },
};
const NO_EXCESS: UdpLimits = { ...GENEROUS, excessBytes: { burst: 0, perSecond: 0 } };
const TRANSACTION_ID = Uint8Array.from({ length: 12 }, (_, i) => i + 1);

function responder(limits: UdpLimits) {
  const counters = newCounters();
  const udp = new UdpResponder(ADDRESSES, { buckets: newBuckets(limits, 1), counters });
  return { udp, counters };
}

function request(...attributes: StunAttribute[]): Uint8Array {
  return encodeMessage({
    class: "request",
    method: BINDING,
    transactionId: TRANSACTION_ID,
    attributes,
  });
}

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g)!, (pair) => parseInt(pair, 16));
}

const SHORTEST = "0001 0000 2112a442 0102030405060708090a0b0c".replaceAll(" ", "");
const CHANGE_BOTH: StunAttribute = {
  type: "CHANGE-REQUEST",
  value: { changeIp: true, changePort: true },
};

Deno.test("respond() answers the shortest request with the expected bytes", () => {
  const answer = responder(GENEROUS).udp.respond(bytes(SHORTEST), CLIENT, () => 0);
  assertEquals(
    toHex(answer!.data),
    [
      "0101 0030 2112a442 0102030405060708090a0b0c",
      "0020 0008 0001 bd52 e721c045", // 40000 ^ 2112, 198.51.100.7 ^ 2112a442
      "802c 0008 0001 0d97 c0000202",
      "802b 0008 0001 0d96 c0000201",
      "0001 0008 0001 9c40 c6336407",
    ].join("").replaceAll(" ", ""),
  );
});

Deno.test("respond() to a source without tokens sends what RFC 8489 requires, 32 bytes", () => {
  const { udp, counters } = responder(NO_EXCESS);
  const answer = udp.respond(bytes(SHORTEST), CLIENT, () => 0);
  assertEquals(
    toHex(answer!.data),
    "0101 000c 2112a442 0102030405060708090a0b0c 0020 0008 0001 bd52 e721c045"
      .replaceAll(" ", ""),
  );
  assertEquals(counters.udpShortened, 1);
});

Deno.test("respond() answers an RFC 3489 request with the expected bytes", () => {
  const data = bytes("00010008" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + "0003000400000002");
  const answer = responder(GENEROUS).udp.respond(data, CLIENT, () => 0);
  assertEquals(
    toHex(answer!.data),
    [
      "0101 0024 f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
      "0001 0008 0001 9c40 c6336407",
      "0005 0008 0001 0d97 c0000202",
      "0004 0008 0001 0d97 c0000201",
    ].join("").replaceAll(" ", ""),
  );
  assertEquals(answer?.from, { ip: "192.0.2.1", port: 3479 });
});

Deno.test("respond() refuses with no more bytes than the request has", () => {
  const { udp } = responder(NO_EXCESS);
  const data = request({ type: "RESPONSE-PORT", value: 0 });
  const answer = udp.respond(data, CLIENT, () => 0)!;
  assertEquals([data.length, answer.data.length], [28, 28]);
  assertEquals(getAttribute(decodeMessage(answer.data), "ERROR-CODE")?.code, 400);
});

Deno.test("respond() to a source without tokens sends nothing if a refusal would be longer than the request", () => {
  const data = request({ type: 0x7f00, value: new Uint8Array() });
  assertEquals(responder(GENEROUS).udp.respond(data, CLIENT, () => 0)?.data.length, 36);
  const { udp, counters } = responder(NO_EXCESS);
  assertEquals(udp.respond(data, CLIENT, () => 0), undefined);
  assertEquals(counters.udpIgnored, 1);
});

Deno.test("respond() sends all attributes, even to a source without tokens, if the request is as long", () => {
  const { udp, counters } = responder(NO_EXCESS);
  const data = request({ type: "SOFTWARE", value: "p".repeat(44) });
  assertEquals([data.length, udp.respond(data, CLIENT, () => 0)?.data.length], [68, 68]);
  assertEquals(counters.udpShortened, 0);
});

Deno.test("respond() pads the response to the length of a request with PADDING", () => {
  const { udp } = responder(NO_EXCESS);
  const data = request({ type: "PADDING", value: new Uint8Array(1500) });
  const answer = udp.respond(data, CLIENT, () => 0)!.data;
  assertEquals([data.length, answer.length], [1524, 1524]);
  assertEquals(getAttribute(decodeMessage(answer), "PADDING")?.length, 1452);
});

Deno.test("respond() limits special responses per source, and refuses instead of staying silent", () => {
  const { udp, counters } = responder({
    ...GENEROUS,
    specialAnswers: { burst: 2, perSecond: 1 },
  });
  const data = request(CHANGE_BOTH);
  const ask = (ip: string, nowMs: number) => {
    const answer = udp.respond(data, { ip, port: 40_000 }, () => nowMs)!;
    return [answer.from.ip, getAttribute(decodeMessage(answer.data), "ERROR-CODE")?.code];
  };
  assertEquals(ask(CLIENT.ip, 0), ["192.0.2.2", undefined]);
  assertEquals(ask(CLIENT.ip, 0), ["192.0.2.2", undefined]);
  assertEquals(ask(CLIENT.ip, 0), ["192.0.2.1", 500]);
  assertEquals(ask("198.51.100.8", 0), ["192.0.2.2", undefined]);
  assertEquals(ask(CLIENT.ip, 1000), ["192.0.2.2", undefined]);
  assertEquals(counters.udpLimited, 1);
});

Deno.test("respond() ignores a request with a wrong FINGERPRINT, and answers a correct one with its own", () => {
  const { udp, counters } = responder(GENEROUS);
  const data = encodeMessage(
    { class: "request", method: BINDING, transactionId: TRANSACTION_ID, attributes: [] },
    { fingerprint: true },
  );
  const answer = udp.respond(data, CLIENT, () => 0)!;
  assertEquals(decodeMessage(answer.data).attributes.at(-1)?.type, "FINGERPRINT");
  data[data.length - 1]! ^= 1;
  assertEquals(udp.respond(data, CLIENT, () => 0), undefined);
  assertEquals(counters.udpIgnored, 1);
});

const attribute: fc.Arbitrary<StunAttribute> = fc.oneof(
  fc.record({
    type: fc.constant("CHANGE-REQUEST" as const),
    value: fc.record({ changeIp: fc.boolean(), changePort: fc.boolean() }),
  }),
  fc.record({ type: fc.constant("RESPONSE-PORT" as const), value: fc.nat(0xffff) }),
  fc.record({
    type: fc.constant("PADDING" as const),
    value: fc.uint8Array({ maxLength: 200 }),
  }),
  fc.record({ type: fc.constant("SOFTWARE" as const), value: fc.string({ maxLength: 60 }) }),
  fc.record({
    type: fc.integer({ min: 0x3000, max: 0x3010 }),
    value: fc.uint8Array({ maxLength: 20 }),
  }),
  fc.record({ type: fc.constant(0xff00), value: fc.uint8Array({ maxLength: 80 }) }),
);

const anyRequest = fc.record({
  attributes: fc.array(attribute, { maxLength: 6 }),
  rfc3489: fc.boolean(),
  fingerprint: fc.boolean(),
}).map(({ attributes, rfc3489, fingerprint }) =>
  encodeMessage({
    class: "request",
    method: BINDING,
    transactionId: new Uint8Array(rfc3489 ? 16 : 12),
    attributes,
  }, { fingerprint })
);

Deno.test("respond() to a source without tokens sends no more than it received, except the required attribute", () => {
  const { udp } = responder(NO_EXCESS);
  fc.assert(
    fc.property(anyRequest, (data) => {
      const answer = udp.respond(data, CLIENT, () => 0);
      if (answer === undefined) return;
      const fingerprint = data.length >= 28 &&
        decodeMessage(answer.data).attributes.at(-1)?.type ===
          "FINGERPRINT";
      assert(answer.data.length <= Math.max(data.length, fingerprint ? 40 : 32));
      assertEquals(answer.to.ip, CLIENT.ip);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("respond() sends a source at most what it sent, its tokens and 12 bytes per request", () => {
  const requests = fc.array(fc.record({ data: anyRequest, laterMs: fc.nat(100) }), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(requests, (sequence) => {
      const { udp } = responder({ ...GENEROUS, excessBytes: { burst: 500, perSecond: 100 } });
      let nowMs = 0;
      let excess = 0;
      for (const { data, laterMs } of sequence) {
        nowMs += laterMs;
        const answer = udp.respond(data, CLIENT, () => nowMs);
        if (answer !== undefined) excess += Math.max(0, answer.data.length - data.length);
      }
      assert(excess <= 500 + nowMs / 10 + 12 * sequence.length);
    }),
    { numRuns: 200 },
  );
});

Deno.test("respond() ignores random bytes", () => {
  const { udp } = responder(GENEROUS);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (data) => {
      const answer = udp.respond(data, CLIENT, () => 0);
      assert(answer === undefined || data[0] === 0);
    }),
    { numRuns: 5000 },
  );
});

Deno.test("isPlainBinding() is true only for a request with no attributes or a SOFTWARE", () => {
  assertEquals(isPlainBinding(bytes(SHORTEST)), true);
  assertEquals(isPlainBinding(request({ type: "SOFTWARE", value: "abcde" })), true);
  assertEquals(isPlainBinding(request({ type: "SOFTWARE", value: "a" }, CHANGE_BOTH)), false);
  assertEquals(isPlainBinding(request(CHANGE_BOTH)), false);
  assertEquals(isPlainBinding(bytes(SHORTEST).subarray(0, 19)), false);
  assertEquals(
    isPlainBinding(bytes("0001 0000 2112a443 0102030405060708090a0b0c".replaceAll(" ", ""))),
    false,
  );
  assertEquals(
    isPlainBinding(bytes("0011 0000 2112a442 0102030405060708090a0b0c".replaceAll(" ", ""))),
    false,
  );
});

const plainRequest = fc.option(fc.string({ maxLength: 120 })).map((software) =>
  request(...(software === null ? [] : [{ type: "SOFTWARE" as const, value: software }]))
);

for (
  const [family, ip] of [["IPv4", fc.ipV4()], ["IPv6", fc.ipV6()]] as const
) {
  Deno.test(`PlainResponder gives the same answers as answerBinding() and encodeAnswer() over ${family}`, () => {
    const ips = family === "IPv4" ? ["192.0.2.1", "192.0.2.2"] : ["2001:db8::1", "2001:db8::2"];
    const addresses = [
      { destination: { ip: ips[0]!, port: 3478 }, other: { ip: ips[1]!, port: 3479 } },
      { destination: { ip: ips[0]!, port: 3478 } },
      { destination: { ip: family === "IPv4" ? "0.0.0.0" : "::", port: 3478 } },
    ];
    const source = fc.record({ ip, port: fc.nat(0xffff) });
    fc.assert(
      fc.property(
        fc.constantFrom(...addresses),
        plainRequest,
        source,
        fc.nat(120),
        (where, data, source, bucket) => {
          assert(isPlainBinding(data));
          const mayExceed = (excess: number) => excess <= bucket;
          const arrival = { transport: "udp", source, ...where } as const;
          const expected = encodeAnswer(
            answerBinding(decodeMessage(data), arrival)!,
            data.length,
            mayExceed,
          );
          const plain = new PlainResponder({ transport: "udp", ...where });
          assertEquals(toHex(plain.respond(data, source, mayExceed)), toHex(expected!));
        },
      ),
      { numRuns: 500 },
    );
  });
}
