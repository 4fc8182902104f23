/**
 * The Internet checksum (RFC 1071), computed in full or updated word by word (RFC 1624).
 *
 * @module
 */

/** The checksum of some bytes. `initial` is a sum to start from, such as {@linkcode sumWords} of a pseudo header. */
export function checksum(bytes: Uint8Array, initial = 0): number {
  return ~fold(initial + sumWords(bytes)) & 0xffff;
}

/** The sum of the 16-bit words of some bytes; an odd last byte is padded with zero. */
export function sumWords(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i + 1 < bytes.length; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  if (bytes.length % 2 === 1) sum += bytes[bytes.length - 1]! << 8;
  return sum;
}

/** Updates a checksum after one 16-bit word has changed (RFC 1624 §3, equation 3). */
export function adjustChecksum(checksum: number, oldWord: number, newWord: number): number {
  return ~fold((~checksum & 0xffff) + (~oldWord & 0xffff) + newWord) & 0xffff;
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}
