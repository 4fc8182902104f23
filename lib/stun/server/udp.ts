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
    let shortened = false;
    const mayExceed = (bytes: number) => {
      const allowed = this.#buckets.excessBytes.take(source.ip, bytes, clock());
      shortened ||= !allowed;
      return allowed;
    };
    const answer = isPlainBinding(data)
      ? {
        data: this.#plain.respond(data, source, mayExceed),
        from: this.#addresses.destination,
        to: source,
      }
      : this.#respondInFull(data, { transport: "udp", source, ...this.#addresses }, {
        mayExceed,
        clock,
      });
    if (answer === undefined) this.#counters.udpIgnored++;
    else if (shortened) this.#counters.udpShortened++;
    return answer;
  }

  #respondInFull(
    data: Uint8Array,
    arrival: Arrival,
    { mayExceed, clock }: { mayExceed: (bytes: number) => boolean; clock: () => number },
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
    const bytes = encodeAnswer(answer, data.length, mayExceed);
    return bytes && { data: bytes, from: answer.from, to: answer.to };
  }
}
