/**
 * PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS: RFC 8489 §14.11 and §14.12.
 *
 * @module
 */

import { ByteReader, concat } from "../bytes.ts";
import { MalformedMessageError } from "../errors.ts";
import { checkInteger, type ValueCodec } from "./attribute_codec.ts";
import { paddedLength, writeUint16 } from "./layout.ts";

/** How a long-term credential becomes a key: RFC 8489 §18.5. */
export interface PasswordAlgorithm {
  /** A number where the registry has grown since. */
  readonly algorithm: "MD5" | "SHA-256" | number;
  /** Empty for MD5 and SHA-256. */
  readonly parameters: Uint8Array;
}

/** One algorithm: its number, the length of its parameters, the parameters and their padding. */
export const passwordAlgorithm: ValueCodec<PasswordAlgorithm> = {
  encode: encodePasswordAlgorithm,
  decode(bytes, _mask, name) {
    const reader = new ByteReader(bytes, name);
    const value = readPasswordAlgorithm(reader);
    reader.end();
    return value;
  },
};

/** Algorithms one after another. */
export const passwordAlgorithms: ValueCodec<readonly PasswordAlgorithm[]> = {
  encode: (values) => concat(...values.map(encodePasswordAlgorithm)),
  decode(bytes, _mask, name) {
    const reader = new ByteReader(bytes, name);
    const values: PasswordAlgorithm[] = [];
    while (reader.remaining > 0) {
      if (values.length === MAX_ALGORITHMS) {
        throw new MalformedMessageError(
          `Cannot read ${name}: it lists more than ${MAX_ALGORITHMS} algorithms`,
        );
      }
      values.push(readPasswordAlgorithm(reader));
    }
    return values;
  },
};

function encodePasswordAlgorithm({ algorithm, parameters }: PasswordAlgorithm): Uint8Array {
  const code = algorithm === "MD5" ? MD5 : algorithm === "SHA-256" ? SHA_256 : algorithm;
  checkInteger(code, 0xffff);
  checkInteger(parameters.length, 0xffff);
  const bytes = new Uint8Array(4 + paddedLength(parameters.length));
  writeUint16(bytes, 0, code);
  writeUint16(bytes, 2, parameters.length);
  bytes.set(parameters, 4);
  return bytes;
}

function readPasswordAlgorithm(reader: ByteReader): PasswordAlgorithm {
  const code = reader.uint16("algorithm");
  const length = reader.uint16("parameters length");
  const parameters = reader.bytes(length, "parameters");
  // The last parameters may lack their padding: that of the attribute is as good.
  reader.bytes(Math.min(paddedLength(length) - length, reader.remaining), "padding");
  return { algorithm: code === MD5 ? "MD5" : code === SHA_256 ? "SHA-256" : code, parameters };
}

/** RFC 8489 §18.5. */
const MD5 = 0x0001;
const SHA_256 = 0x0002;

/** Ours: the registry has two, and a list without an end would cost an object for every four bytes. */
const MAX_ALGORITHMS = 32;
