import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { toHex } from "../../lib/base/bytes.ts";
import type { RawStunAttribute } from "../../lib/stun/attributes.ts";
import {
  CROSSING_DIALS,
  encodeTcpCrossingPorts,
  encodeTcpCrossingRequest,
  encodeTcpCrossingTimes,
  encodeTcpFilterRequest,
  encodeTcpFilterResult,
  getTcpCrossingPorts,
  getTcpCrossingRequest,
  getTcpCrossingTimes,
  getTcpFilterRequest,
  getTcpFilterResult,
  TCP_CROSSING_PORTS,
  TCP_CROSSING_TEST,
  TCP_CROSSING_TIMES,
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

Deno.test("TCP-CROSSING-TEST, -PORTS and -TIMES have the bytes that the specification draws", () => {
  const bytes = (attribute: RawStunAttribute) => [...attribute.value];
  const request = encodeTcpCrossingRequest({ delayMs: 50, holdMs: 258 }, 6);
  assertEquals([request.type, bytes(request)], [0xd1a3, [0, 50, 1, 2, 0, 0]]);
  const ports = encodeTcpCrossingPorts([{ dial: 0x1234, closed: 0xabcd }]);
  assertEquals([ports.type, bytes(ports)], [0xd1a4, [0x12, 0x34, 0xab, 0xcd]]);
  const times = encodeTcpCrossingTimes([{ startedMs: 25.8, endedMs: 10_000 }]);
  assertEquals([times.type, bytes(times)], [0xd1a5, [1, 2, 0xff, 0xff]]);
});

Deno.test("the attributes of the crossing test throw only MalformedMessageError, and keep their bounds", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (value) => {
    const message = (type: number): StunMessage => ({
      class: "success",
      method: BINDING,
      transactionId: new Uint8Array(12),
      attributes: [{ type, value }],
    });
    const read = <T>(get: (message: StunMessage) => T, type: number) => {
      try {
        return get(message(type));
      } catch (error) {
        assertInstanceOf(error, MalformedMessageError);
        return undefined;
      }
    };
    read(getTcpCrossingRequest, TCP_CROSSING_TEST);
    const ports = read(getTcpCrossingPorts, TCP_CROSSING_PORTS) ?? [];
    const times = read(getTcpCrossingTimes, TCP_CROSSING_TIMES) ?? [];
    assert(ports.length <= CROSSING_DIALS && times.length <= CROSSING_DIALS);
    assert(ports.every(({ dial, closed }) => dial > 0 && closed > 0));
  }));
});
