/**
 * The attributes of RFC 5780, NAT Behavior Discovery Using STUN.
 *
 * @module
 */

import { ByteReader } from "../bytes.ts";
import type { TransportAddress } from "../net/address.ts";
import {
  type AttributeTable,
  checkInteger,
  checkLength,
  opaque,
  transportAddress,
  type ValueCodec,
} from "./attribute_codec.ts";

/** What the attributes of RFC 5780 §7 hold. */
export interface Rfc5780AttributeValues {
  /** §7.2: from where the response shall come. */
  "CHANGE-REQUEST": ChangeRequest;
  /** §7.3: where the response came from. */
  "RESPONSE-ORIGIN": TransportAddress;
  /** §7.4: where a response comes from if both address and port are to change. */
  "OTHER-ADDRESS": TransportAddress;
  /** §7.5: the port to which the response shall go. */
  "RESPONSE-PORT": number;
  /** §7.6: makes a message long enough to be fragmented. */
  "PADDING": Uint8Array;
}

/** RFC 5780 §7.2: send the response from the other IP address, the other port, or both. */
export interface ChangeRequest {
  readonly changeIp: boolean;
  readonly changePort: boolean;
}

/** RFC 5780 §7.2. */
const changeRequest: ValueCodec<ChangeRequest> = {
  encode: ({ changeIp, changePort }) =>
    Uint8Array.of(0, 0, 0, (changeIp ? CHANGE_IP : 0) | (changePort ? CHANGE_PORT : 0)),
  decode(bytes, _mask, name) {
    const reader = new ByteReader(bytes, name);
    const flags = reader.uint32("flags");
    reader.end();
    return { changeIp: (flags & CHANGE_IP) !== 0, changePort: (flags & CHANGE_PORT) !== 0 };
  },
};

/**
 * RFC 5780 §7.5: 16 bits "followed by 2 bytes of padding". Padding is not counted in the length of an
 * attribute, so it is written with length 2, as stuntman does; coturn counts it and writes 4.
 */
const responsePort: ValueCodec<number> = {
  encode(port) {
    checkInteger(port, 0xffff);
    return Uint8Array.of(port >> 8, port);
  },
  decode(bytes, _mask, name) {
    if (bytes.length !== 4) checkLength(bytes, 2, 2, name);
    return new ByteReader(bytes, name).uint16("port");
  },
};

const CHANGE_IP = 0x04;
const CHANGE_PORT = 0x02;

/** The rows of RFC 5780 §10.2. */
export const RFC5780_ATTRIBUTES: AttributeTable<Rfc5780AttributeValues> = {
  "CHANGE-REQUEST": { code: 0x0003, codec: changeRequest },
  "PADDING": { code: 0x0026, codec: opaque() },
  "RESPONSE-PORT": { code: 0x0027, codec: responsePort },
  "RESPONSE-ORIGIN": { code: 0x802b, codec: transportAddress },
  "OTHER-ADDRESS": { code: 0x802c, codec: transportAddress },
};
