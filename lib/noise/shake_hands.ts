/**
 * A Noise handshake over a connection.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { RefusedError } from "../base/errors.ts";
import { type ByteStream, writeAll } from "./byte_stream.ts";
import type { FrameReader } from "./frame_reader.ts";
import type { HandshakeState } from "./handshake.ts";
import { LENGTH_BYTES, writeLength } from "./record.ts";

/** Whom to speak with, and about what. */
export interface ShakeHandsOptions {
  /** What this side's messages carry, the first one first; nothing where there is none. */
  readonly payloads?: readonly Uint8Array[];
  /**
   * Whether to go on with the owner of a static key that the handshake brings; asked as soon as the key arrives, before anything is sent to it.
   * With the patterns that send a key before proof of its possession (IN, IX), the proof comes with the next message.
   */
  readonly authorize?: (remoteStaticKey: Uint8Array) => boolean | Promise<boolean>;
}

/**
 * Exchanges the messages of a handshake, each after its length in 16 bits.
 *
 * @returns the payloads of the other side's messages
 * @throws {MalformedMessageError} if a message is not as it should be
 * @throws {NetworkError} `reset` if the connection is cut
 * @throws {RefusedError} if `authorize` says no
 * @throws {RangeError} if a payload is too long for a message of {@linkcode MAX_HANDSHAKE_MESSAGE_LENGTH} bytes
 */
export async function shakeHands(
  stream: ByteStream,
  frames: FrameReader,
  state: HandshakeState,
  { payloads = [], authorize }: ShakeHandsOptions,
): Promise<Uint8Array[]> {
  const unsent = [...payloads];
  const received: Uint8Array[] = [];
  let isAuthorized = authorize === undefined || state.remoteStaticKey !== undefined;
  while (state.nextStep !== "split") {
    if (state.nextStep === "write") {
      await writeAll(stream, frame(state.writeMessage(unsent.shift())));
      continue;
    }
    received.push(state.readMessage(await frames.next(MAX_HANDSHAKE_MESSAGE_LENGTH)));
    const remoteStaticKey = state.remoteStaticKey;
    if (isAuthorized || remoteStaticKey === undefined) continue;
    if (!await authorize!(remoteStaticKey)) {
      throw new RefusedError(
        "Cannot shake hands: the other side's static key is not authorized",
        0,
      );
    }
    isAuthorized = true;
  }
  return received;
}

function frame(message: Uint8Array): Uint8Array {
  if (message.length > MAX_HANDSHAKE_MESSAGE_LENGTH) {
    throw new RangeError(
      `Cannot shake hands: a message of ${message.length} bytes is over ${MAX_HANDSHAKE_MESSAGE_LENGTH}`,
    );
  }
  const length = new Uint8Array(LENGTH_BYTES);
  writeLength(length, message.length);
  return concat(length, message);
}

/** Ours: room for a payload like a certificate, and little for a stranger to fill. */
export const MAX_HANDSHAKE_MESSAGE_LENGTH = 4094;
