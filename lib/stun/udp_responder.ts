/**
 * What a STUN server sends for a datagram: the answer of `binding.ts` within the limits that keep the server
 * from being turned on others. No sockets; the time is an argument.
 *
 * @module
 */

import { MalformedMessageError } from "../errors.ts";
import type { TransportAddress } from "../net/address.ts";
import { answerBinding, type Arrival, type BindingAnswer, refuse } from "./binding.ts";
import { encodeAnswer } from "./encode_answer.ts";
import { verifyFingerprint } from "./fingerprint.ts";
import { decodeMessage, type StunMessage } from "./message.ts";
import { type Rate, RateLimiter } from "./rate_limit.ts";
import type { StunServerCounters } from "./server_counters.ts";

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

/** Answers datagrams, and remembers what each source has had. */
export class UdpResponder {
  readonly #counters: StunServerCounters;
  readonly #excessBytes: RateLimiter;
  readonly #specialAnswers: RateLimiter;

  /** @param seed any 32 bits that nobody can guess */
  constructor(limits: UdpLimits, counters: StunServerCounters, seed: number) {
    this.#counters = counters;
    this.#excessBytes = new RateLimiter(limits.excessBytes, seed);
    this.#specialAnswers = new RateLimiter(limits.specialAnswers, seed);
  }

  /** What to send for a datagram, if anything; `nowMs` is the time on a clock that never goes back. */
  respond(data: Uint8Array, arrival: Arrival, nowMs: number): OutgoingDatagram | undefined {
    const sourceIp = arrival.source.ip;
    const request = decodeRequest(data);
    let answer = request && answerBinding(request, arrival);
    if (request === undefined || answer === undefined) return this.#ignore();
    if (answer.limited && !this.#specialAnswers.take(sourceIp, 1, nowMs)) {
      this.#counters.udpLimited++;
      // Silence would look like a filter to the client.
      answer = refuse(request, arrival, 500);
    }
    return this.#send(answer, data.length, nowMs, sourceIp);
  }

  #send(
    answer: BindingAnswer,
    requestLength: number,
    nowMs: number,
    sourceIp: string,
  ): OutgoingDatagram | undefined {
    let shortened = false;
    const data = encodeAnswer(answer, requestLength, (bytes) => {
      const allowed = this.#excessBytes.take(sourceIp, bytes, nowMs);
      shortened ||= !allowed;
      return allowed;
    });
    if (data === undefined) return this.#ignore();
    if (shortened) this.#counters.udpShortened++;
    return { data, from: answer.from, to: answer.to };
  }

  #ignore(): undefined {
    this.#counters.udpIgnored++;
  }
}

/** A message, unless it is malformed or its FINGERPRINT is wrong: RFC 8489 §6.3 has both ignored. */
export function decodeRequest(data: Uint8Array): StunMessage | undefined {
  if (data.length > MAX_REQUEST_LENGTH) return undefined;
  try {
    const message = decodeMessage(data);
    return verifyFingerprint(data) === "invalid" ? undefined : message;
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}

/** Ours: a PADDING of a jumbo frame, RFC 5780 §7.6. */
const MAX_REQUEST_LENGTH = 9216;
