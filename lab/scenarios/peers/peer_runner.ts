// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * A program for a host of the lab: opens peers and connects them. Reads lines of JSON, {@linkcode PeerCommand}s with
 * an `id`; prints lines of JSON, `{ "id", "result" }` with a {@linkcode PeerResult}. A listening peer accepts
 * everyone, answers the first byte with the time of its arrival, and echoes what follows.
 *
 * @module
 */

import { Peer } from "../../../lib/peer/peer.ts";
import type { PeerConnection } from "../../../lib/peer/connection.ts";
import type { PeerOptions } from "../../../lib/peer/options.ts";
import type { PathKind, PunchMethodName } from "../../../lib/base/path_kind.ts";
import { UnreachableError } from "../../../lib/base/errors.ts";
import { writeAll } from "../../../lib/base/reader.ts";
import { TextLineStream } from "../../kernel/lines.ts";

/** The commands of the program. */
export type PeerCommand =
  | { readonly command: "open"; readonly options: PeerOptions }
  /** Connects the most recently opened peer. */
  | { readonly command: "connect"; readonly ticket: string; readonly waitForDirectMs?: number }
  /** Connects it, writes as much as it can or a byte now and then, and watches what carries the connection. */
  | {
    readonly command: "watch";
    readonly ticket: string;
    readonly forMs: number;
    readonly isBusy: boolean;
  }
  | { readonly command: "close" };

/** The result of a command. Times are in milliseconds since the call. */
export type PeerResult =
  | { readonly outcome: "opened"; readonly ticket: string }
  | {
    readonly outcome: "connected";
    readonly kind: PathKind;
    readonly method: PunchMethodName | null;
    readonly relayed: boolean;
    readonly connectMs: number;
    /** Until the first byte arrived at the other side. */
    readonly firstByteMs: number;
    /** Until the answer to it arrived. */
    readonly echoMs: number;
    /** Until a relayed connection had a direct path; `null` if it had none when the wait was over. */
    readonly directMs: number | null;
  }
  | {
    readonly outcome: "watched";
    /** What carried the connection, a few times a second. */
    readonly samples: readonly PathSample[];
    /** Whether every byte came back, once and in order. */
    readonly isWhole: boolean;
  }
  | { readonly outcome: "failed"; readonly error: string; readonly message: string }
  | { readonly outcome: "closed" };

/** A connection at one moment. */
export interface PathSample {
  readonly atMs: number;
  readonly route: "relay" | "tcp" | "udp";
  readonly rttMs: number | null;
  /** How many bytes have come back. */
  readonly bytes: number;
}

/** How much goes both ways once a connection is there, so that packets of full size are among it. */
const BULK = 65_536;

/** How often a watched connection is looked at. */
const SAMPLE_MS = 250;

/** The bytes count up to this, so that one that is lost or repeated shows. */
const PATTERN = 251;

if (import.meta.main) {
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream());
  let peer: Peer | undefined;
  for await (const line of lines) {
    const { id, ...command } = JSON.parse(line) as PeerCommand & { id: number };
    try {
      if (command.command === "open" || command.command === "close") await peer?.close();
      if (command.command === "open") {
        peer = await Peer.open(command.options);
        echoAll(peer);
        print(id, { outcome: "opened", ticket: peer.ticket });
      } else if (command.command === "connect") {
        print(id, await connect(peer!, command.ticket, command.waitForDirectMs ?? 0));
      } else if (command.command === "watch") {
        print(id, await watch(peer!, command));
      } else {
        print(id, { outcome: "closed" });
      }
    } catch (error) {
      const { name, message } = error as Error;
      const attempts = error instanceof UnreachableError ? error.attempts : [];
      const tried = attempts.map(({ kind, method, remote, outcome }) =>
        `${method ?? kind} ${remote} ${outcome}`
      );
      const whole = [message, ...tried].join("; ");
      print(id, { outcome: "failed", error: name, message: whole });
    }
  }
  await peer?.close();
}

