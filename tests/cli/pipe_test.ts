import { assertEquals, assertRejects } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import { hash } from "../../lib/base/crypto.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { CliIo } from "../../lib/cli/io.ts";
import { pipeThrough } from "../../lib/cli/pipe.ts";
import { StdinChunks } from "../../lib/cli/stdin_chunks.ts";
import { toDenoConn } from "../../lib/net/deno_conn.ts";
import { memoryPair } from "../noise/pair.ts";
import { labelledRandom, randomInteger } from "../simnet/random.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { stdinOf } from "./byte_streams.ts";
import { noTerminal } from "./no_terminal.ts";

Deno.test("pipeThrough() passes everything on in both directions, in pieces of any size", async () => {
  const [one, other] = memoryPair();
  const [data, answer] = [randomPieces("data", 40), randomPieces("answer", 40)];
  const printed: Uint8Array[] = [];
  const answered: Uint8Array[] = [];
  await Promise.all([
    pipeThrough(toDenoConn(one), io(printed), chunksOf(ReadableStream.from(data))),
    pipeThrough(toDenoConn(other), io(answered), chunksOf(ReadableStream.from(answer))),
  ]);
  assertEquals(printed.map(({ length }) => length > 65_536).includes(true), true);
  assertEquals(hash("sha256", concat(...printed)), hash("sha256", concat(...answer)));
  assertEquals(hash("sha256", concat(...answered)), hash("sha256", concat(...data)));
});

Deno.test("pipeThrough() leaves what stdin has not given yet to the next connection", async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const typed = writable.getWriter();
  const [one, other] = memoryPair();
  const finished = Promise.withResolvers<void>();
  const conn = Object.assign(toDenoConn(one), { finished: finished.promise });
  const stdin = chunksOf(readable);
  const broken = pipeThrough(conn, io([]), stdin);
  await typed.write(text("first"));
  await other.read(new Uint8Array(5));
  finished.reject(new NetworkError("Cannot continue: the path is lost", "timed-out"));
  await assertRejects(() => broken, NetworkError);

  const [next, receiver] = memoryPair();
  const received: Uint8Array[] = [];
  const nothing = chunksOf(ReadableStream.from([]));
  const receiving = pipeThrough(toDenoConn(receiver), io(received), nothing);
  const sending = pipeThrough(toDenoConn(next), io([]), stdin);
  await Promise.all([typed.write(text("second")), typed.close(), sending, receiving]);
  assertEquals(received, [text("second")]);
});

Deno.test("pipeThrough() fails as soon as stdout does, even if nothing more arrives", async () => {
  using _time = new VirtualTime();
  const [one, other] = memoryPair();
  const failing = {
    write: () => Promise.reject(new Deno.errors.BrokenPipe("the reader has gone")),
  };
  const piping = pipeThrough(toDenoConn(one), { ...io([]), stdout: failing }, SILENCE);
  await other.write(text("hello"));
  await assertRejects(() => piping, Deno.errors.BrokenPipe);
  assertEquals([one.closed, await other.read(new Uint8Array(1))], ["closed", null]);
});

Deno.test("pipeThrough() prints what has arrived before it fails, unless it is interrupted", async () => {
  for (const [isInterrupted, hasMore] of [[false, false], [true, false], [true, true]]) {
    const [one, other] = memoryPair();
    const taking = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const slow = {
      write: async ({ length }: Uint8Array) => {
        started.resolve();
        await taking.promise;
        return length;
      },
    };
    const stop = new AbortController();
    const finished = Promise.withResolvers<void>();
    const conn = Object.assign(toDenoConn(one), { finished: finished.promise });
    const piping = pipeThrough(conn, { ...io([]), stdout: slow, signal: stop.signal }, SILENCE);
    const over = piping.then(() => "over", () => "over");
    await other.write(text("the last words"));
    await started.promise;
    if (hasMore) await other.write(text("and more"));
    if (hasMore) await new Promise((resolve) => setTimeout(resolve)); // it is read
    if (isInterrupted) stop.abort();
    else finished.reject(new NetworkError("Cannot continue: the path is lost", "timed-out"));
    const printing = new Promise((resolve) => setTimeout(resolve, 20, "printing"));
    assertEquals(await Promise.race([over, printing]), isInterrupted ? "over" : "printing");
    taking.resolve();
    assertEquals(await over, "over");
    await printing;
  }
});

Deno.test("pipeThrough() fails if the other side has ended, and then takes no more of stdin", async () => {
  const failure = new NetworkError("Cannot write: connection reset", "reset");
  for (const hasFinished of [false, true]) {
    const [one, other] = memoryPair();
    const conn = Object.assign(toDenoConn(one), {
      write: () => Promise.reject(failure),
      ...hasFinished ? { finished: Promise.resolve() } : {},
    });
    const printed: Uint8Array[] = [];
    await other.write(text("an answer"));
    await other.closeWrite();
    const stdin = chunksOf(ReadableStream.from([text("much")]));
    const piping = pipeThrough(conn, io(printed), stdin);
    if (hasFinished) await piping; // whoever has the connection sees how it has ended
    else assertEquals(await assertRejects(() => piping), failure);
    assertEquals(concat(...printed), text("an answer"));
  }
});

Deno.test("pipeThrough() resets the connection if stdin cannot be read", async () => {
  const [one] = memoryPair();
  const stdin = new StdinChunks({ read: () => Promise.reject(new Error("no")) });
  await assertRejects(() => pipeThrough(toDenoConn(one), io([]), stdin), Error, "no");
  assertEquals(one.closed, "reset");
});

Deno.test("pipeThrough() rejects with the signal's reason, before and while it waits", async () => {
  for (const isBefore of [true, false]) {
    const [one] = memoryPair();
    const stop = new AbortController();
    const reason = new Error("interrupted");
    if (isBefore) stop.abort(reason);
    const piping = pipeThrough(toDenoConn(one), { ...io([]), signal: stop.signal }, SILENCE);
    stop.abort(reason);
    assertEquals(await assertRejects(() => piping), reason);
  }
});

function io(printed: Uint8Array[]): CliIo {
  return {
    out: () => {},
    err: () => {},
    ...noTerminal(),
    signal: new AbortController().signal,
    stdout: {
      write: (data) => {
        printed.push(data.slice());
        return Promise.resolve(data.length);
      },
    },
  };
}

function chunksOf(stream: ReadableStream<Uint8Array>): StdinChunks {
  return new StdinChunks(stdinOf(stream));
}

/** Stdin of which nothing is heard. */
const SILENCE = new StdinChunks({ read: () => new Promise(() => {}) });

function randomPieces(label: string, count: number): Uint8Array[] {
  const random = labelledRandom(1, label);
  return Array.from({ length: count }, () => {
    const piece = new Uint8Array(randomInteger(random, 1, 100_000));
    for (let i = 0; i < piece.length; i += 97) piece[i] = randomInteger(random, 0, 255);
    return piece;
  });
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
