/** The bytes that hexadecimal digits stand for; white space is for people. */
export function fromHex(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replace(/\s/g, "");
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new TypeError(`Cannot read hex: ${digits}`);
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
