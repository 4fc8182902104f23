/**
 * The attributes of RFC 8489, Session Traversal Utilities for NAT (STUN).
 *
 * @module
 */

import { ByteReader, concat } from "../bytes.ts";
import { MalformedMessageError } from "../errors.ts";
import type { TransportAddress } from "../net/address.ts";
import {
  type AttributeTable,
  checkInteger,
  freeText,
  opaque,
  text,
  transportAddress,
  uint16List,
  uint32,
  type ValueCodec,
  xorTransportAddress,
} from "./attribute_codec.ts";

/** What the attributes of RFC 8489 §14 hold. */
export interface Rfc8489AttributeValues {
  /** §14.1 */
  "MAPPED-ADDRESS": TransportAddress;
  /** §14.2 */
  "XOR-MAPPED-ADDRESS": TransportAddress;
  /** §14.3 */
  "USERNAME": string;
  /** §14.4: SHA-256 of username and realm. */
  "USERHASH": Uint8Array;
  /** §14.5: an HMAC-SHA1; see `verifyIntegrity()`. */
  "MESSAGE-INTEGRITY": Uint8Array;
  /** §14.6: an HMAC-SHA256, possibly truncated; see `verifyIntegrity()`. */
  "MESSAGE-INTEGRITY-SHA256": Uint8Array;
  /** §14.7: a CRC-32; see `verifyFingerprint()`. */
  "FINGERPRINT": number;
  /** §14.8 */
  "ERROR-CODE": StunErrorCode;
  /** §14.9 */
  "REALM": string;
  /** §14.10 */
  "NONCE": string;
  /** §14.11: what the server takes, best first. */
  "PASSWORD-ALGORITHMS": readonly PasswordAlgorithm[];
  /** §14.12: what the client chose. */
  "PASSWORD-ALGORITHM": PasswordAlgorithm;
  /** §14.13: the attribute types that the server did not understand. */
  "UNKNOWN-ATTRIBUTES": readonly number[];
  /** §14.14 */
  "SOFTWARE": string;
  /** §14.15 */
  "ALTERNATE-SERVER": TransportAddress;
  /** §14.16 */
  "ALTERNATE-DOMAIN": string;
}

/** RFC 8489 §14.8. */
export interface StunErrorCode {
  /** 300 to 699. */
  readonly code: number;
  /** For people; never to be parsed. */
  readonly reason: string;
}

/** How a long-term credential becomes a key: RFC 8489 §18.5. */
export interface PasswordAlgorithm {
  /** A number where the registry has grown since. */
  readonly algorithm: "MD5" | "SHA-256" | number;
  /** Empty for MD5 and SHA-256. */
  readonly parameters: Uint8Array;
}

/** RFC 8489 §14.8. */
const errorCode: ValueCodec<StunErrorCode> = {
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

/** RFC 8489 §14.12. */
const passwordAlgorithm: ValueCodec<PasswordAlgorithm> = {
  encode: ({ algorithm, parameters }) => {
    const code = algorithmCode(algorithm);
    checkInteger(code, 0xffff);
    checkInteger(parameters.length, 0xffff);
    const padded = new Uint8Array(4 + Math.ceil(parameters.length / 4) * 4);
    padded.set([code >> 8, code, parameters.length >> 8, parameters.length]);
    padded.set(parameters, 4);
    return padded;
  },
  decode(bytes, _mask, name) {
    const reader = new ByteReader(bytes, name);
    const value = readPasswordAlgorithm(reader);
    reader.end();
    return value;
  },
};

/** RFC 8489 §14.11. */
const passwordAlgorithms: ValueCodec<readonly PasswordAlgorithm[]> = {
  encode: (values, mask) => concat(...values.map((value) => passwordAlgorithm.encode(value, mask))),
  decode(bytes, _mask, name) {
    const reader = new ByteReader(bytes, name);
    const values: PasswordAlgorithm[] = [];
    while (reader.remaining > 0) {
      if (values.length === MAX_PASSWORD_ALGORITHMS) {
        throw new MalformedMessageError(
          `Cannot read ${name}: it lists more than ${MAX_PASSWORD_ALGORITHMS} algorithms`,
        );
      }
      values.push(readPasswordAlgorithm(reader));
    }
    return values;
  },
};

function readPasswordAlgorithm(reader: ByteReader): PasswordAlgorithm {
  const code = reader.uint16("algorithm");
  const length = reader.uint16("parameters length");
  const parameters = reader.bytes(length, "parameters");
  // The padding of the last parameters may be missing: the attribute's own is as good.
  reader.bytes(Math.min((4 - length % 4) % 4, reader.remaining), "padding");
  return { algorithm: code === MD5 ? "MD5" : code === SHA_256 ? "SHA-256" : code, parameters };
}

function algorithmCode(algorithm: PasswordAlgorithm["algorithm"]): number {
  if (algorithm === "MD5") return MD5;
  if (algorithm === "SHA-256") return SHA_256;
  return algorithm;
}

/** RFC 8489 §18.5. */
const MD5 = 0x0001;
const SHA_256 = 0x0002;

/** Ours: the registry has two; a list without an end would cost an object for every four bytes. */
const MAX_PASSWORD_ALGORITHMS = 32;

/** RFC 8489: fewer than 128 characters, which can be as long as 763 bytes. */
const MAX_TEXT_LENGTH = 763;

/** RFC 5389 §15.3 allowed this, RFC 8489 §14.3 fewer than 509. */
const MAX_USERNAME_LENGTH = 513;

/** RFC 8489 §14.16: a domain name. */
const MAX_DOMAIN_LENGTH = 255;

const reasonPhrase = freeText(MAX_TEXT_LENGTH);

/** The rows of RFC 8489 §18.3. */
export const RFC8489_ATTRIBUTES: AttributeTable<Rfc8489AttributeValues> = {
  "MAPPED-ADDRESS": { code: 0x0001, codec: transportAddress },
  "USERNAME": { code: 0x0006, codec: text(MAX_USERNAME_LENGTH) },
  "MESSAGE-INTEGRITY": { code: 0x0008, codec: opaque(20, 20) },
  "ERROR-CODE": { code: 0x0009, codec: errorCode },
  "UNKNOWN-ATTRIBUTES": { code: 0x000a, codec: uint16List },
  "REALM": { code: 0x0014, codec: text(MAX_TEXT_LENGTH) },
  "NONCE": { code: 0x0015, codec: text(MAX_TEXT_LENGTH) },
  "MESSAGE-INTEGRITY-SHA256": { code: 0x001c, codec: opaque(16, 32) },
  "PASSWORD-ALGORITHM": { code: 0x001d, codec: passwordAlgorithm },
  "USERHASH": { code: 0x001e, codec: opaque(32, 32) },
  "XOR-MAPPED-ADDRESS": { code: 0x0020, codec: xorTransportAddress },
  "PASSWORD-ALGORITHMS": { code: 0x8002, codec: passwordAlgorithms },
  "ALTERNATE-DOMAIN": { code: 0x8003, codec: text(MAX_DOMAIN_LENGTH) },
  "SOFTWARE": { code: 0x8022, codec: freeText(MAX_TEXT_LENGTH) },
  "ALTERNATE-SERVER": { code: 0x8023, codec: transportAddress },
  "FINGERPRINT": { code: 0x8028, codec: uint32 },
};
