// deno-lint-ignore-file no-console
/**
 * What a session costs beside the connection that it runs over, plain or secured with Noise: over loopback to another
 * process, in rounds that take turns. Machines and their moods differ, so what counts is the ratio of two rounds that
 * follow each other; `baselines/session.json` keeps the medians.
 *
 *     deno run -A --v8-flags=--expose-gc bench/session_bench.ts [--update]
 *
 * Fails if a figure is less than half as good as the baseline's.
 *
 * @module
 */

import type { TransportAddress } from "../lib/net/address.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { generateKeyPair, KeyPair, secureConnection } from "../lib/noise/mod.ts";
import { Session, type SessionRole } from "../lib/session/mod.ts";

/** What `baselines/session.json` keeps: the session by the connection that it runs over. */
interface Figures {
  /** Bytes a second, writing 64 KiB at a time, over TCP. */
  readonly plainBulkRatio: number;
  /** Milliseconds of a message of 64 bytes and its echo, over TCP. */
  readonly plainRoundTripRatio: number;
  /** As `plainBulkRatio`, over a secured connection. */
  readonly secureBulkRatio: number;
  /** As `plainRoundTripRatio`, over a secured connection. */
  readonly secureRoundTripRatio: number;
  /** KiB of an idle session that has carried one message, with its path, which is in memory. */
  readonly idleKib: number;
}

async function measure(): Promise<Figures> {
  const idleKib = await weighIdle();
  await using _server = await startServer();
  const plainRoundTripRatio = await compareRoundTrips(PLAIN, PLAIN_SESSION);
  const secureRoundTripRatio = await compareRoundTrips(SECURE, SECURE_SESSION);
  const plainBulkRatio = await compareBulk(PLAIN, PLAIN_SESSION);
  const secureBulkRatio = await compareBulk(SECURE, SECURE_SESSION);
  return { plainBulkRatio, plainRoundTripRatio, secureBulkRatio, secureRoundTripRatio, idleKib };
}

async function startServer(): Promise<AsyncDisposable> {
  const server = new Deno.Command(Deno.execPath(), {
    args: ["run", "--unstable-net", "--allow-net", import.meta.filename!, "serve"],
    stdout: "piped",
  }).spawn();
  await server.stdout.getReader({ mode: "byob" }).read(new Uint8Array(4), { min: 4 }); // it listens
  return server;
}

async function compareRoundTrips(bare: Service, session: Service): Promise<number> {
  using one = await open(bare, ECHO);
  using other = await open(session, ECHO);
  await echo(one, WARM_UP_MESSAGES);
  await echo(other, WARM_UP_MESSAGES);
  const times: { bare: number; session: number }[] = [];
  for (let i = 0; i < ROUND_TRIP_ROUNDS; i++) {
    times.push({ bare: await echo(one, MESSAGES), session: await echo(other, MESSAGES) });
  }
  const us = (ms: number) => (ms * 1000).toFixed(0);
  console.log(
    `round trip, ${bare.name}: ${us(median(times.map((time) => time.bare)))} µs, as a session ${
      us(median(times.map((time) => time.session)))
    } µs`,
  );
  return median(times.map(({ bare, session }) => session / bare));
}

async function compareBulk(bare: Service, session: Service): Promise<number> {
  await bulk(bare);
  await bulk(session);
  const rates: { bare: number; session: number }[] = [];
  for (let i = 0; i < BULK_ROUNDS; i++) {
    rates.push({ bare: await bulk(bare), session: await bulk(session) });
  }
  const mbs = (rate: number) => (rate / 1000).toFixed(0);
  console.log(
    `bulk, ${bare.name}: ${mbs(median(rates.map((rate) => rate.bare)))} MB/s, as a session ${
      mbs(median(rates.map((rate) => rate.session)))
    } MB/s`,
  );
  return median(rates.map(({ bare, session }) => session / bare));
}

/** Milliseconds for each message. */
async function echo(connection: TcpConnection, messages: number): Promise<number> {
  const message = new Uint8Array(MESSAGE_BYTES);
  const answer = new Uint8Array(MESSAGE_BYTES);
  const start = performance.now();
  for (let i = 0; i < messages; i++) {
    await connection.write(message);
    for (let read = 0; read < MESSAGE_BYTES;) read += (await connection.read(answer))!;
  }
  return (performance.now() - start) / messages;
}

/** Bytes for each millisecond, until the other side has read them all. */
async function bulk(service: Service): Promise<number> {
  using connection = await open(service, BULK);
  const data = new Uint8Array(WRITE_BYTES);
  const start = performance.now();
  for (let i = 0; i < WRITES; i++) await connection.write(data);
  await connection.closeWrite();
  if (await connection.read(new Uint8Array(1)) !== null) throw new Error("Cannot measure: an echo");
  return WRITES * WRITE_BYTES / (performance.now() - start);
}

/** What each of a thousand sessions adds to the process, with the connection in memory that it runs over. */
async function weighIdle(): Promise<number> {
  const sessions: Session[] = [];
  const before = await weigh();
  for (let i = 0; i < IDLE_SESSIONS / 2; i++) {
    const [one, other] = memoryPair();
    const [a, b] = [new Session({ role: "controlling" }), new Session({ role: "controlled" })];
    await Promise.all([a.attach(one), b.attach(other)]);
    await a.write(new Uint8Array(MESSAGE_BYTES));
    await b.read(new Uint8Array(MESSAGE_BYTES));
    sessions.push(a, b);
  }
  await new Promise((resolve) => setTimeout(resolve, 500)); // all is acknowledged
  const weight = await weigh() - before;
  for (const session of sessions) session.reset();
  return weight / 1024 / IDLE_SESSIONS;
}

