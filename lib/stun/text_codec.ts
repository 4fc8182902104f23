/**
 * Text in STUN attributes: UTF-8 of a limited length.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { checkLength, type ValueCodec, type ValueSpan } from "./attribute_codec.ts";

/** RFC 8489 §14: fewer than 128 characters, which can be as long as 763 bytes. */
export const MAX_TEXT_LENGTH = 763;

/** UTF-8 that is compared or sent back, so it has to be exact. */
export function text(maxLength: number): ValueCodec<string> {
  return textCodec(maxLength, new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }));
}

/** UTF-8 for people: a server that writes Latin-1 is no reason to lose its answer. */
export function freeText(maxLength: number): ValueCodec<string> {
  return textCodec(maxLength, new TextDecoder("utf-8", { ignoreBOM: true }));
}

function textCodec(maxLength: number, decoder: TextDecoder): ValueCodec<string> {
  return {
    byteLength(value) {
      const length = utf8Length(value);
      if (length > maxLength) {
        throw new RangeError(
          `Cannot encode attribute: text of ${length} bytes is longer than ${maxLength}`,
        );
      }
      return length;
    },
    write(value, message, offset) {
      ENCODER.encodeInto(value, message.subarray(offset));
    },
    read(message, span) {
      checkLength(span, 0, maxLength);
      const short = readShortAscii(message, span);
      if (short !== undefined) return short;
      try {
        return decoder.decode(message.subarray(span.offset, span.offset + span.length));
      } catch (cause) {
        throw new MalformedMessageError(`Cannot read ${span.name}: it is not UTF-8`, { cause });
      }
    },
  };
}

/** What `TextEncoder` makes of it: a lone surrogate becomes U+FFFD, three bytes. */
function utf8Length(value: string): number {
  let length = value.length;
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) length += 1;
    else if (isPairAt(value, i)) {
      length += 2;
      i++;
    } else length += 2;
  }
  return length;
}

function isPairAt(value: string, index: number): boolean {
  return (value.charCodeAt(index) & 0xfc00) === 0xd800 &&
    (value.charCodeAt(index + 1) & 0xfc00) === 0xdc00;
}

/** Most text is such, and a call of `TextDecoder` takes three times as long. */
function readShortAscii(message: Uint8Array, { offset, length }: ValueSpan): string | undefined {
  if (length > 64) return undefined;
  let text = "";
  for (let i = offset; i < offset + length; i++) {
    const byte = message[i]!;
    if (byte > 0x7f) return undefined;
    text += String.fromCharCode(byte);
  }
  return text;
}

const ENCODER = new TextEncoder();
