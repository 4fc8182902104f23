import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { toHex } from "../../lib/base/bytes.ts";
import type { RawStunAttribute } from "../../lib/stun/attributes.ts";
import {
  encodeTcpFilterRequest,
  encodeTcpFilterResult,
  getTcpFilterRequest,
  getTcpFilterResult,
  TCP_FILTER_RESULT,
  TCP_FILTER_TEST,
} from "../../lib/stun/tcp_filter/message.ts";
import { BINDING, decodeMessage, encodeMessage, type StunMessage } from "../../lib/stun/message.ts";

function message(...attributes: RawStunAttribute[]): StunMessage {
  return { class: "request", method: BINDING, transactionId: new Uint8Array(12), attributes };
}

Deno.test("encodeTcpFilterRequest() writes the window and pads with zeros", () => {
  const attribute = encodeTcpFilterRequest({ windowMs: 0x0640 }, 8);
  assertEquals([attribute.type, toHex(attribute.value)], [0xd1a1, "0640000000000000"]);
});

Deno.test("encodeTcpFilterResult() writes the results of both addresses", () => {
  const attribute = encodeTcpFilterResult({
    sameAddress: { outcome: "accepted", dials: 1, elapsedMs: 51 },
    alternateAddress: { outcome: "silent", dials: 3, elapsedMs: 1900 },
  });
  assertEquals([attribute.type, toHex(attribute.value)], [0xd1a2, "010100330303076c"]);
});

Deno.test("getTcpFilterResult() decodes every outcome", () => {
  const outcomes = [0, 1, 2, 3, 4].map((code) => {
    const value = Uint8Array.of(code, 0, 0, 0, code, 0, 0, 0);
    return getTcpFilterResult(message({ type: TCP_FILTER_RESULT, value }))?.sameAddress.outcome;
  });
  assertEquals(outcomes, ["not-tested", "accepted", "refused", "silent", "unreachable"]);
});

Deno.test("getTcpFilterRequest() and getTcpFilterResult() are undefined if the attribute is missing", () => {
  assertEquals(getTcpFilterRequest(message()), undefined);
  assertEquals(getTcpFilterResult(message()), undefined);
});

Deno.test("getTcpFilterResult() ignores trailing bytes", () => {
  const value = new Uint8Array(20);
  const result = getTcpFilterResult(message({ type: TCP_FILTER_RESULT, value }));
  assertEquals(result?.alternateAddress, { outcome: "not-tested", dials: 0, elapsedMs: 0 });
});

Deno.test("getTcpFilterRequest() and getTcpFilterResult() reject truncated values and unknown outcomes", () => {
  for (let length = 0; length < 4; length++) {
    const value = new Uint8Array(length);
    assertThrows(
      () => getTcpFilterRequest(message({ type: TCP_FILTER_TEST, value })),
      MalformedMessageError,
    );
  }
  for (const value of [new Uint8Array(7), Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0)]) {
    assertThrows(
      () => getTcpFilterResult(message({ type: TCP_FILTER_RESULT, value })),
      MalformedMessageError,
    );
  }
});

Deno.test("encodeTcpFilterRequest() and encodeTcpFilterResult() reject values that do not fit", () => {
  const fine = { outcome: "silent", dials: 3, elapsedMs: 10 } as const;
  assertThrows(() => encodeTcpFilterRequest({ windowMs: 65_536 }, 8), RangeError);
  assertThrows(() => encodeTcpFilterRequest({ windowMs: 1 }, 3), RangeError);
  for (const wrong of [{ ...fine, dials: 256 }, { ...fine, elapsedMs: -1 }]) {
    assertThrows(
      () => encodeTcpFilterResult({ sameAddress: fine, alternateAddress: wrong }),
      RangeError,
    );
  }
});

Deno.test("TCP filter attributes survive encoding and decoding", () => {
  const dial = fc.record({
    outcome: fc.constantFrom("not-tested", "accepted", "refused", "silent", "unreachable"),
    dials: fc.nat(255),
    elapsedMs: fc.nat(0xffff),
  });
  fc.assert(fc.property(fc.nat(0xffff), dial, dial, (windowMs, sameAddress, alternateAddress) => {
    const result = { sameAddress, alternateAddress } as const;
    const decoded = decodeMessage(encodeMessage(message(
      encodeTcpFilterRequest({ windowMs }, 1000),
      encodeTcpFilterResult(result),
    )));
    assertEquals(getTcpFilterRequest(decoded), { windowMs });
    assertEquals(getTcpFilterResult(decoded), result);
  }));
});
