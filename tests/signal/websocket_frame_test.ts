import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { concat, equalBytes } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  decodeClose,
  decodeText,
  decodeWebSocketFrame,
  encodeClose,
  encodeWebSocketFrame,
  frameLength,
  toServerFrames,
  type WebSocketOpcode,
  writeTogether,
} from "../../lib/signal/websocket/frame.ts";

const HELLO = new TextEncoder().encode("Hello");
const MASK = fromHex("37fa213d");

// RFC 6455 §5.7.
const EXAMPLES:
  readonly (readonly [string, WebSocketOpcode, boolean, boolean, Uint8Array<ArrayBuffer>])[] = [
    ["810548656c6c6f", "text", true, false, HELLO],
    ["818537fa213d7f9f4d5158", "text", true, true, HELLO],
    ["010348656c", "text", false, false, HELLO.subarray(0, 3)],
    ["80026c6f", "continuation", true, false, HELLO.subarray(3)],
    ["890548656c6c6f", "ping", true, false, HELLO],
    ["8a8537fa213d7f9f4d5158", "pong", true, true, HELLO],
    [`827e0100${"07".repeat(256)}`, "binary", true, false, new Uint8Array(256).fill(7)],
    [`827f0000000000010000${"07".repeat(65536)}`, "binary", true, false, filled(65536)],
  ];

for (const [hex, opcode, isFinal, isMasked, payload] of EXAMPLES) {
  Deno.test(`WebSocket frames: ${hex.slice(0, 24)} of RFC 6455 §5.7`, () => {
    const bytes = fromHex(hex);
    const decoded = decodeWebSocketFrame(bytes, 70_000);
    assertEquals(decoded, {
      kind: "frame",
      frame: { opcode, isFinal, isMasked, payload },
      byteLength: bytes.length,
    });
    if (isFinal) {
      assertEquals(encodeWebSocketFrame(opcode, payload, isMasked ? MASK : undefined), bytes);
    }
  });
}

for (
  const [hex, rule] of [
    ["c100", "reserved bits are 0"],
    ["8300", "opcode 3 is not assigned"],
    ["8f00", "opcode 15 is not assigned"],
    ["0900", "a ping frame is whole"],
    ["887e00800000", "at most 125 bytes"],
    ["827e007d", "not in its shortest encoding"],
    ["827f000000000000ffff", "not in its shortest encoding"],
  ] as const
) {
  Deno.test(`decodeWebSocketFrame() rejects ${hex}: ${rule}`, () => {
    assertThrows(() => decodeWebSocketFrame(fromHex(hex), 70_000), MalformedMessageError, rule);
  });
}

Deno.test("decodeWebSocketFrame() reports a frame that is too long before it has arrived", () => {
  for (
    const [hex, payloadLength] of [["827e1001", 4097], ["827f7fffffffffffffff", 2 ** 63]] as const
  ) {
    assertEquals(decodeWebSocketFrame(fromHex(hex), 4096), { kind: "too-long", payloadLength });
  }
});

Deno.test("decodeWebSocketFrame() says how much it needs of a frame that is cut", () => {
  for (const [hex] of EXAMPLES.slice(0, 7)) {
    const bytes = fromHex(hex);
    for (let length = 0; length < bytes.length; length++) {
      const decoded = decodeWebSocketFrame(bytes.subarray(0, length), 4096);
      assert(decoded.kind === "incomplete");
      assert(decoded.neededLength > length && decoded.neededLength <= bytes.length);
    }
  }
});

Deno.test("frames round-trip through encode and decode, and what follows them is left", () => {
  fc.assert(fc.property(
    fc.constantFrom<WebSocketOpcode>("text", "binary", "continuation"),
    fc.uint8Array({ maxLength: 300 }),
    fc.option(fc.uint8Array({ minLength: 4, maxLength: 4 }), { nil: undefined }),
    fc.uint8Array(),
    (opcode, payload, mask, next) => {
      const bytes = encodeWebSocketFrame(opcode, payload, mask);
      const decoded = decodeWebSocketFrame(new Uint8Array([...bytes, ...next]), 300);
      assertEquals(decoded, {
        kind: "frame",
        frame: { opcode, isFinal: true, isMasked: mask !== undefined, payload: payload.slice() },
        byteLength: bytes.length,
      });
    },
  ));
});

Deno.test("frameLength() is exact once the header is there, and 0 for a frame that is too long", () => {
  const frame = encodeWebSocketFrame("binary", filled(300), MASK);
  assertEquals(frameLength(frame.subarray(0, 1), 300), 2);
  assertEquals(frameLength(frame.subarray(0, 3), 300), 4);
  assertEquals(frameLength(frame.subarray(0, 4), 300), 308);
  assertEquals(frameLength(frame, 299), 0);
});

