/**
 * What a STUN server sends for a datagram: the answer of `binding.ts` within the limits that keep the server
 * from being turned on others. No sockets; the time is an argument.
 *
 * @module
 */

import { type Rate, RateLimiter } from "../../base/rate_limiter.ts";
import { sourceKey, type TransportAddress } from "../../net/address.ts";
import {
  answerBinding,
  type Arrival,
  decodeRequest,
  encodeAnswer,
  isPlainBinding,
  PlainResponder,
  refuse,
} from "./binding.ts";
import type { StunServerCounters } from "./endpoints.ts";

/** A datagram to send. */
export interface OutgoingDatagram {
  readonly data: Uint8Array;
  readonly from: TransportAddress;
  readonly to: TransportAddress;
}

/** What a source may cause. */
export interface UdpLimits {
  /** Bytes by which answers may be longer than their requests, so that clients of any age are served. */
  readonly excessBytes: Rate;
  /** Answers to CHANGE-REQUEST, RESPONSE-PORT, RESPONSE-ADDRESS and PADDING. */
  readonly specialAnswers: Rate;
}

/** What each source has had of a server, whatever address it talked to. */
export interface UdpBuckets {
  readonly excessBytes: RateLimiter;
  readonly specialAnswers: RateLimiter;
}

/** Full allowances; `seed` is any 32 bits that nobody can guess. */
export function newBuckets(limits: UdpLimits, seed: number): UdpBuckets {
  return {
    excessBytes: new RateLimiter(limits.excessBytes, seed),
    specialAnswers: new RateLimiter(limits.specialAnswers, seed),
  };
}

/** Answers the datagrams that arrive at one transport address of a server. */
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

  /** What to send for a datagram, if anything; `nowMs` is the time on a clock that never goes back. */
  respond(
    data: Uint8Array,
    source: TransportAddress,
    nowMs: number,
  ): OutgoingDatagram | undefined {
    let shortened = false;
    const mayExceed = (bytes: number) => {
      const allowed = this.#buckets.excessBytes.take(sourceKey(source.ip), bytes, nowMs);
      shortened ||= !allowed;
      return allowed;
    };
    const answer = isPlainBinding(data)
      ? {
        data: this.#plain.respond(data, source, mayExceed),
        from: this.#addresses.destination,
        to: source,
      }
      : this.#respondAtLength(data, { transport: "udp", source, ...this.#addresses }, {
        mayExceed,
        nowMs,
      });
    if (answer === undefined) this.#counters.udpIgnored++;
    else if (shortened) this.#counters.udpShortened++;
    return answer;
  }

  #respondAtLength(
    data: Uint8Array,
    arrival: Arrival,
    { mayExceed, nowMs }: { mayExceed: (bytes: number) => boolean; nowMs: number },
  ): OutgoingDatagram | undefined {
    const request = decodeRequest(data);
    let answer = request && answerBinding(request, arrival);
    if (request === undefined || answer === undefined) return undefined;
    if (
      answer.limited && !this.#buckets.specialAnswers.take(sourceKey(arrival.source.ip), 1, nowMs)
    ) {
      this.#counters.udpLimited++;
      // Silence would look like a filter to the client.
      answer = refuse(request, arrival, 500);
    }
    const bytes = encodeAnswer(answer, data.length, mayExceed);
    return bytes && { data: bytes, from: answer.from, to: answer.to };
  }
}
