/**
 * The bytes of a STUN server's answer, no more of them than the request and the source's allowance permit: a
 * server that answers requests with forged sources at length is a weapon.
 *
 * @module
 */

import { ATTRIBUTE_HEADER_LENGTH } from "./codec.ts";
import { encodeMessage } from "./message.ts";
import type { BindingAnswer } from "./server/binding.ts";

/**
 * Encodes an answer. One that is longer than the request, by more than may be, loses its last attributes.
 * What cannot be shortened any further is sent nevertheless if it is a success response, whose one required
 * attribute RFC 8489 demands (12 bytes more than the shortest request, 24 with IPv6), and given up if it is
 * a refusal.
 *
 * @param requestLength in bytes
 * @param mayExceed takes this many bytes from the allowance of the source, if it has them
 */
export function encodeAnswer(
  answer: BindingAnswer,
  requestLength: number,
  mayExceed: (bytes: number) => boolean,
): Uint8Array<ArrayBuffer> | undefined {
  const { response, requiredAttributes, fingerprint } = answer;
  for (let count = response.attributes.length; count >= requiredAttributes; count--) {
    const attributes = response.attributes.slice(0, count);
    let bytes = encodeMessage({ ...response, attributes }, { fingerprint });
    const room = requestLength - bytes.length - ATTRIBUTE_HEADER_LENGTH;
    if (answer.padding && room >= 0) {
      const padding = { type: "PADDING", value: new Uint8Array(room & ~3) } as const;
      bytes = encodeMessage({ ...response, attributes: [...attributes, padding] }, { fingerprint });
    }
    const excess = bytes.length - requestLength;
    const last = count === requiredAttributes && response.class === "success";
    if (excess <= 0 || mayExceed(excess) || last) return bytes;
  }
  return undefined;
}
