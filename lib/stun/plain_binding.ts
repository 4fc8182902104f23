/**
 * A short way for the request that a STUN server gets most: a Binding request that carries nothing, or only a
 * SOFTWARE. Its answer is a copy of a template with three fields filled in, byte for byte what `binding.ts`
 * and `encode_answer.ts` would make of it, at a tenth of the cost.
 *
 * @module
 */

import { ipFamily, ipToBytes, type TransportAddress } from "../net/address.ts";
import { copyOf } from "../pool.ts";
import { RFC8489_ATTRIBUTES } from "./attribute_tables.ts";
import {
  ATTRIBUTE_HEADER_LENGTH,
  hasMagicCookie,
  HEADER_LENGTH,
  MAGIC_COOKIE,
  paddedLength,
  readUint16,
  writeUint16,
} from "./codec.ts";
import { BINDING, encodeMessage } from "./message.ts";
import { answerBinding, type Arrival } from "./server/binding.ts";

/** Whether a datagram is a Binding request with no attribute but SOFTWARE. */
export function isPlainBinding(data: Uint8Array): boolean {
  if (data.length < HEADER_LENGTH || readUint16(data, 0) !== BINDING) return false;
  if (!hasMagicCookie(data) || readUint16(data, 2) !== data.length - HEADER_LENGTH) return false;
  if (data.length === HEADER_LENGTH) return true;
  if (data.length < HEADER_LENGTH + ATTRIBUTE_HEADER_LENGTH) return false;
  const length = readUint16(data, HEADER_LENGTH + 2);
  return readUint16(data, HEADER_LENGTH) === SOFTWARE && length <= MAX_SOFTWARE_LENGTH &&
    data.length === HEADER_LENGTH + ATTRIBUTE_HEADER_LENGTH + paddedLength(length);
}

/** Answers plain requests that arrive at one transport address. */
export class PlainResponder {
  readonly #template: Uint8Array;
  readonly #attributeLength: number;
  readonly #attributeCount: number;

  /** @param arrival what all such requests have in common */
  constructor(arrival: Omit<Arrival, "source">) {
    const source = {
      ip: ipFamily(arrival.destination.ip) === 4 ? "0.0.0.0" : "::",
      port: 0,
    };
    const request = { class: "request", method: BINDING, attributes: [] } as const;
    const transactionId = new Uint8Array(12);
    const { response } = answerBinding({ ...request, transactionId }, { ...arrival, source })!;
    this.#template = encodeMessage(response);
    this.#attributeCount = response.attributes.length;
    this.#attributeLength = (this.#template.length - HEADER_LENGTH) / this.#attributeCount;
  }

  /**
   * The answer to a request for which {@linkcode isPlainBinding} is true.
   *
   * @param mayExceed as in `encodeAnswer()`
   */
  respond(
    request: Uint8Array,
    source: TransportAddress,
    mayExceed: (bytes: number) => boolean,
  ): Uint8Array<ArrayBuffer> {
    let count = this.#attributeCount;
    let length = this.#template.length;
    while (count > 1 && length > request.length && !mayExceed(length - request.length)) {
      count--;
      length -= this.#attributeLength;
    }
    const answer = copyOf(this.#template.subarray(0, length));
    writeUint16(answer, 2, length - HEADER_LENGTH);
    answer.set(request.subarray(8, HEADER_LENGTH), 8);
    const address = ipToBytes(source.ip);
    // XOR-MAPPED-ADDRESS comes first, MAPPED-ADDRESS last.
    const xored = HEADER_LENGTH + ATTRIBUTE_HEADER_LENGTH;
    writeUint16(answer, xored + 2, source.port ^ (MAGIC_COOKIE >>> 16));
    for (let i = 0; i < address.length; i++) answer[xored + 4 + i] = address[i]! ^ answer[4 + i]!;
    if (count === this.#attributeCount) {
      writeUint16(answer, length - address.length - 2, source.port);
      answer.set(address, length - address.length);
    }
    return answer;
  }
}

const SOFTWARE = RFC8489_ATTRIBUTES["SOFTWARE"].code;

/** RFC 8489 §14.14. */
const MAX_SOFTWARE_LENGTH = 763;
