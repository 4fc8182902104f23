import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError, NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork as network } from "../../lib/net/system.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import {
  decodeManualMessage,
  encodeManualMessage,
  manualTransport,
} from "../../lib/signal/manual.ts";
import { openReconnecting } from "../../lib/signal/open.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const OTHER = "BBBBBBBBBBBBBBBBBBBBBA";
const HELLO = encodeManualMessage({ topic: TOPIC, message: toBytes("hello") });

Deno.test("encodeManualMessage() writes the documented layout", () => {
  assertEquals(
    encodeManualMessage({ topic: TOPIC, message: Uint8Array.of(1, 2, 3) }),
    // The checksum comes from: printf '020000000003010203' | xxd -r -p | sha256sum
    "punchline-hand:AwAAAAADAQIDqI3hrg",
  );
});

Deno.test("a message is shown once, however often it is published", async () => {
  const { signaling, shown } = await open();
  for (const text of ["hello", "hello", "world"]) await signaling.publish(TOPIC, toBytes(text));
  assertEquals(shown.length, 2);
});

Deno.test("a message of an earlier version is reported once, with all its lines", async () => {
  const old = `punchline-message:${"A".repeat(2760)}`.match(/.{1,76}/g)!;
  const { signaling, garbage } = await open([...old, "", "what?", HELLO]);
  assertEquals(toText(await next(signaling)), "hello");
  assertEquals(garbage.map(({ message }) => message.replace("Cannot read message: ", "")), [
    "it was made by an older version; update the other side",
    "a message starts with punchline-hand:",
  ]);
});

Deno.test("a message of the version before is reported as such", () => {
  const earlier = HELLO.replace(":Aw", ":Ag");
  const error = assertThrows(() => decodeManualMessage(earlier), MalformedMessageError);
  assertEquals(error.message.endsWith("an older version; update the other side"), true);
});

Deno.test("a message of a later version is reported", () => {
  const later = HELLO.replace(":Aw", ":BA");
  const error = assertThrows(() => decodeManualMessage(later), MalformedMessageError);
  assertEquals(error.message.endsWith("version 4 is unknown; this program reads 3"), true);
});

Deno.test("the thousandth message is shown, too", async () => {
  const { signaling, shown } = await open();
  for (let i = 0; i < 1000; i++) await signaling.publish(TOPIC, toBytes(`${i}`));
  assertEquals(shown.length, 1000);
});

Deno.test("a message that pasting has broken into lines is joined", async () => {
  const lines = HELLO.match(/.{1,24}/g)!.map((piece) => `  ${piece}\u200b\r`);
  const { signaling, garbage } = await open(["", ...lines.flatMap((line) => [line, ""])]);
  assertEquals(toText(await next(signaling)), "hello");
  assertEquals(garbage, []);
});

Deno.test("damaged and truncated pastes are reported, and do not affect the next one", async () => {
  const damaged = HELLO.replace(/.{6}$/, "AAAAAA");
  const { signaling, garbage } = await open([damaged, "what?", HELLO.slice(0, -1), HELLO]);
  assertEquals(toText(await next(signaling)), "hello");
  assertEquals(garbage.map(({ message }) => message.replace("Cannot read message: ", "")), [
    "it is damaged, its checksum is wrong",
    "a message starts with punchline-hand:",
    "it is cut off, its end is missing",
  ]);
});

Deno.test("a message that is cut off by the end of the lines is reported", async () => {
  const { garbage, read } = await open([HELLO.slice(0, 30)]);
  await read;
  assertEquals(garbage.length, 1);
});

Deno.test("a message whose end does not follow is reported, and may still be completed", async () => {
  const isReported = Promise.withResolvers<string>();
  const signaling = await manualTransport({
    write() {},
    lines: (async function* () {
      yield HELLO.slice(0, 20);
      await isReported.promise;
      yield HELLO.slice(20);
    })(),
    onGarbage: ({ message }) => isReported.resolve(message),
  }).open({ network });
  assertMatch(await isReported.promise, /its end is missing: paste the rest, or all of it again/);
  assertEquals(toText(await next(signaling)), "hello");
});

Deno.test("one's own message, and one of another attempt, are reported when they are pasted", async () => {
  const pasted = new TransformStream<string, string>();
  const writer = pasted.writable.getWriter();
  const shown: string[] = [];
  const garbage: string[] = [];
  const signaling = await manualTransport({
    write: (line) => shown.push(line),
    lines: pasted.readable,
    onGarbage: ({ message }) => garbage.push(message),
  }).open({ network });
  const received = next(signaling);
  await signaling.publish(OTHER, toBytes("an offer"));
  await writer.write(` ${shown[0]!.slice(0, 30)}\n${shown[0]!.slice(30)} `);
  await writer.write(encodeManualMessage({ topic: OTHER, message: toBytes("old") }));
  await writer.write(HELLO);
  assertEquals(toText(await received), "hello");
  assertEquals(garbage.map((message) => message.replace("Cannot read message: ", "")), [
    "it is the one that is shown here; the other side shows another one",
    "it belongs to another ticket or attempt",
  ]);
  assertEquals(toText(await next(signaling, OTHER)), "old");
});

