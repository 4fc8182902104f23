/**
 * Whether packets from inside to the own external address come back in: RFC 4787 §6, RFC 5780 §4.5.
 *
 * Both of two sockets send to the external address of the other, so that a filter which lets nobody in unasked
 * has been asked.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import { bindingReply, type Probe } from "./probe.ts";

/** The schedule of one hairpin test; what arrives is for the sockets to notice. */
export class Hairpin {
  readonly #sockets: readonly [string, string];
  #knownAtMs: number | undefined;
  #tries = 0;
  #timeoutMs = 0;

  /** @param a one of the two sockets, by name; @param b the other */
  constructor(a: string, b: string) {
    this.#sockets = [a, b];
  }

  /** Whether both external addresses are known, so that the test has begun. */
  get isUnderWay(): boolean {
    return this.#knownAtMs !== undefined;
  }

  /** When {@linkcode Hairpin.due} or {@linkcode Hairpin.verdict} have something new to say; `Infinity` for never. */
  wakeAtMs(nowMs: number): number {
    return this.#isOver(nowMs) ? Infinity : this.#nextAtMs;
  }

  /** The packets to send now. */
  due(probes: readonly Probe[], nowMs: number): { from: string; to: TransportAddress }[] {
    const [a, b] = this.#sockets.map((socket) => externalOf(socket, probes));
    if (a === undefined || b === undefined) return [];
    this.#knownAtMs ??= nowMs;
    // A hairpin is shorter than the way to any server outside.
    this.#timeoutMs = Math.max(MIN_PATIENCE_MS, a.rttMs, b.rttMs);
    if (this.#tries >= TRIES_AT_MS.length || nowMs < this.#nextAtMs) return [];
    this.#tries++;
    return [{ from: this.#sockets[0], to: b.address }, { from: this.#sockets[1], to: a.address }];
  }

  /** `false` once silence has lasted; only meaningful if nothing has arrived. */
  verdict(nowMs: number): false | "unknown" {
    return this.#isOver(nowMs) ? false : "unknown";
  }

  /** The next try, or after the last one the end of the wait. */
  get #nextAtMs(): number {
    if (this.#knownAtMs === undefined) return Infinity;
    return this.#knownAtMs + (TRIES_AT_MS[this.#tries] ?? TRIES_AT_MS.at(-1)! + this.#timeoutMs);
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
    if (reply !== undefined) return { address: reply.mapped, rttMs: reply.atMs - probe.sentAtMs };
  }
  return undefined;
}

/** The first try of each side may find the filter closed; ours. */
const TRIES_AT_MS: readonly number[] = [0, 5, 15, 30];

const MIN_PATIENCE_MS = 20;
