/**
 * The path IDs and the keys of control packets, from the secret that both ends share.
 *
 * @module
 */

import { equalSecrets, hkdf, hmac } from "../base/crypto.ts";
import {
  controlHead,
  type ControlKind,
  type ControlPacket,
  encodeUdpPacket,
  MAC_BYTES,
  PATH_ID_BYTES,
} from "./packet_message.ts";

/** One direction of a path. */
export interface DirectionKeys {
  /** At the start of each datagram of this direction. */
  readonly pathId: Uint8Array;
  /** For the HMACs of control packets. */
  readonly macKey: Uint8Array;
}

/** Both directions, as one end sees them. */
export interface PathKeys {
  readonly send: DirectionKeys;
  readonly receive: DirectionKeys;
}

/**
 * Derives the keys of one end. The directions differ, so that a datagram that is sent back to its sender is not accepted.
 *
 * @param secret known to both ends only, and used for no other path
 */
export function derivePathKeys(
  secret: Uint8Array,
  role: "controlling" | "controlled",
): PathKeys {
  const bytes = hkdf(SALT, secret, 2 * DIRECTION_BYTES);
  const direction = (index: number): DirectionKeys => {
    const part = bytes.subarray(index * DIRECTION_BYTES, (index + 1) * DIRECTION_BYTES);
    const pathId = part.slice(0, PATH_ID_BYTES);
    pathId[0]! |= PATH_ID_MARK;
    return { pathId, macKey: part.slice(PATH_ID_BYTES) };
  };
  const [send, receive] = role === "controlling" ? [0, 1] : [1, 0];
  return { send: direction(send), receive: direction(receive) };
}

/** An authenticated control packet, encoded. */
export function sealControl(
  { pathId, macKey }: DirectionKeys,
  packet: { readonly kind: ControlKind; readonly counter: number; readonly value: Uint8Array },
): Uint8Array<ArrayBuffer> {
  const mac = macOf(macKey, controlHead(pathId, packet));
  return encodeUdpPacket(pathId, { ...packet, mac });
}

/** Whether a control packet was made with the keys of this direction. */
export function isAuthentic({ pathId, macKey }: DirectionKeys, packet: ControlPacket): boolean {
  return equalSecrets(macOf(macKey, controlHead(pathId, packet)), packet.mac);
}

function macOf(key: Uint8Array, head: Uint8Array): Uint8Array {
  return hmac("sha256", key, head).subarray(0, MAC_BYTES);
}

const SALT = new TextEncoder().encode("punchline UDP path 1");
const DIRECTION_BYTES = PATH_ID_BYTES + 32;

/** The first byte is at least 192, which neither STUN nor TURN, DTLS or RTP uses (RFC 7983 §7). */
const PATH_ID_MARK = 0xc0;