Deno.test("toServerFrames() makes frames of a server from RFC 6455 §5.7's of a client, in place", () => {
  const bytes = fromHex("828537fa213d7f9f4d5158" + "828537fa213d7f9f4d5158" + "8285");
  const made = toServerFrames(bytes, { maxPayloadLength: 5, maxBytes: 100 });
  assertEquals(made.frames.toHex(), "820548656c6c6f".repeat(2));
  assertEquals(made.frames.buffer, bytes.buffer);
  assertEquals([made.taken, made.count], [22, 2]);
  assertEquals(bytes.subarray(made.taken).toHex(), "8285"); // not touched
});

for (
  const [what, hex] of [
    ["text", "818537fa213d7f9f4d5158"],
    ["a ping", "898537fa213d7f9f4d5158"],
    ["the start of a message", "028537fa213d7f9f4d5158"],
    ["the rest of a message", "808537fa213d7f9f4d5158"],
    ["a frame without a mask", "820548656c6c6f"],
    ["a frame that is too long", "828637fa213d7f9f4d515800"],
    ["a frame that is incomplete", "828537fa213d7f9f4d51"],
    ["nothing", ""],
  ] as const
) {
  Deno.test(`toServerFrames() ends before ${what}`, () => {
    for (const count of [0, 1]) {
      const bytes = fromHex("828137fa213d7f".repeat(count) + hex);
      const made = toServerFrames(bytes, { maxPayloadLength: 5, maxBytes: 100 });
      assertEquals(made.frames.toHex(), "820148".repeat(count));
      assertEquals([made.taken, made.count], [7 * count, count]);
      assertEquals(bytes.subarray(made.taken).toHex(), hex);
    }
  });
}

Deno.test("toServerFrames() takes one message at least, and no more than asked for after that", () => {
  const frame = encodeWebSocketFrame("binary", filled(100), MASK);
  const taken = (maxBytes: number) => {
    const bytes = new Uint8Array([...frame, ...frame, ...frame]);
    return toServerFrames(bytes, { maxPayloadLength: 100, maxBytes }).count;
  };
  assertEquals([1, 211, 212, 1000].map(taken), [1, 1, 2, 3]);
});

Deno.test("toServerFrames() makes the frames that a server would send, at any offset", () => {
  const message = fc.record({
    payload: fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.nat(70_000).map(filled)),
    mask: fc.oneof(fc.constant(new Uint8Array(4)), fc.uint8Array({ minLength: 4, maxLength: 4 })),
  });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), fc.nat(7), (messages, offset) => {
      const sent = messages.map(({ payload, mask }) =>
        encodeWebSocketFrame("binary", payload, mask)
      );
      const room = concat(new Uint8Array(offset), ...sent);
      const made = toServerFrames(room.subarray(offset), {
        maxPayloadLength: 70_000,
        maxBytes: Infinity,
      });
      const expected = messages.map(({ payload }) => encodeWebSocketFrame("binary", payload));
      assert(equalBytes(made.frames, concat(...expected)));
      assertEquals([made.taken, made.count], [room.length - offset, messages.length]);
    }),
    { numRuns: 50 },
  );
});

Deno.test("toServerFrames() throws nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
    try {
      const options = { maxPayloadLength: 30, maxBytes: 50 };
      const { frames, taken } = toServerFrames(new Uint8Array(bytes), options);
      assert(frames.length <= taken && taken <= bytes.length);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }));
});

Deno.test("decodeWebSocketFrame(), decodeClose() and decodeText() throw nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
    for (
      const decode of [(b: Uint8Array) => decodeWebSocketFrame(b, 30), decodeClose, decodeText]
    ) {
      try {
        decode(bytes);
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
      }
    }
  }));
});

Deno.test("decodeClose() reads a code and a reason, or neither", () => {
  assertEquals(decodeClose(fromHex("03e8")), { code: 1000, reason: "" });
  assertEquals(decodeClose(encodeClose(1008, "enough")), { code: 1008, reason: "enough" });
  assertEquals(decodeClose(new Uint8Array()), { code: 1005, reason: "" });
  assertThrows(() => decodeClose(fromHex("03")), MalformedMessageError, "two bytes");
  assertThrows(() => decodeClose(fromHex("03e8ff")), MalformedMessageError, "UTF-8");
});

function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(hex);
}

function filled(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).fill(7);
}

Deno.test("what a channel carries is written in segments of at most 1,120 bytes, long frames at once", async () => {
  for (const [length, expected] of [[100, 1], [1120, 1], [2048, 2], [4096, 4], [65_536, 1]]) {
    const frame = encodeWebSocketFrame("binary", new Uint8Array(length! - 20).fill(7), MASK);
    const writes: number[] = [];
    const received: number[] = [];
    const connection = {
      write: (data: Uint8Array) => {
        writes.push(data.length);
        received.push(...data);
        return Promise.resolve(data.length);
      },
    };
    const queue = [frame];
    assertEquals(await writeTogether(connection, queue), frame.length);
    assertEquals(queue, []);
    assertEquals(Uint8Array.from(received), frame);
    assertEquals(writes.length, expected);
    assert(length! > 4096 || writes.every((each) => each <= 1120));
  }
});
