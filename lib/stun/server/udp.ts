/**
 * What a STUN server sends for a datagram: the answer of `binding.ts`, within the limits that keep the server from
 * being used to attack others. It has no sockets, and the clock is an argument.
 *
 * @module
 */

import type { Rate } from "../../base/rate_limiter.ts";
import type { TransportAddress } from "../../net/address.ts";
import { SourceRateLimiter } from "../../net/source.ts";
import {
  answerBinding,
  type Arrival,
  decodeRequest,
  encodeAnswer,
  isPlainBinding,
  mayBeBindingRequest,
  PlainResponder,
  refuseBinding,
} from "./binding.ts";
import type { StunServerCounters } from "./endpoints.ts";

/** A datagram to send. */
export interface OutgoingDatagram {
  readonly data: Uint8Array;
  readonly from: TransportAddress;
  readonly to: TransportAddress;
}

/** The rates that each source is allowed. */
export interface UdpLimits {
  /** Bytes by which responses may be longer than their requests, so that old and new clients are served. */
  readonly excessBytes: Rate;
  /** Responses to CHANGE-REQUEST, RESPONSE-PORT, RESPONSE-ADDRESS and PADDING. */
  readonly specialAnswers: Rate;
}

/** What each source has used of its rates, over all addresses of a server. */
export interface UdpBuckets {
  readonly excessBytes: SourceRateLimiter;
  readonly specialAnswers: SourceRateLimiter;
}

/** Full token buckets; `seed` is any 32 bits that others cannot guess. */
export function newBuckets(limits: UdpLimits, seed: number): UdpBuckets {
  return {
    excessBytes: new SourceRateLimiter(limits.excessBytes, seed),
    specialAnswers: new SourceRateLimiter(limits.specialAnswers, seed),
  };
}

/** Answers datagrams that arrive at one transport address of a server. */
export class UdpResponder {
  readonly #addresses: Pick<Arrival, "destination" | "other">;
  readonly #buckets: UdpBuckets;
  readonly #counters: StunServerCounters;
  readonly #plain: PlainResponder;

  constructor(
    addresses: Pick<Arrival, "destination" | "other">,
    { buckets, counters }: { buckets: UdpBuckets; counters: StunServerCounters },
  ) {
    this.#addresses = addresses;
    this.#buckets = buckets;
    this.#counters = counters;
    this.#plain = new PlainResponder({ transport: "udp", ...addresses });
  }

  /**
   * What to send for a datagram, if anything. The next call may overwrite its data.
   *
   * @param clock the time in milliseconds, which never goes back; it is read only for what has a rate
   */
  respond(
    data: Uint8Array,
    source: TransportAddress,
    clock: () => number,
  ): OutgoingDatagram | undefined {
    const plain = this.respondPlain(data, source, clock);
    if (plain !== undefined) return { data: plain, from: this.#addresses.destination, to: source };
    const arrival: Arrival = { transport: "udp", source, ...this.#addresses };
    const answer = this.#respondInFull(data, arrival, clock);
    if (answer === undefined) this.#counters.udpIgnored++;
    return answer;
  }

  /**
   * As `respond()` for the requests that nearly all clients send, whose answers go back the way they came; `undefined` for
   * all others.
   */
  respondPlain(
    data: Uint8Array,
    source: TransportAddress,
    clock: () => number,
  ): Uint8Array<ArrayBuffer> | undefined {
    if (!isPlainBinding(data)) return undefined;
    return this.#shortening((mayExceed) => this.#plain.respond(data, source, mayExceed), {
      source,
      clock,
    });
  }

  #respondInFull(
    data: Uint8Array,
    arrival: Arrival,
    clock: () => number,
  ): OutgoingDatagram | undefined {
    if (!mayBeBindingRequest(data)) return undefined;
    const request = decodeRequest(data);
    let answer = request && answerBinding(request, arrival);
    if (request === undefined || answer === undefined) return undefined;
    if (
      answer.limited && !this.#buckets.specialAnswers.take(arrival.source.ip, 1, clock())
    ) {
      this.#counters.udpLimited++;
      // To the client, silence would look like a filter.
      answer = refuseBinding(request, arrival, 500);
    }
    const whole = answer;
    const bytes = this.#shortening((mayExceed) => encodeAnswer(whole, data.length, mayExceed), {
      source: arrival.source,
      clock,
    });
    return bytes && { data: bytes, from: answer.from, to: answer.to };
  }

  /** Encodes an answer within the bytes that its source may receive, and counts it if that makes it shorter. */
  #shortening<T extends Uint8Array | undefined>(
    encode: (mayExceed: (bytes: number) => boolean) => T,
    { source, clock }: { source: TransportAddress; clock: () => number },
  ): T {
    let isShortened = false;
    const bytes = encode((excess) => {
      const isAllowed = this.#buckets.excessBytes.take(source.ip, excess, clock());
      isShortened ||= !isAllowed;
      return isAllowed;
    });
    if (bytes !== undefined && isShortened) this.#counters.udpShortened++;
    return bytes;
  }
}
