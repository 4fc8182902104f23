/**
 * What servers of others sent, as it came from the network.
 *
 * @module
 */

import { fromHex } from "./stun_hex.ts";

/** stund 0.97 of vovida.org, to an RFC 3489 request from 127.0.0.1:54321: no cookie, and a text with its zero. */
export const STUND_RESPONSE = fromHex(`
  0101 0044 000102030405060708090a0b0c0d0e0f
  0001 0008 0001d4317f000001
  0004 0008 0001a9d67f000001
  0005 0008 0001a9d77f000002
  0020 0008 0001d4307f010202
  8022 0010 566f766964612e6f726720302e393700
`);
