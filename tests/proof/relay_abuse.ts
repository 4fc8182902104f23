/**
 * Proof: whatever others do to the relay of a rendezvous, its memory stays bounded, and an honest pair goes on. Each attack
 * is measured on a server of its own, with the limits that it has by default; the attackers have many addresses of
 * loopback. The server, the attackers and the honest pair share the machine's processors.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { writeAll } from "../../lib/base/reader.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork as network } from "../../lib/net/system.ts";
import { RELAY_PATH, TOPICS_PATH } from "../../lib/signal/rendezvous/message.ts";
import { newHandshakeReader, readHead } from "../../lib/signal/websocket/connection.ts";
import { encodeWebSocketFrame } from "../../lib/signal/websocket/frame.ts";
import { encodeUpgradeRequest } from "../../lib/signal/websocket/handshake.ts";
import { type Running, startCommand } from "./process.ts";

/** What one attack did. */
export interface AbuseFigures {
  /** Round trips of an honest pair over the relay before the attack, in milliseconds. */
  readonly quiet: RoundTrips;
  /** And during the attack. */
  readonly attacked: RoundTrips;
  /** The same during the attack over a server that is not attacked, on the same machine. */
  readonly elsewhere: RoundTrips;
  /** New pairs that honest peers tried to open during the attack, one half two seconds before the other. */
  readonly opened: {
    readonly tried: number;
    readonly succeeded: number;
    readonly slowestMs: number;
  };
  /** What the attackers have done. */
  readonly attacks: number;
  readonly residentBefore: number;
  readonly residentPeak: number;
}

/** Milliseconds. */
export interface RoundTrips {
  readonly median: number;
  readonly p99: number;
}

/** The attacks, by name. */
export const ABUSES: Readonly<Record<string, (place: Attack) => Promise<void>>> = {
  "slow-readers": slowReaders,
  "flooding-pair": floodingPair,
  "half-open": halfOpen,
  "token-guesses": tokenGuesses,
  "stalling-proxy": stallingProxy,
};

/** Runs one attack. */
export async function measureRelayAbuse(name: string, seconds: number): Promise<AbuseFigures> {
  await using server = startCommand([...SERVE, "--trust-proxy", PROXY]);
  await using idleServer = startCommand(SERVE);
  const port = await portOf(server);
  const honest = await openPair(port, HONEST);
  const idle = await openPair(await portOf(idleServer), HONEST);
  await roundTrips(idle, 1000);
  await roundTrips(honest, 1000); // compiles it
  const quiet = await roundTrips(honest, 3000);
  const residentBefore = await server.residentBytes();
  const attack = new Attack(port, seconds);
  const attacking = ABUSES[name]!(attack);
  const watching = watch(server, attack);
  await delay(1000);
  const opening = openPairs(port, attack);
  const attackedMs = (seconds - 2) * 1000;
  const [attacked, elsewhere] = await Promise.all([
    roundTrips(honest, attackedMs),
    roundTrips(idle, attackedMs),
  ]);
  await attacking;
  const [opened, residentPeak] = await Promise.all([opening, watching]);
  attack.end();
  for (const each of [...honest, ...idle]) each.reset();
  const attacks = attack.count;
  return { quiet, attacked, elsewhere, opened, attacks, residentBefore, residentPeak };
}

/** The attackers' side. */
export class Attack {
  readonly port: number;
  readonly untilMs: number;
  count = 0;
  readonly #connections = new Set<TcpConnection>();

  constructor(port: number, seconds: number) {
    this.port = port;
    this.untilMs = performance.now() + seconds * 1000;
  }

  get isOver(): boolean {
    return performance.now() >= this.untilMs;
  }

  /** A connection from an address of the attackers; `undefined` if the server refuses it. */
  async connect(source: number, ip = sourceIp(source)): Promise<TcpConnection | undefined> {
    this.count++;
    const connection = await unlessRefused(() => dial(this.port, ip));
    if (connection !== undefined) this.#connections.add(connection);
    return connection;
  }

  /** A WebSocket. */
  async upgrade(source: number, path: string, from?: string): Promise<TcpConnection | undefined> {
    const connection = await this.connect(source, from);
    if (connection === undefined) return undefined;
    const forwarded = from === undefined ? undefined : sourceIp(source);
    return await unlessRefused(() => upgraded(connection, path, forwarded));
  }

  drop(connection: TcpConnection): void {
    connection.reset();
    this.#connections.delete(connection);
  }

