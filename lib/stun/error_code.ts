/**
 * ERROR-CODE: RFC 8489 §14.8.
 *
 * @module
 */

import { ByteReader, concat } from "../bytes.ts";
import { MalformedMessageError } from "../errors.ts";
import { freeText, MAX_TEXT_LENGTH, type ValueCodec } from "./attribute_codec.ts";

/** RFC 8489 §14.8. */
export interface StunErrorCode {
  /** 300 to 699. */
  readonly code: number;
  /** For people; never to be parsed. */
  readonly reason: string;
}

/** Two reserved bytes, the hundreds of the code, the rest of it, and the reason phrase. */
export const errorCode: ValueCodec<StunErrorCode> = {
  encode({ code, reason }, mask) {
    if (!Number.isInteger(code) || code < 300 || code > 699) {
      throw new RangeError(
        `Cannot encode ERROR-CODE: ${code} is not a whole number from 300 to 699`,
      );
    }
    const head = Uint8Array.of(0, 0, Math.floor(code / 100), code % 100);
    return concat(head, reasonPhrase.encode(reason, mask));
  },
  decode(bytes, mask, name) {
    const reader = new ByteReader(bytes, name);
    reader.uint16("reserved");
    const errorClass = reader.uint8("class") & 0x07;
    const number = reader.uint8("number");
    if (errorClass < 3 || errorClass > 6 || number > 99) {
      throw new MalformedMessageError(
        `Cannot read ${name}: class ${errorClass}, number ${number} is not 300 to 699`,
      );
    }
    return {
      code: errorClass * 100 + number,
      reason: reasonPhrase.decode(bytes.subarray(4), mask, name),
    };
  },
};

const reasonPhrase = freeText(MAX_TEXT_LENGTH);
