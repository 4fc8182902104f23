/**
 * Connections that are encrypted, and prove who is at the other end: the Noise Protocol Framework, revision 34, with
 * `25519_ChaChaPoly_SHA256` in all interactive fundamental patterns, over any connection.
 *
 * @module
 */

export { type ByteStream, type DenoAddress, type DenoConn } from "./byte_stream.ts";
export { generateKeyPair } from "./key_pair.ts";
export { KeyPair } from "./key_pair.ts";
export type { FundamentalPattern, PatternName, Role } from "./handshake.ts";
export {
  type ConnectionKeys,
  type NetAddress,
  SecureConnection,
  secureConnection,
  secureConnectionFromKeys,
  type SecureConnectionOptions,
} from "./secure_connection.ts";