async function connect(peer: Peer, ticket: string, waitForDirectMs: number): Promise<PeerResult> {
  const startedAtMs = epochMs();
  const connection = await peer.connect(ticket);
  const connectMs = epochMs() - startedAtMs;
  try {
    const { kind, method, relayed } = connection.path;
    await connection.write(Uint8Array.of(1));
    const answer = await readExactly(connection, 8);
    const echoMs = epochMs() - startedAtMs;
    const firstByteMs = new DataView(answer.buffer).getFloat64(0) - startedAtMs;
    const times = { connectMs, firstByteMs, echoMs };
    const isDirect = relayed && await becomesDirect(connection, waitForDirectMs);
    const directMs = isDirect ? epochMs() - startedAtMs : null;
    await Promise.all([connection.write(new Uint8Array(BULK)), readExactly(connection, BULK)]);
    return { outcome: "connected", kind, method, relayed, ...times, directMs };
  } finally {
    await connection.closeWrite().catch(() => {});
    await connection[Symbol.asyncDispose]();
  }
}

async function watch(
  peer: Peer,
  { ticket, forMs, isBusy }: Extract<PeerCommand, { command: "watch" }>,
): Promise<PeerResult> {
  const connection = await peer.connect(ticket);
  const startedAtMs = performance.now();
  const samples: PathSample[] = [];
  let [bytes, written] = [0, 0];
  let isWhole = true;
  await connection.write(Uint8Array.of(1));
  await readExactly(connection, 8);
  const look = () => {
    const { relayed, transport, rttMs } = connection.path;
    const atMs = performance.now() - startedAtMs;
    samples.push({ atMs, route: relayed ? "relay" : transport, rttMs, bytes });
  };
  const timer = setInterval(look, SAMPLE_MS);
  const reading = (async () => {
    const buffer = new Uint8Array(65_536);
    for (let count; (count = await connection.read(buffer)) !== null;) {
      for (let index = 0; index < count; index++) {
        isWhole &&= buffer[index] === (bytes + index) % PATTERN;
      }
      bytes += count;
    }
  })();
  const length = isBusy ? 16_384 : 1;
  const chunk = new Uint8Array(length);
  while (performance.now() - startedAtMs < forMs) {
    for (let index = 0; index < length; index++) chunk[index] = (written + index) % PATTERN;
    await writeAll(connection, chunk);
    written += length;
    if (!isBusy) await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
  }
  clearInterval(timer);
  look();
  await connection.closeWrite();
  await reading;
  await connection[Symbol.asyncDispose]();
  return { outcome: "watched", samples, isWhole: isWhole && bytes === written };
}

async function becomesDirect(connection: PeerConnection, withinMs: number): Promise<boolean> {
  const tooLate = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => tooLate.resolve(undefined), withinMs);
  const events = connection.events[Symbol.asyncIterator]();
  try {
    while (connection.path.relayed) {
      if (await Promise.race([events.next(), tooLate.promise]) === undefined) return false;
    }
    return true;
  } finally {
    clearTimeout(timer);
  }
}

async function echoAll(peer: Peer): Promise<void> {
  for await (const incoming of peer) {
    incoming.accept().then(echo).catch((error) => console.error(`${error}`));
  }
}

async function echo(connection: PeerConnection): Promise<void> {
  await readExactly(connection, 1);
  const answer = new Uint8Array(8);
  new DataView(answer.buffer).setFloat64(0, epochMs());
  await connection.write(answer);
  const buffer = new Uint8Array(65_536);
  for (let count; (count = await connection.read(buffer)) !== null;) {
    await connection.write(buffer.slice(0, count));
  }
  await connection.closeWrite();
  await connection[Symbol.asyncDispose]();
}

async function readExactly(
  connection: PeerConnection,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = await connection.read(buffer.subarray(filled));
    if (count === null) throw new Error("Cannot read: the stream ended early");
    filled += count;
  }
  return buffer;
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

function print(id: number, result: PeerResult): void {
  console.log(JSON.stringify({ id, result }));
}
