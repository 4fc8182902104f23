/**
 * PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS: RFC 8489 §14.11 and §14.12.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { checkInteger, type ValueCodec, type ValueSpan } from "./attribute_codec.ts";
import { paddedLength, readUint16, writeUint16 } from "./codec.ts";

/** How a long-term credential becomes a key: RFC 8489 §18.5. */
export interface PasswordAlgorithm {
  /** A number where the registry has grown since. */
  readonly algorithm: "MD5" | "SHA-256" | number;
  /** Empty for MD5 and SHA-256. */
  readonly parameters: Uint8Array;
}

/** One algorithm: its number, the length of its parameters, the parameters and their padding. */
export const passwordAlgorithm: ValueCodec<PasswordAlgorithm> = {
  byteLength: algorithmLength,
  write: writeAlgorithm,
  read(message, span) {
    const [value, ...others] = readAlgorithms(message, span);
    if (value === undefined || others.length > 0) {
      throw new MalformedMessageError(`Cannot read ${span.name}: it holds one algorithm`);
    }
    return value;
  },
};

/** Algorithms one after another. */
export const passwordAlgorithms: ValueCodec<readonly PasswordAlgorithm[]> = {
  byteLength: (values) => values.reduce((length, value) => length + algorithmLength(value), 0),
  write(values, message, offset) {
    let next = offset;
    for (const value of values) {
      writeAlgorithm(value, message, next);
      next += algorithmLength(value);
    }
  },
  read: readAlgorithms,
};

function algorithmLength({ algorithm, parameters }: PasswordAlgorithm): number {
  if (typeof algorithm === "number") checkInteger(algorithm, 0xffff);
  checkInteger(parameters.length, 0xffff);
  return HEADER_LENGTH + paddedLength(parameters.length);
}

function writeAlgorithm(value: PasswordAlgorithm, message: Uint8Array, offset: number): void {
  const { algorithm, parameters } = value;
  const code = algorithm === "MD5" ? MD5 : algorithm === "SHA-256" ? SHA_256 : algorithm;
  writeUint16(message, offset, code);
  writeUint16(message, offset + 2, parameters.length);
  message.fill(0, offset + HEADER_LENGTH, offset + algorithmLength(value));
  message.set(parameters, offset + HEADER_LENGTH);
}

function readAlgorithms(message: Uint8Array, span: ValueSpan): PasswordAlgorithm[] {
  const values: PasswordAlgorithm[] = [];
  const end = span.offset + span.length;
  let offset = span.offset;
  while (offset < end) {
    if (values.length === MAX_ALGORITHMS) {
      throw new MalformedMessageError(
        `Cannot read ${span.name}: it lists more than ${MAX_ALGORITHMS} algorithms`,
      );
    }
    if (offset + HEADER_LENGTH > end) {
      throw new MalformedMessageError(
        `Cannot read ${span.name}: ${end - offset} bytes are no algorithm`,
      );
    }
    const code = readUint16(message, offset);
    const length = readUint16(message, offset + 2);
    const start = offset + HEADER_LENGTH;
    if (start + length > end) {
      throw new MalformedMessageError(
        `Cannot read ${span.name}: parameters have ${length} bytes, ${end - start} are left`,
      );
    }
    const algorithm = code === MD5 ? "MD5" : code === SHA_256 ? "SHA-256" : code;
    values.push({ algorithm, parameters: message.subarray(start, start + length) });
    // The last parameters may lack their padding: that of the attribute is as good.
    offset = start + paddedLength(length);
  }
  return values;
}

/** RFC 8489 §18.5. */
const MD5 = 0x0001;
const SHA_256 = 0x0002;

/** Algorithm and length of the parameters: RFC 8489 §14.12. */
const HEADER_LENGTH = 4;

/** Ours: the registry has two, and a list without an end would cost an object for every four bytes. */
const MAX_ALGORITHMS = 32;
