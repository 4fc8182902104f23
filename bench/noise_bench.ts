// deno-lint-ignore-file no-console
/**
 * What encryption costs: a connection secured with Noise beside a plain one, over loopback to another process, in
 * rounds that take turns. Machines and their moods differ, so what counts is the ratio of two rounds that follow each
 * other; `baselines/noise.json` keeps the medians.
 *
 *     deno run -A bench/noise_bench.ts [--update]
 *
 * Fails if a figure is less than half as good as the baseline's. The round trip depends on what else the machine does:
 * where a processor sleeps between two messages, waking it hides most of what the cipher costs.
 *
 * @module
 */

import type { TransportAddress } from "../lib/net/address.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { generateKeyPair, KeyPair, secureConnection } from "../lib/noise/mod.ts";

/** What `baselines/noise.json` keeps. */
interface Figures {
  /** Bytes a second, writing 64 KiB at a time: secured by plain. */
  readonly bulkRatio: number;
  /** Milliseconds of a message of 64 bytes and its echo: secured by plain. */
  readonly roundTripRatio: number;
  /** Of an IK handshake on a connection that is open. */
  readonly handshakeMs: number;
  /** Of the first one in two processes that have just started. */
  readonly firstHandshakeMs: number;
}

async function measure(): Promise<Figures> {
  await using server = new Deno.Command(Deno.execPath(), {
    args: ["run", "--unstable-net", "--allow-net", import.meta.filename!, "serve"],
    stdout: "piped",
  }).spawn();
  await server.stdout.getReader({ mode: "byob" }).read(new Uint8Array(1)); // it listens
  const firstHandshakeMs = await handshake();
  const handshakeMs = await medianOf(HANDSHAKES, handshake);
  const roundTripRatio = await compareRoundTrips();
  const bulkRatio = await compareBulk();
  return { bulkRatio, roundTripRatio, handshakeMs, firstHandshakeMs };
}

async function handshake(): Promise<number> {
  using connection = await systemNetwork.connectTcp(SECURE);
  const start = performance.now();
  using _secured = await secure(connection, "initiator");
  return performance.now() - start;
}

async function compareRoundTrips(): Promise<number> {
  using plain = await open(PLAIN, ECHO);
  using secured = await open(SECURE, ECHO);
  await echo(plain, WARM_UP_MESSAGES);
  await echo(secured, WARM_UP_MESSAGES);
  const times: { plain: number; secured: number }[] = [];
  for (let i = 0; i < ROUND_TRIP_ROUNDS; i++) {
    times.push({ plain: await echo(plain, MESSAGES), secured: await echo(secured, MESSAGES) });
  }
  const us = (ms: number) => (ms * 1000).toFixed(0);
  console.log(
    `round trip: ${us(median(times.map((time) => time.plain)))} µs plain, ${
      us(median(times.map((time) => time.secured)))
    } µs secured`,
  );
  return median(times.map(({ plain, secured }) => secured / plain));
}

async function compareBulk(): Promise<number> {
  await bulk(PLAIN);
  await bulk(SECURE);
  const rates: { plain: number; secured: number }[] = [];
  for (let i = 0; i < BULK_ROUNDS; i++) {
    rates.push({ plain: await bulk(PLAIN), secured: await bulk(SECURE) });
  }
  const mbs = (rate: number) => (rate / 1000).toFixed(0);
  console.log(
    `bulk: ${mbs(median(rates.map((rate) => rate.plain)))} MB/s plain, ${
      mbs(median(rates.map((rate) => rate.secured)))
    } MB/s secured`,
  );
  return median(rates.map(({ plain, secured }) => secured / plain));
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
async function bulk(address: TransportAddress): Promise<number> {
  using connection = await open(address, BULK);
  const data = new Uint8Array(WRITE_BYTES);
  const start = performance.now();
  for (let i = 0; i < WRITES; i++) await connection.write(data);
  await connection.closeWrite();
  if (await connection.read(new Uint8Array(1)) !== null) throw new Error("Cannot measure: an echo");
  return WRITES * WRITE_BYTES / (performance.now() - start);
}

/** A connection whose other side does as it is told. */
async function open(address: TransportAddress, mode: number): Promise<TcpConnection> {
  const connection = await systemNetwork.connectTcp(address);
  const opened = address === SECURE ? await secure(connection, "initiator") : connection;
  await opened.write(Uint8Array.of(mode));
  return opened;
}

async function serve(address: TransportAddress): Promise<void> {
  using listener = await systemNetwork.listenTcp(address);
  await Deno.stdout.write(Uint8Array.of(0x2e));
  for (;;) {
    const connection = await listener.accept();
    answer(connection, address === SECURE).catch(() => connection.close()); // the handshakes are cut short
  }
}

async function answer(connection: TcpConnection, isSecure: boolean): Promise<void> {
  using opened = isSecure ? await secure(connection, "responder") : connection;
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

function secure(connection: TcpConnection, role: "initiator" | "responder") {
  const signal = AbortSignal.timeout(10_000);
  return secureConnection(connection, {
    ...{ pattern: "IK", role, signal },
    staticKey: role === "responder" ? RESPONDER_KEY : generateKeyPair(),
    remoteStaticKey: role === "responder" ? undefined : RESPONDER_KEY.publicKey,
  });
}

async function medianOf(times: number, measure: () => Promise<number>): Promise<number> {
  const found: number[] = [];
  for (let i = 0; i < times; i++) found.push(await measure());
  return median(found);
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}

const PLAIN: TransportAddress = { ip: "127.0.0.1", port: 34_791 };
const SECURE: TransportAddress = { ip: "127.0.0.1", port: 34_792 };
const RESPONDER_KEY = new KeyPair(new Uint8Array(32).fill(0x42));
const ECHO = 1;
const BULK = 2;
const HANDSHAKES = 31;
const MESSAGE_BYTES = 64;
const WARM_UP_MESSAGES = 4000;
const MESSAGES = 200;
const ROUND_TRIP_ROUNDS = 41;
const WRITE_BYTES = 65_536;
const WRITES = 1500;
const BULK_ROUNDS = 11;
const BASELINE = new URL("./baselines/noise.json", import.meta.url);

/** A figure may be this much worse than the baseline's. */
const TOLERANCE = 2;

if (import.meta.main && Deno.args[0] === "serve") {
  await Promise.all([serve(PLAIN), serve(SECURE)]);
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
    for (const key of ["bulkRatio", "roundTripRatio", "handshakeMs"] as const) {
      const worse = key === "bulkRatio"
        ? baseline[key] / figures[key]
        : figures[key] / baseline[key];
      if (worse <= TOLERANCE) continue;
      console.log(`${key} is ${figures[key].toFixed(2)}, and was ${baseline[key]}`);
      Deno.exitCode = 1;
    }
  }
}