Deno.test("a message that was pasted before its topic had a listener is delivered later", async () => {
  const other = encodeManualMessage({ topic: OTHER, message: toBytes("other") });
  const { signaling, read } = await open([HELLO, other]);
  await read;
  assertEquals(toText(await next(signaling, OTHER)), "other");
  assertEquals(toText(await next(signaling, TOPIC)), "hello");
});

Deno.test("of many messages without a listener, the newest are kept", async () => {
  const texts = Array.from({ length: 200 }, (_, i) => toBytes(`${i}`));
  const { signaling, read } = await open(
    texts.map((message) => encodeManualMessage({ topic: TOPIC, message })),
  );
  await read;
  const received: string[] = [];
  await signaling.subscribe(TOPIC, (message) => received.push(toText(message)));
  assertEquals([received.length, received.at(-1)], [64, "199"]);
});

Deno.test("onEnd() learns how many messages led somewhere", async () => {
  const message = encodeManualMessage({ topic: TOPIC, message: Uint8Array.of(1) });
  for (
    const [text, expected] of [["", 0], ["what?\n", 0], [message.slice(0, -3), 0], [
      message,
      1,
    ]] as const
  ) {
    const ended = Promise.withResolvers<number>();
    const lines = ReadableStream.from(text.split("\n"));
    const transport = manualTransport({ write() {}, lines, onEnd: ended.resolve });
    await using _signaling = await transport.open({ network });
    assertEquals(await ended.promise, expected, text);
  }
});

Deno.test("publish() and subscribe() reject once the connection is closed", async () => {
  const { signaling, shown } = await open();
  await signaling[Symbol.asyncDispose]();
  await signaling.finished;
  await assertRejects(
    () => signaling.publish(TOPIC, toBytes("hello")),
    NetworkError,
    "it is closed",
  );
  await assertRejects(() => signaling.subscribe(TOPIC, () => {}), NetworkError, "it is closed");
  assertEquals(shown, []);
});

Deno.test("the connection is lost when the lines fail", async () => {
  // deno-lint-ignore require-yield
  async function* broken(): AsyncGenerator<string> {
    await Promise.resolve();
    throw new Error("the terminal is gone");
  }
  const signaling = await manualTransport({ write() {}, lines: broken() }).open({ network });
  await assertRejects(() => signaling.finished, NetworkError, "reading the pasted lines failed");
});

Deno.test("a reconnecting connection delivers what was pasted before it subscribed", async () => {
  const transport = manualTransport({ write() {}, lines: lines([HELLO]) });
  await using signaling = await openReconnecting(transport, { network });
  assertEquals(toText(await next(signaling)), "hello");
});

Deno.test("decodeManualMessage() reports a text as incomplete until its last character is there", () => {
  for (let length = "punchline-hand:".length; length < HELLO.length; length++) {
    assertEquals(decodeManualMessage(HELLO.slice(0, length)), { kind: "incomplete" });
  }
  assertThrows(() => decodeManualMessage(`${HELLO}A`), MalformedMessageError);
});

Deno.test("decodeManualMessage() detects a change of any one character", () => {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const at = fc.integer({ min: "punchline-hand:".length, max: HELLO.length - 1 });
  fc.assert(fc.property(at, fc.constantFrom(...digits), (index, digit) => {
    const text = HELLO.slice(0, index) + digit + HELLO.slice(index + 1);
    if (text === HELLO) return;
    let kind = "malformed";
    try {
      ({ kind } = decodeManualMessage(text)); // one that claims to be longer
    } catch (error) {
      assertEquals(error instanceof MalformedMessageError, true);
    }
    assertEquals(kind === "message", false);
  }));
});

async function open(pasted: readonly string[] = []) {
  const shown: string[] = [];
  const garbage: MalformedMessageError[] = [];
  const read = Promise.withResolvers<void>();
  const signaling = await manualTransport({
    write: (line) => shown.push(line),
    lines: lines(pasted, read.resolve),
    onGarbage: (error) => garbage.push(error),
  }).open({ network });
  return { signaling, shown, garbage, read: read.promise.then(() => Promise.resolve()) };
}

async function* lines(texts: readonly string[], onEnd = () => {}): AsyncGenerator<string> {
  for (const text of texts) yield await Promise.resolve(text);
  onEnd();
}

async function next(signaling: SignalingConnection, topic = TOPIC): Promise<Uint8Array> {
  const received = Promise.withResolvers<Uint8Array>();
  await signaling.subscribe(topic, received.resolve);
  return await received.promise;
}
