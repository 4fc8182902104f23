/**
 * The attributes of RFC 8489, Session Traversal Utilities for NAT (STUN).
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import { transportAddress, xorTransportAddress } from "./address_codec.ts";
import { type AttributeTable, opaque, uint16List, uint32 } from "./attribute_codec.ts";
import { errorCode, type StunErrorCode } from "./error_code.ts";
import {
  type PasswordAlgorithm,
  passwordAlgorithm,
  passwordAlgorithms,
} from "./password_algorithm.ts";
import { freeText, MAX_TEXT_LENGTH, text } from "./text_codec.ts";

/** What the attributes of RFC 8489 §14 hold. */
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

/** RFC 5389 §15.3; RFC 8489 §14.3 writes fewer than 509 bytes. */
const MAX_USERNAME_LENGTH = 513;

/** RFC 8489 §14.16: a domain name. */
const MAX_DOMAIN_LENGTH = 255;

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