  end(): void {
    for (const connection of this.#connections) connection.reset();
  }
}

/** Sixty pairs, one end of which sends as much as it can while the other reads nothing; and so do topics. */
async function slowReaders(attack: Attack): Promise<void> {
  await Promise.all(Array.from({ length: 60 }, async (_, i) => {
    const token = frameOf(crypto.getRandomValues(new Uint8Array(32)));
    const sender = await attack.upgrade(2 * i, RELAY_PATH);
    const reader = await attack.upgrade(2 * i + 1, RELAY_PATH);
    await flood(attack, sender, token, LONG);
    if (reader !== undefined) await unlessRefused(() => writeAll(reader, token));
  }));
  const topic = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 0; i < 16; i++) {
    const subscriber = await attack.upgrade(1000 + i, TOPICS_PATH);
    const frame = frameOf(Uint8Array.of(1, ...topic));
    if (subscriber !== undefined) await unlessRefused(() => writeAll(subscriber, frame));
  }
  const publisher = await attack.upgrade(1020, TOPICS_PATH);
  await flood(attack, publisher, new Uint8Array(0), frameOf(Uint8Array.of(3, ...topic, ...TEXT)));
  while (!attack.isOver) await delay(100);
}

/** One pair sends all that it can in both directions, half of it in the shortest messages. */
async function floodingPair(attack: Attack): Promise<void> {
  const token = frameOf(crypto.getRandomValues(new Uint8Array(32)));
  const ends = [await attack.upgrade(1, RELAY_PATH), await attack.upgrade(2, RELAY_PATH)];
  for (const [i, end] of ends.entries()) {
    await flood(attack, end, token, i === 0 ? LONG : SHORT);
    if (end !== undefined) drain(end);
  }
  while (!attack.isOver) await delay(100);
}

/** Ten thousand connections from a quarter as many addresses: most say nothing, and every fourth waits at the relay. */
async function halfOpen(attack: Attack): Promise<void> {
  let next = 0;
  const perWorker = async () => {
    while (next < 10_000 && !attack.isOver) {
      const i = next++;
      if (i % 4 !== 3) {
        await attack.connect(i >> 2);
        continue;
      }
      const half = await attack.upgrade(i >> 2, RELAY_PATH);
      const token = frameOf(crypto.getRandomValues(new Uint8Array(32)));
      if (half !== undefined) await unlessRefused(() => writeAll(half, token));
    }
  };
  await Promise.all(Array.from({ length: 50 }, perWorker));
  while (!attack.isOver) await delay(100);
}

/** A hundred and twenty addresses try one token after another, four at a time each. */
async function tokenGuesses(attack: Attack): Promise<void> {
  await Promise.all(Array.from({ length: 480 }, async (_, i) => {
    while (!attack.isOver) {
      const half = await attack.upgrade(i >> 2, RELAY_PATH);
      if (half === undefined) {
        await delay(200);
        continue;
      }
      const token = frameOf(crypto.getRandomValues(new Uint8Array(32)));
      await unlessRefused(() => writeAll(half, token));
      await delay(2000);
      attack.drop(half);
    }
  }));
}

/** A trusted proxy brings in a thousand clients, each from another address, and then passes on nothing more. */
async function stallingProxy(attack: Attack): Promise<void> {
  for (let i = 0; i < 1000 && !attack.isOver; i++) {
    if (i % 2 === 0) {
      const connection = await attack.connect(i, PROXY);
      const head = new TextEncoder().encode("GET /relay/1 HTTP/1.1\r\nX-Forwarded-For: 198.51.");
      if (connection !== undefined) await unlessRefused(() => writeAll(connection, head));
    } else {
      const half = await attack.upgrade(i, RELAY_PATH, PROXY);
      const part = LONG.subarray(0, 10_000);
      if (half !== undefined) await unlessRefused(() => writeAll(half, part));
    }
  }
  while (!attack.isOver) await delay(100);
}

/** Sends the first bytes, and goes on with the others until the attack is over. */
async function flood(
  attack: Attack,
  connection: TcpConnection | undefined,
  first: Uint8Array,
  then: Uint8Array,
): Promise<void> {
  if (connection === undefined) return;
  await unlessRefused(() => writeAll(connection, first));
  (async () => {
    while (!attack.isOver) {
      if (await unlessRefused(async () => (await writeAll(connection, then), true)) !== true) {
        return;
      }
      if (++attack.count % 256 === 0) await delay(1); // the honest pair is in this process too
    }
  })();
}

async function drain(connection: TcpConnection): Promise<void> {
  const buffer = new Uint8Array(65_536);
  await unlessRefused(async () => {
    while (await connection.read(buffer) !== null);
  });
}

async function portOf(server: Running): Promise<number> {
  const { rendezvous } = JSON.parse(await server.prints(/^(.*"listening".*)\n/));
  return Number(new URL(rendezvous).port);
}

