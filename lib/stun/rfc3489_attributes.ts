/**
 * The attributes of RFC 3489, which RFC 5389 obsoleted in 2008, as far as later specifications do not
 * define them again: servers and clients of that age still answer and ask.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import { transportAddress } from "./address_codec.ts";
import { type AttributeTable, opaque } from "./attribute_codec.ts";

/** What the attributes of RFC 3489 §11.2 hold. */
export interface Rfc3489AttributeValues {
  /** §11.2.2: where the response shall go. A server that obeys can be aimed at others. */
  "RESPONSE-ADDRESS": TransportAddress;
  /** §11.2.5: where the response came from. */
  "SOURCE-ADDRESS": TransportAddress;
  /** §11.2.3: where a response comes from if both address and port are to change. */
  "CHANGED-ADDRESS": TransportAddress;
  /** §11.2.7: of the shared secret, which RFC 5389 removed. */
  "PASSWORD": Uint8Array;
  /** §11.2.11: who asked for a response that went to RESPONSE-ADDRESS. */
  "REFLECTED-FROM": TransportAddress;
}

/** The rows of RFC 3489 §11.2. */
export const RFC3489_ATTRIBUTES: AttributeTable<Rfc3489AttributeValues> = {
  "RESPONSE-ADDRESS": { code: 0x0002, codec: transportAddress },
  "SOURCE-ADDRESS": { code: 0x0004, codec: transportAddress },
  "CHANGED-ADDRESS": { code: 0x0005, codec: transportAddress },
  "PASSWORD": { code: 0x0007, codec: opaque() },
  "REFLECTED-FROM": { code: 0x000b, codec: transportAddress },
};