async function weigh(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/** A connection whose other side does as it is told. */
async function open(service: Service, mode: number): Promise<TcpConnection> {
  const connection = await systemNetwork.connectTcp(service.address);
  const opened = await wrap(connection, service, "controlling");
  await opened.write(Uint8Array.of(mode));
  return opened;
}

async function serve(service: Service): Promise<void> {
  using listener = await systemNetwork.listenTcp(service.address);
  await Deno.stdout.write(Uint8Array.of(0x2e));
  for (;;) answer(await listener.accept(), service).catch(() => {}); // cut short
}

async function answer(connection: TcpConnection, service: Service): Promise<void> {
  using opened = await wrap(connection, service, "controlled");
  const buffer = new Uint8Array(WRITE_BYTES);
  const mode = new Uint8Array(1);
  await opened.read(mode);
  for (;;) {
    const length = await opened.read(buffer);
    if (length === null) break;
    if (mode[0] === ECHO) await opened.write(buffer.subarray(0, length));
  }
  await opened.closeWrite();
}

async function wrap(
  connection: TcpConnection,
  { isSecure, isSession }: Service,
  role: SessionRole,
): Promise<TcpConnection> {
  const path = isSecure ? await secure(connection, role) : connection;
  if (!isSession) return path;
  const session = new Session({ role });
  await session.attach(path);
  return session;
}

function secure(connection: TcpConnection, role: SessionRole) {
  const isInitiator = role === "controlling";
  return secureConnection(connection, {
    ...{ pattern: "IK", role: isInitiator ? "initiator" : "responder" },
    signal: AbortSignal.timeout(10_000),
    staticKey: isInitiator ? generateKeyPair() : RESPONDER_KEY,
    remoteStaticKey: isInitiator ? RESPONDER_KEY.publicKey : undefined,
  });
}

function memoryPair(): [TcpConnection, TcpConnection] {
  const [one, other] = [new TransformStream<Uint8Array>(), new TransformStream<Uint8Array>()];
  return [toConnection(one, other), toConnection(other, one)];
}

/** Enough of a connection for a few messages. */
function toConnection(
  { writable }: TransformStream<Uint8Array>,
  { readable }: TransformStream<Uint8Array>,
): TcpConnection {
  const [writer, reader] = [writable.getWriter(), readable.getReader()];
  const close = () => void Promise.allSettled([writer.abort(), reader.cancel()]);
  return {
    local: PLAIN.address,
    remote: PLAIN.address,
    read: async (buffer) => {
      const { value } = await reader.read();
      if (value === undefined) return null;
      buffer.set(value);
      return value.length;
    },
    write: async (data) => {
      await writer.write(data.slice());
      return data.length;
    },
    closeWrite: () => writer.close(),
    close,
    reset: close,
    [Symbol.dispose]: close,
  };
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}

interface Service {
  readonly name: string;
  readonly address: TransportAddress;
  readonly isSecure: boolean;
  readonly isSession: boolean;
}

function service(name: string, port: number, isSecure: boolean, isSession: boolean): Service {
  return { name, address: { ip: "127.0.0.1", port }, isSecure, isSession };
}

const PLAIN = service("plain", 34_891, false, false);
const PLAIN_SESSION = service("plain", 34_892, false, true);
const SECURE = service("secured", 34_893, true, false);
const SECURE_SESSION = service("secured", 34_894, true, true);
const RESPONDER_KEY = new KeyPair(new Uint8Array(32).fill(0x42));
const ECHO = 1;
const BULK = 2;
const MESSAGE_BYTES = 64;
const WARM_UP_MESSAGES = 4000;
const MESSAGES = 200;
const ROUND_TRIP_ROUNDS = 41;
const WRITE_BYTES = 65_536;
const WRITES = 1500;
const BULK_ROUNDS = 11;
const IDLE_SESSIONS = 1000;
const BASELINE = new URL("./baselines/session.json", import.meta.url);

/** A figure may be this much worse than the baseline's. */
const TOLERANCE = 2;

if (import.meta.main && Deno.args[0] === "serve") {
  await Promise.all([PLAIN, PLAIN_SESSION, SECURE, SECURE_SESSION].map(serve));
} else if (import.meta.main) {
  const figures = await measure();
  for (const [name, figure] of Object.entries(figures)) {
    console.log(`${name}: ${figure.toFixed(2)}`);
  }
  if (Deno.args.includes("--update")) {
    const round = (_: string, figure: unknown) =>
      typeof figure === "number" ? Math.round(figure * 100) / 100 : figure;
    Deno.writeTextFileSync(BASELINE, JSON.stringify(figures, round, 2) + "\n");
  } else {
    const baseline: Figures = JSON.parse(Deno.readTextFileSync(BASELINE));
    for (const key of Object.keys(figures) as (keyof Figures)[]) {
      const isRate = key === "plainBulkRatio" || key === "secureBulkRatio";
      const worse = isRate ? baseline[key] / figures[key] : figures[key] / baseline[key];
      if (worse <= TOLERANCE) continue;
      console.log(`${key} is ${figures[key].toFixed(2)}, and was ${baseline[key]}`);
      Deno.exitCode = 1;
    }
  }
  Deno.exit(); // connections that are still being closed
}
