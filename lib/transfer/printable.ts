/**
 * Text from the other side, on its way to a terminal.
 *
 * @module
 */

/**
 * The text with a `?` in place of everything that has no glyph: control characters, which a terminal obeys, and those
 * that change the direction of writing, with which `exe.txt` can look like `txt.exe`.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, "?");
}
