/**
 * The attributes of STUN: RFC 8489 §14, RFC 5780 §7 (NAT behaviour discovery) and RFC 3489 §11.2 (the first version).
 *
 * @module
 */

import { malformed } from "../base/errors.ts";
import type { TransportAddress } from "../net/address.ts";
import {
  type AttributeTable,
  checkInteger,
  checkLength,
  freeText,
  MAX_TEXT_LENGTH,
  opaque,
  paddedLength,
  readUint16,
  readUint32,
  text,
  transportAddress,
  uint16List,
  uint32,
  type ValueCodec,
  type ValueSpan,
  writeUint16,
  writeUint32,
  xorTransportAddress,
} from "./codec.ts";

/** The values of the attributes of RFC 8489 §14. */
export interface Rfc8489AttributeValues {
  /** §14.1 */
  "MAPPED-ADDRESS": TransportAddress;
  /** §14.2 */
  "XOR-MAPPED-ADDRESS": TransportAddress;
  /** §14.3 */
  "USERNAME": string;
  /** §14.4: see `userHash()`. */
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
  /** §14.11: what the server accepts, best first. */
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
  /** For people to read; not to be parsed. */
  readonly reason: string;
}

/** How a long-term credential becomes a key: RFC 8489 §18.5. */
export interface PasswordAlgorithm {
  /** A number if the registry has gained the algorithm since. */
  readonly algorithm: "MD5" | "SHA-256" | number;
  /** Empty for MD5 and SHA-256. */
  readonly parameters: Uint8Array;
}

/** The values of the attributes of RFC 5780 §7. */
export interface Rfc5780AttributeValues {
  /** §7.2: which address to send the response from. */
  "CHANGE-REQUEST": ChangeRequest;
  /** §7.3: the address that the response was sent from. */
  "RESPONSE-ORIGIN": TransportAddress;
  /** §7.4: the address that a response is sent from if both IP address and port are to change. */
  "OTHER-ADDRESS": TransportAddress;
  /** §7.5: the port to send the response to. */
  "RESPONSE-PORT": number;
  /** §7.6: filler that makes a message long enough to be fragmented. */
  "PADDING": Uint8Array;
}

/** RFC 5780 §7.2: send the response from the other IP address, the other port, or both. */
export interface ChangeRequest {
  /** Send from the server's other IP address. */
  readonly changeIp: boolean;
  /** Send from the server's other port. */
  readonly changePort: boolean;
}

/** The values of the attributes of RFC 3489 §11.2. */
export interface Rfc3489AttributeValues {
  /** §11.2.2: where to send the response. A server that complies can be aimed at third parties. */
  "RESPONSE-ADDRESS": TransportAddress;
  /** §11.2.5: the address that the response was sent from. */
  "SOURCE-ADDRESS": TransportAddress;
  /** Not in RFC 3489: what XOR-MAPPED-ADDRESS was in drafts of RFC 5389, by which old servers still answer. */
  "OLD-XOR-MAPPED-ADDRESS": TransportAddress;
  /** §11.2.3: the address that a response is sent from if both IP address and port are to change. */
  "CHANGED-ADDRESS": TransportAddress;
  /** §11.2.7: the password of a shared secret, which RFC 5389 removed. */
  "PASSWORD": Uint8Array;
  /** §11.2.11: the source of a request whose response went to its RESPONSE-ADDRESS. */
  "REFLECTED-FROM": TransportAddress;
}

/** RFC 8489 §14.8: two reserved bytes, the hundreds of the code, the rest of the code, and the reason phrase. */
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
      throw malformed(name, `class ${hundreds}, number ${rest} is not 300 to 699`);
    }
    const reason = reasonPhrase.read(message, { name, offset: offset + 4, length: length - 4 });
    return { code: hundreds * 100 + rest, reason };
  },
};

/** RFC 8489 §14.12: the number of an algorithm, the length of its parameters, the parameters and their padding. */
const passwordAlgorithm: ValueCodec<PasswordAlgorithm> = {
  byteLength: algorithmLength,
  write: writeAlgorithm,
  read(message, span) {
    const [value, ...others] = readAlgorithms(message, span);
    if (value === undefined || others.length > 0) {
      throw malformed(span.name, "it must hold exactly one algorithm");
    }
    return value;
  },
};