async function watch(server: Running, attack: Attack): Promise<number> {
  let peak = 0;
  while (!attack.isOver) {
    peak = Math.max(peak, await server.residentBytes());
    await delay(100);
  }
  return peak;
}

/** Honest pairs, one after another, each from addresses of its own. */
async function openPairs(port: number, attack: Attack): Promise<AbuseFigures["opened"]> {
  const figures = { tried: 0, succeeded: 0, slowestMs: 0 };
  while (performance.now() < attack.untilMs - 4000) {
    const i = figures.tried++;
    const startedMs = performance.now();
    const pair = await unlessRefused(() =>
      openPair(port, [`127.201.${i}.1`, `127.201.${i}.2`], HALF_MS)
    );
    if (pair !== undefined) {
      figures.succeeded++;
      const elapsedMs = performance.now() - startedMs - HALF_MS;
      figures.slowestMs = Math.max(figures.slowestMs, Math.round(elapsedMs));
      for (const each of pair) each.reset();
    }
    await delay(500);
  }
  return figures;
}

/** @param waitMs how long the first half waits for the second */
async function openPair(
  port: number,
  ips: readonly [string, string],
  waitMs = 0,
): Promise<[TcpConnection, TcpConnection]> {
  const token = frameOf(crypto.getRandomValues(new Uint8Array(32)));
  const one = await upgraded(await dial(port, ips[0]), RELAY_PATH);
  await writeAll(one, token);
  await delay(waitMs);
  const other = await upgraded(await dial(port, ips[1]), RELAY_PATH);
  await writeAll(other, token);
  const present = new Uint8Array(2 + '{"peer":"present"}'.length);
  for (const each of [one, other]) await readAll(each, present);
  if (present[0] !== 0x81) throw new Error("the relay has closed the connection");
  return [one, other];
}

/** A message goes from one end to the other and back, again and again. */
async function roundTrips(
  [one, other]: readonly [TcpConnection, TcpConnection],
  forMs: number,
): Promise<RoundTrips> {
  const frame = frameOf(new Uint8Array(1000));
  const received = new Uint8Array(1004);
  const times: number[] = [];
  const untilMs = performance.now() + forMs;
  while (performance.now() < untilMs) {
    const startedMs = performance.now();
    await writeAll(one, frame);
    await readAll(other, received);
    await writeAll(other, frame);
    await readAll(one, received);
    times.push(performance.now() - startedMs);
    await delay(10);
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => Number(times[Math.floor(times.length * share)]!.toFixed(1));
  return { median: at(0.5), p99: at(0.99) };
}

async function readAll(connection: TcpConnection, buffer: Uint8Array): Promise<void> {
  for (let length = 0; length < buffer.length;) {
    const more = await connection.read(buffer.subarray(length));
    if (more === null) throw new Error("the server has closed the connection");
    length += more;
  }
}

function dial(port: number, ip: string): Promise<TcpConnection> {
  const signal = AbortSignal.timeout(10_000);
  return network.connectTcp({ ip: "127.0.0.1", port }, { local: { ip, port: 0 }, signal });
}

async function upgraded(
  connection: TcpConnection,
  path: string,
  forwardedFor?: string,
): Promise<TcpConnection> {
  const request = new TextDecoder().decode(encodeUpgradeRequest("127.0.0.1", path, KEY));
  const field = forwardedFor === undefined ? "" : `X-Forwarded-For: ${forwardedFor}\r\n`;
  const head = `${request.slice(0, -2)}${field}\r\n`;
  await writeAll(connection, new TextEncoder().encode(head));
  const { startLine } = await readHead(connection, newHandshakeReader(connection));
  if (!startLine.includes(" 101 ")) throw new Error(startLine);
  return connection;
}

/** `undefined` if the server refuses, resets or closes. */
async function unlessRefused<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch {
    return undefined;
  }
}

function sourceIp(source: number): string {
  return `127.${100 + (source >> 16)}.${source >> 8 & 255}.${source & 255}`;
}

function frameOf(payload: Uint8Array): Uint8Array {
  return encodeWebSocketFrame("binary", payload, Uint8Array.of(1, 2, 3, 4));
}

const KEY = "dGhlIHNhbXBsZSBub25jZQ==";
const HONEST = ["127.200.0.1", "127.200.0.2"] as const;
const PROXY = "127.99.0.1";
const HALF_MS = 2000;
const LONG = frameOf(new Uint8Array(65_536));
const SHORT = frameOf(new Uint8Array(0));
const TEXT = new Uint8Array(4000);
const SERVE = [
  ...["serve", "--json", "--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"],
];
