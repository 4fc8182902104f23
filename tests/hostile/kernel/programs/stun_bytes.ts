/**
 * STUN messages by hand, for servers that lie.
 *
 * @module
 */

/** The magic cookie. */
export const COOKIE: readonly number[] = [0x21, 0x12, 0xa4, 0x42];

export function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

export function junk(length: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(length));
}

export function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + value.length + (4 - value.length % 4) % 4);
  new DataView(bytes.buffer).setUint16(0, type);
  new DataView(bytes.buffer).setUint16(2, value.length);
  bytes.set(value, 4);
  return bytes;
}
