/**
 * What is written before the other end has proved itself: a peer may have named any service in a private network, so no
 * service must act upon it. Every byte is one of sixteen that are neither ASCII nor a control character in any 8-bit
 * character set, so there is no line to read, no command, and nothing to choose for whoever knows the secret.
 *
 * @module
 */

/** Spells bytes with half as many bits each: two bytes from 0xB0 to 0xBF for each. */
export function spell(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    [...bytes].flatMap((byte) => [LETTERS | byte >> 4, LETTERS | byte & 0x0f]),
  );
}

const LETTERS = 0xb0;