/** RFC 8489 §14.11: any number of algorithms in a row. */
const passwordAlgorithms: ValueCodec<readonly PasswordAlgorithm[]> = {
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
      throw malformed(span.name, `it lists more than ${MAX_ALGORITHMS} algorithms`);
    }
    if (offset + HEADER_LENGTH > end) {
      throw malformed(span.name, `${end - offset} bytes are too few for an algorithm`);
    }
    const code = readUint16(message, offset);
    const length = readUint16(message, offset + 2);
    const start = offset + HEADER_LENGTH;
    if (start + length > end) {
      throw malformed(span.name, `parameters have ${length} bytes, ${end - start} are left`);
    }
    const algorithm = code === MD5 ? "MD5" : code === SHA_256 ? "SHA-256" : code;
    values.push({ algorithm, parameters: message.subarray(start, start + length) });
    // The last parameters may lack their padding: the attribute's own padding serves.
    offset = start + paddedLength(length);
  }
  return values;
}

function writeChangeRequest(value: ChangeRequest, message: Uint8Array, offset: number): void {
  const { changeIp, changePort } = value;
  writeUint32(message, offset, (changeIp ? CHANGE_IP : 0) | (changePort ? CHANGE_PORT : 0));
}

function readChangeRequest(message: Uint8Array, span: ValueSpan): ChangeRequest {
  checkLength(span, 4, 4);
  const flags = readUint32(message, span.offset);
  return { changeIp: (flags & CHANGE_IP) !== 0, changePort: (flags & CHANGE_PORT) !== 0 };
}

/**
 * RFC 5780 §7.5: 16 bits "followed by 2 bytes of padding". The length of an attribute does not include its padding, so
 * it is 2, which is what stuntman writes; coturn includes it and writes 4.
 */
function responsePortLength(port: number): number {
  checkInteger(port, 0xffff);
  return 2;
}

function writeResponsePort(port: number, message: Uint8Array, offset: number): void {
  writeUint16(message, offset, port);
}

function readResponsePort(message: Uint8Array, span: ValueSpan): number {
  if (span.length !== 4) checkLength(span, 2, 2);
  return readUint16(message, span.offset);
}

const reasonPhrase = freeText(MAX_TEXT_LENGTH);

/** RFC 8489 §18.5. */
const MD5 = 0x0001;
const SHA_256 = 0x0002;

/** RFC 8489 §14.12: the algorithm and the length of its parameters. */
const HEADER_LENGTH = 4;

/** Chosen by us: the registry has two, and an unlimited list would cost an object for every four bytes. */
const MAX_ALGORITHMS = 32;

/** RFC 5389 §15.3; RFC 8489 §14.3 allows fewer than 509 bytes. */
const MAX_USERNAME_LENGTH = 513;

/** RFC 8489 §14.16: a domain name. */
const MAX_DOMAIN_LENGTH = 255;

/** RFC 5780 §7.2. */
const CHANGE_IP = 0x04;
const CHANGE_PORT = 0x02;

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

/** The rows of RFC 5780 §9.1. */
export const RFC5780_ATTRIBUTES: AttributeTable<Rfc5780AttributeValues> = {
  "CHANGE-REQUEST": {
    code: 0x0003,
    codec: { byteLength: () => 4, write: writeChangeRequest, read: readChangeRequest },
  },
  "PADDING": { code: 0x0026, codec: opaque() },
  "RESPONSE-PORT": {
    code: 0x0027,
    codec: { byteLength: responsePortLength, write: writeResponsePort, read: readResponsePort },
  },
  "RESPONSE-ORIGIN": { code: 0x802b, codec: transportAddress },
  "OTHER-ADDRESS": { code: 0x802c, codec: transportAddress },
};

/** The rows of RFC 3489 §11.2. */
export const RFC3489_ATTRIBUTES: AttributeTable<Rfc3489AttributeValues> = {
  "RESPONSE-ADDRESS": { code: 0x0002, codec: transportAddress },
  "SOURCE-ADDRESS": { code: 0x0004, codec: transportAddress },
  "CHANGED-ADDRESS": { code: 0x0005, codec: transportAddress },
  "PASSWORD": { code: 0x0007, codec: opaque() },
  "REFLECTED-FROM": { code: 0x000b, codec: transportAddress },
  "OLD-XOR-MAPPED-ADDRESS": { code: 0x8020, codec: xorTransportAddress },
};
