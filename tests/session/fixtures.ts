/**
 * Pairs of sessions for tests.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { TcpConnection } from "../../lib/net/network.ts";
import type {
  SessionEvent,
  SessionOptions,
  StreamSessionOptions,
} from "../../lib/session/options.ts";
import { Session } from "../../lib/session/session.ts";
import { StreamSession } from "../../lib/session/streams.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { type TestPath, type TestPathOptions, testPathPair } from "./test_path.ts";

/** Both ends of a session. */
export interface SessionPair extends AsyncDisposable {
  readonly a: Session;
  readonly b: Session;
  readonly aEvents: SessionEvent[];
  readonly bEvents: SessionEvent[];
}

/** A controlling and a controlled session, without a path; disposal resets both. */
export function sessionPair(options: Partial<SessionOptions> = {}): SessionPair {
  const [aEvents, bEvents]: [SessionEvent[], SessionEvent[]] = [[], []];
  const open = (role: SessionOptions["role"], events: SessionEvent[]) =>
    new Session({ role, onEvent: (event) => events.push(event), ...options });
  const [a, b] = [open("controlling", aEvents), open("controlled", bEvents)];
  const dispose = async () => {
    a.reset();
    b.reset();
    await a[Symbol.asyncDispose]();
    await b[Symbol.asyncDispose]();
  };
  return { a, b, aEvents, bEvents, [Symbol.asyncDispose]: dispose };
}

/** The same, with streams. */
export function streamSessionPair(
  options: Partial<StreamSessionOptions> = {},
): SessionPair & { readonly a: StreamSession; readonly b: StreamSession } {
  const [aEvents, bEvents]: [SessionEvent[], SessionEvent[]] = [[], []];
  const open = (role: SessionOptions["role"], events: SessionEvent[]) =>
    new StreamSession({ role, onEvent: (event) => events.push(event), ...options });
  const [a, b] = [open("controlling", aEvents), open("controlled", bEvents)];
  const dispose = async () => {
    a.reset();
    b.reset();
    await a[Symbol.asyncDispose]();
    await b[Symbol.asyncDispose]();
  };
  return { a, b, aEvents, bEvents, [Symbol.asyncDispose]: dispose };
}

/** Attaches a new path to both. */
export async function connect(
  { a, b }: Pick<SessionPair, "a" | "b">,
  options: TestPathOptions = {},
): Promise<[TestPath, TestPath]> {
  const [one, other] = testPathPair(options);
  await Promise.all([a.attach(one), b.attach(other)]);
  return [one, other];
}

/** Runs a job in virtual time. Checks that it leaves no timer, apart from deliveries on paths of at most 50 ms. */
export async function inVirtualTime(job: (time: VirtualTime) => Promise<void>): Promise<void> {
  using time = new VirtualTime();
  await time.run(() => job(time), { limitMs: 3_600_000 });
  await time.run(() => new Promise((resolve) => setTimeout(resolve, 51)));
  assertEquals(time.pendingTimers, 0, "timers were left");
}

/** Bytes that differ by position. */
export function pattern(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = i * 31 + (i >> 8) * 7;
  return bytes;
}

/** Reads exactly `length` bytes. */
export async function readSome(
  connection: Pick<TcpConnection, "read">,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = await connection.read(bytes.subarray(filled));
    assert(count !== null, "the stream ended early");
    filled += count;
  }
  return bytes;
}

/** Reads to the end. */
export async function readAll(
  connection: Pick<TcpConnection, "read">,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const buffer = new Uint8Array(65_536);
  for (let count; (count = await connection.read(buffer)) !== null;) {
    parts.push(buffer.slice(0, count));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
