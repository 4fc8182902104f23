/**
 * Runs TCP filter tests for the connections of a server, within the limits of docs/tcp-filter-test.md.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { type Rate, RateLimiter } from "../../base/rate_limiter.ts";
import { sourceKey, type TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { BINDING, encodeMessage } from "../message.ts";
import type { Arrival } from "../server/binding.ts";
import type { StunServerCounters } from "../server/endpoints.ts";
import { writeAll } from "../../base/reader.ts";

import type { DialOutcome, DialResult, TcpFilterRequest, TcpFilterResult } from "./message.ts";
import { delay } from "@std/async/delay";

/** How to dial back. */
export interface DialBackOptions {
  readonly network: Network;
  /** The address to dial from; each dial has a fresh port of the system's choice. */
  readonly fromIp: string;
  /** Without an answer in this time, the outcome is silence. */
  readonly windowMs: number;
  /** What to say on a connection that is accepted, by the address that it comes from. */
  readonly greeting: (origin: TransportAddress) => Uint8Array;
  readonly signal: AbortSignal;
}

/**
 * Dials up to three times, so that a lost SYN or two do not look like a filter, and hangs up as soon as one
 * dial is answered. Never rejects for what the network does; an abort ends it like the end of the window.
 */
export async function dialBack(
  target: TransportAddress,
  options: DialBackOptions,
): Promise<DialResult> {
  const startedMs = performance.now();
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), options.windowMs);
  const signal = AbortSignal.any([over.signal, options.signal]);
  let dials = 0;

  async function attempt(afterMs: number): Promise<DialOutcome> {
    try {
      await delay(afterMs, { signal });
      dials++;
      await dialAndGreet(target, options, signal);
      return "accepted";
    } catch (error) {
      return outcomeOf(error, signal);
    }
  }

  const spacingMs = Math.min(MAX_SPACING_MS, options.windowMs / (DIALS + 1));
  const outcomes = await Promise.all(
    Array.from({ length: DIALS }, async (_, index) => {
      const outcome = await attempt(index * spacingMs);
      if (outcome === "accepted" || outcome === "refused") over.abort();
      return outcome;
    }),
  );
  clearTimeout(timer);
  return {
    outcome: BY_WEIGHT.find((outcome) => outcomes.includes(outcome)) ?? "silent",
    dials,
    elapsedMs: Math.min(0xffff, Math.round(performance.now() - startedMs)),
  };
}

async function dialAndGreet(
  target: TransportAddress,
  { network, fromIp, greeting }: DialBackOptions,
  signal: AbortSignal,
): Promise<void> {
  using connection = await network.connectTcp(target, { local: { ip: fromIp, port: 0 }, signal });
  try {
    await writeAll(connection, greeting(connection.local));
  } catch (error) {
    // It was accepted; what the client does then is its own affair.
    if (!(error instanceof NetworkError)) throw error;
  }
}

function outcomeOf(error: unknown, signal: AbortSignal): DialOutcome {
  if (signal.aborted && error === signal.reason) return "silent";
  if (!(error instanceof NetworkError)) throw error;
  switch (error.reason) {
    case "refused":
      return "refused";
    case "reset": // a RST behind the SYN-ACK
      return "accepted";
    case "unreachable":
      return "unreachable";
    case "timed-out":
      return "silent";
    default:
      return "not-tested"; // this system's own failure, such as no free port
  }
}

/** One answer outweighs any silence, and silence outweighs a failure of single dials. */
const BY_WEIGHT: readonly DialOutcome[] = [
  "accepted",
  "refused",
  "silent",
  "unreachable",
  "not-tested",
];

/** Ours: with 10 % loss each way all of three are lost once in 150 times; retransmissions come on top. */
export const DIALS = 3;

/** Ours: far enough apart that one burst of losses does not take two. */
const MAX_SPACING_MS = 250;

/** How many tests a server runs. */
export interface TcpFilterLimits {
  /** Tests for one source. */
  readonly tests: Rate;
  /** Tests at the same time. */
  readonly maxConcurrent: number;
}

/** Dials back to clients. */
export class TcpFilterService {
  readonly #network: Network;
  readonly #limits: TcpFilterLimits;
  readonly #counters: StunServerCounters;
  readonly #tests: RateLimiter;
  #running = 0;

  /** @param seed any 32 bits that nobody can guess */
  constructor(
    network: Network,
    limits: TcpFilterLimits,
    { counters, seed }: { counters: StunServerCounters; seed: number },
  ) {
    this.#network = network;
    this.#limits = limits;
    this.#counters = counters;
    this.#tests = new RateLimiter(limits.tests, seed);
  }

  /**
   * Dials the source of a request that arrived on a TCP connection; the handshake has proved that the source
   * is who asks. That it is the first test of its connection is for the caller to see to.
   */
  async test(
    { windowMs }: TcpFilterRequest,
    arrival: Arrival,
    { transactionId, signal }: { transactionId: Uint8Array; signal: AbortSignal },
  ): Promise<TcpFilterResult> {
    if (!this.#take(arrival.source.ip)) return this.refuse();
    this.#running++;
    this.#counters.filterTests++;
    try {
      const dialFrom = (fromIp: string) =>
        dialBack(arrival.source, {
          network: this.#network,
          fromIp,
          windowMs: Math.min(windowMs, MAX_WINDOW_MS),
          greeting: (origin) => encodeGreeting(transactionId, origin),
          signal,
        });
      const [sameAddress, alternateAddress] = await Promise.all([
        dialFrom(arrival.destination.ip),
        arrival.other === undefined ? NOT_TESTED : dialFrom(arrival.other.ip),
      ]);
      return { sameAddress, alternateAddress };
    } finally {
      this.#running--;
    }
  }

  /** The result of a test that was not run. */
  refuse(): TcpFilterResult {
    this.#counters.filterTestsRefused++;
    return { sameAddress: NOT_TESTED, alternateAddress: NOT_TESTED };
  }

  #take(sourceIp: string): boolean {
    return this.#running < this.#limits.maxConcurrent &&
      this.#tests.take(sourceKey(sourceIp), 1, performance.now());
  }
}

/** A Binding indication with the transaction id of the request, by which the client knows the dial. */
function encodeGreeting(transactionId: Uint8Array, origin: TransportAddress): Uint8Array {
  return encodeMessage({
    class: "indication",
    method: BINDING,
    transactionId,
    attributes: [{ type: "RESPONSE-ORIGIN", value: origin }],
  });
}

const NOT_TESTED: DialResult = { outcome: "not-tested", dials: 0, elapsedMs: 0 };

/**
 * Ours: long enough for three dials over any terrestrial path, and too short for a kernel to send a SYN a
 * third time (after 2 s by Linux, 3 s by RFC 6298).
 */
const MAX_WINDOW_MS = 1900;

/**
 * A request for a test is at least as long as all that the test sends to somebody who does not answer: two
 * origins, their dials, each a SYN and its retransmission, at 80 bytes with IPv6; rounded up.
 */
export const MIN_FILTER_REQUEST_LENGTH: number = Math.ceil(2 * DIALS * 2 * 80 / 1024) * 1024;
