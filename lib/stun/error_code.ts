/**
 * ERROR-CODE: RFC 8489 §14.8.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { checkLength, type ValueCodec } from "./attribute_codec.ts";
import { freeText, MAX_TEXT_LENGTH } from "./text_codec.ts";

/** RFC 8489 §14.8. */
export interface StunErrorCode {
  /** 300 to 699. */
  readonly code: number;
  /** For people; never to be parsed. */
  readonly reason: string;
}

/** Two reserved bytes, the hundreds of the code, the rest of it, and the reason phrase. */
export const errorCode: ValueCodec<StunErrorCode> = {
  byteLength({ code, reason }) {
    if (!Number.isInteger(code) || code < 300 || code > 699) {
      throw new RangeError(
        `Cannot encode ERROR-CODE: ${code} is not a whole number from 300 to 699`,
      );
    }
    return 4 + reasonPhrase.byteLength(reason);
  },
  write({ code, reason }, message, offset) {
    message[offset] = 0;
    message[offset + 1] = 0;
    message[offset + 2] = Math.floor(code / 100);
    message[offset + 3] = code % 100;
    reasonPhrase.write(reason, message, offset + 4);
  },
  read(message, span) {
    checkLength(span, 4, 4 + MAX_TEXT_LENGTH);
    const { name, offset, length } = span;
    const hundreds = message[offset + 2]! & 0x07;
    const rest = message[offset + 3]!;
    if (hundreds < 3 || hundreds > 6 || rest > 99) {
      throw new MalformedMessageError(
        `Cannot read ${name}: class ${hundreds}, number ${rest} is not 300 to 699`,
      );
    }
    const reason = reasonPhrase.read(message, { name, offset: offset + 4, length: length - 4 });
    return { code: hundreds * 100 + rest, reason };
  },
};

const reasonPhrase = freeText(MAX_TEXT_LENGTH);
