import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  type ConnectionRequest,
  decodeConnectionRequest,
  decodeEnvelope,
  decodeRejection,
  encodeConnectionRequest,
  encodeEnvelope,
  encodeRejection,
  REJECTION_REASONS,
} from "../../lib/peer/signaling_message.ts";

const NOW_MS = 1_790_000_000_000;

const REQUEST: ConnectionRequest = {
  sentAtMs: NOW_MS,
  ageMs: null,
  protocol: "chat/1",
  resumes: null,
  wants: "any",
  body: Uint8Array.of(1, 2),
};

Deno.test("encodeConnectionRequest() writes the bytes that the protocol specifies", () => {
  const json = '{"sentAtMs":1790000000000,"protocol":"chat/1","resumes":null,"wants":"any"}';
  const expected = [0, json.length, ...new TextEncoder().encode(json), 1, 2];
  assertEquals([...encodeConnectionRequest(REQUEST)], expected);
});

Deno.test("a connection request round-trips through encode and decode", () => {
  const resumed: ConnectionRequest = {
    ...REQUEST,
    resumes: "00112233445566778899aabbccddeeff",
    ageMs: 61_000,
    wants: "direct",
  };
  for (const request of [REQUEST, resumed]) {
    assertEquals(decodeConnectionRequest(encodeConnectionRequest(request)), request);
  }
});

Deno.test("decodeConnectionRequest() rejects an age that is no number of milliseconds", () => {
  for (const ageMs of [-1, 0.5, "1", {}, 2 ** 53]) {
    const bytes = encodeConnectionRequest({ ...REQUEST, ageMs: ageMs as number });
    assertThrows(() => decodeConnectionRequest(bytes), MalformedMessageError, "ageMs");
  }
});

Deno.test("encodeConnectionRequest() rejects a protocol with too long a name", () => {
  const request = { ...REQUEST, protocol: "x".repeat(65) };
  assertThrows(() => encodeConnectionRequest(request), RangeError);
});

Deno.test("a rejection round-trips through encode and decode", () => {
  for (const reason of REJECTION_REASONS) {
    const rejection = { reason, timeMs: NOW_MS };
    assertEquals(decodeRejection(encodeRejection(rejection)), rejection);
  }
});

Deno.test("encodeRejection() writes the JSON that the protocol specifies", () => {
  const json = REJECTION_REASONS.map((reason) =>
    new TextDecoder().decode(encodeRejection({ reason, timeMs: 5 }))
  );
  const words = ["refused", "busy", "protocol", "clock", "unknown", "withdrawn"];
  assertEquals(json, words.map((why) => `{"why":"${why}","timeMs":5}`));
});

Deno.test("decoders of signaling messages throw nothing but MalformedMessageError", () => {
  const json = fc.json().map((text) => new TextEncoder().encode(text));
  fc.assert(fc.property(fc.oneof(json, fc.uint8Array()), (bytes) => {
    for (const decode of [decodeConnectionRequest, decodeRejection]) {
      try {
        decode(bytes);
      } catch (error) {
        assert(error instanceof MalformedMessageError, `${error}`);
      }
    }
  }));
});

Deno.test("decodeEnvelope() throws nothing but MalformedMessageError, and its inverse restores the bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    try {
      assertEquals(encodeEnvelope(decodeEnvelope(bytes)), bytes);
    } catch (error) {
      assert(error instanceof MalformedMessageError, `${error}`);
    }
  }));
});
