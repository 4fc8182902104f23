/**
 * Hairpinning: whether packets from inside to the NAT's external addresses come back in (RFC 4787 §6, RFC 5780 §4.5).
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import {
  ipFamily,
  ipScope,
  isSystemPort,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { bindingReply, type Probe } from "./probe.ts";

/**
 * The schedule of a hairpinning test over UDP. Each of two sockets sends to the other's external address, so that each
 * opens its own filter for the other. The caller watches for arrivals.
 */
export class UdpHairpinTest {
  readonly #sockets: readonly [string, string];
  #startedAtMs: number | undefined;
  #tries = 0;
  #timeoutMs = 0;

  /** @param a one socket, by name; @param b the other */
  constructor(a: string, b: string) {
    this.#sockets = [a, b];
  }

  /** Whether the test has started: both external addresses are known. */
  get isUnderWay(): boolean {
    return this.#startedAtMs !== undefined;
  }

  /** When to call {@linkcode UdpHairpinTest.due} and {@linkcode UdpHairpinTest.verdict} next; `Infinity` for never. */
  wakeAtMs(nowMs: number): number {
    return this.#isOver(nowMs) ? Infinity : this.#nextAtMs;
  }

  /** The packets to send now. */
  due(probes: readonly Probe[], nowMs: number): { from: string; to: TransportAddress }[] {
    const [a, b] = this.#sockets.map((socket) => externalOf(socket, probes));
    if (a === undefined || b === undefined) return [];
    if (sameTransportAddress(a.address, b.address)) return []; // not the truth about two sockets
    this.#startedAtMs ??= nowMs;
    // The path to the NAT and back is shorter than the path to any server outside.
    this.#timeoutMs = Math.max(MIN_TIMEOUT_MS, a.rttMs, b.rttMs);
    if (this.#tries >= TRIES_AT_MS.length || nowMs < this.#nextAtMs) return [];
    this.#tries++;
    return [{ from: this.#sockets[0], to: b.address }, { from: this.#sockets[1], to: a.address }];
  }

  /** `false` once the wait is over. Use it only if nothing has arrived. */
  verdict(nowMs: number): false | "unknown" {
    return this.#isOver(nowMs) ? false : "unknown";
  }

  /** The next try; after the last one, the end of the wait. */
  get #nextAtMs(): number {
    if (this.#startedAtMs === undefined) return Infinity;
    return this.#startedAtMs + (TRIES_AT_MS[this.#tries] ?? TRIES_AT_MS.at(-1)! + this.#timeoutMs);
  }

  #isOver(nowMs: number): boolean {
    return this.#tries === TRIES_AT_MS.length && nowMs >= this.#nextAtMs;
  }
}

function externalOf(
  socket: string,
  probes: readonly Probe[],
): { address: TransportAddress; rttMs: number } | undefined {
  for (const probe of probes) {
    const reply = probe.socket === socket ? bindingReply(probe) : undefined;
    if (reply === undefined || !mayHairpin(reply.mapped, probe.to)) continue;
    return { address: reply.mapped, rttMs: reply.atMs - probe.sentAtMs };
  }
  return undefined;
}

/**
 * Whether an external address may be sent to because a server reports it. A lying server could otherwise direct this
 * host at the devices of its own network, or at the services of others.
 */
export function mayHairpin(external: TransportAddress, server: TransportAddress): boolean {
  if (isSystemPort(external.port)) return false;
  if (ipFamily(external.ip) !== ipFamily(server.ip)) return false; // behind a NAT64, which is asked in the other family
  return !isNearby(external.ip) || isNearby(server.ip);
}

function isNearby(ip: string): boolean {
  return NEARBY.includes(ipScope(ip));
}

/**
 * Tests hairpinning over TCP: listens on a local port and dials its external address. A refusal means no. Silence proves
 * nothing, because a filter may be just as silent.
 *
 * @param signal ends the wait
 */
export async function hairpinsTcp(
  network: Network,
  local: TransportAddress,
  external: TransportAddress,
  signal: AbortSignal,
): Promise<boolean | "unknown"> {
  try {
    using listener = await network.listenTcp(local);
    using dialled = await network.connectTcp(external, { signal });
    // Something else may answer at the external address, such as the router's own web pages.
    using accepted = await listener.accept({ signal });
    const isOurs = await closedOnAbort(accepted, signal, async () => {
      await dialled.write(GREETING);
      const received = new Uint8Array(1);
      return await accepted.read(received) === 1 && received[0] === GREETING[0];
    });
    return isOurs ? true : "unknown";
  } catch (error) {
    if (signal.aborted) return "unknown";
    if (error instanceof NetworkError) return error.reason === "refused" ? false : "unknown";
    throw error;
  }
}

/** Closes the connection on abort: nothing else ends a read from a peer that stays silent. */
async function closedOnAbort<T>(
  connection: TcpConnection,
  signal: AbortSignal,
  job: () => Promise<T>,
): Promise<T> {
  const close = () => connection.close();
  signal.addEventListener("abort", close, { once: true });
  try {
    signal.throwIfAborted();
    return await job();
  } finally {
    signal.removeEventListener("abort", close);
  }
}

const NEARBY: readonly ReturnType<typeof ipScope>[] = [
  "loopback",
  "link-local",
  "private",
  "shared",
];

const GREETING = new Uint8Array([0x50]);

/** Chosen by us: the first packet of each side may find the other's filter closed. */
const TRIES_AT_MS: readonly number[] = [0, 5, 15, 30];

/** Chosen by us: covers the scheduling delays of a busy host. */
const MIN_TIMEOUT_MS = 20;
