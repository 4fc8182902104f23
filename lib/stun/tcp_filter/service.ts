/**
 * Runs TCP filter tests for the connections of a server, within the limits of docs/tcp-filter-test.md.
 *
 * @module
 */

import { type Rate, RateLimiter } from "../../base/rate_limiter.ts";
import type { TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { dialBack, DIALS } from "../dial_back.ts";
import { BINDING, encodeMessage } from "../message.ts";
import type { Arrival } from "../server/binding.ts";
import type { StunServerCounters } from "../server_counters.ts";
import type { DialResult, TcpFilterRequest, TcpFilterResult } from "./message.ts";

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
      this.#tests.take(sourceIp, 1, performance.now());
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
