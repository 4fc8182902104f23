/**
 * The keys of a connection, from those that the peers agreed on before they had one.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";

/** What secures one connection. */
export interface PathKeys {
  /** For what this side sends. */
  readonly sendKey: Uint8Array<ArrayBuffer>;
  /** For what it receives. */
  readonly receiveKey: Uint8Array<ArrayBuffer>;
  /** The same on both sides, and no secret. */
  readonly handshakeHash: Uint8Array<ArrayBuffer>;
}

/**
 * The keys of one side; the other's are the same the other way round.
 *
 * @param connectionKey of the peers' handshake: never two handshakes have the same
 * @param channelBinding of the connection: never two connections of one handshake have the same
 */
export function pathKeys(
  connectionKey: Uint8Array,
  channelBinding: Uint8Array,
  role: "controlling" | "controlled",
): PathKeys {
  const derive = (purpose: string) =>
    hmac("sha256", connectionKey, new TextEncoder().encode(`path ${purpose} `), channelBinding);
  const other = role === "controlling" ? "controlled" : "controlling";
  return {
    sendKey: derive(role),
    receiveKey: derive(other),
    handshakeHash: derive("hash"),
  };
}

/** Names a connection to both sides, for when it has to go on over another path: 32 hexadecimal digits, a secret. */
export function resumptionId(connectionKey: Uint8Array): string {
  const id = hmac("sha256", connectionKey, new TextEncoder().encode("resumption"));
  return toHex(id.subarray(0, 16));
}
