/**
 * QR codes on a terminal. Two modules are one character, so that a code is no taller than half its width.
 *
 * @module
 */

import type { CliIo } from "./io.ts";
import { screenOf } from "./screen.ts";

/** Prints a QR code on stderr, or how large the terminal has to be. */
export async function showQr(text: string, io: CliIo): Promise<void> {
  const { encode } = await import("uqr");
  const { data } = encode(text, { ecc: "L", border: 0 });
  const screen = screenOf(io);
  const { columns = Infinity, rows = Infinity } = screen ?? {};
  // Beside its text if that is possible, or else alone; with a narrow border if need be.
  const border =
    [TEXT_ROWS, STATUS_ROWS].flatMap((used) =>
      BORDERS.filter((border) => fits(data.length + 2 * border, { columns, rows: rows - used }))
    )[0];
  if (border === undefined) {
    const size = data.length + 2;
    return io.err(
      `The QR code needs a terminal of ${size} columns and ${
        Math.ceil(size / 2) + STATUS_ROWS
      } rows`,
    );
  }
  const lines = drawQr(data, border, { hasStyles: screen?.hasStyles ?? false });
  if (screen === undefined) { for (const line of lines) io.err(line); }
  else {
    screen.draw(lines.map((line) => `${line}\n`).join(""));
  }
}

/**
 * Draws a QR code with half blocks. With styles it is black on white. Without, it is light on dark, because most
 * terminals are dark.
 *
 * @param modules the rows, `true` for a dark module
 * @param border how many light modules surround it
 */
export function drawQr(
  modules: readonly (readonly boolean[])[],
  border: number,
  { hasStyles }: { readonly hasStyles: boolean },
): string[] {
  const size = modules.length + 2 * border;
  const isInk = (row: number, column: number) => {
    if (row >= size) return false; // half a line below the code
    const isDark = modules[row - border]?.[column - border] ?? false;
    return hasStyles ? isDark : !isDark;
  };
  const [start, end] = hasStyles ? [BLACK_ON_WHITE, RESET] : ["", ""];
  return Array.from({ length: Math.ceil(size / 2) }, (_, line) => {
    const characters = Array.from({ length: size }, (_, column) => {
      const [top, bottom] = [isInk(2 * line, column), isInk(2 * line + 1, column)];
      return top ? bottom ? "█" : "▀" : bottom ? "▄" : " ";
    });
    return start + characters.join("") + end;
  });
}

function fits(size: number, room: { columns: number; rows: number }): boolean {
  return size <= room.columns && Math.ceil(size / 2) <= room.rows;
}

/** In modules. The standard asks for 4, and readers make do with fewer. */
const BORDERS = [2, 1];

/** The command for the other machine, and the status line. */
const TEXT_ROWS = 4;
const STATUS_ROWS = 1;

/** Select graphic rendition (ECMA-48 SGR), in colours that no theme changes. */
const BLACK_ON_WHITE = "\u001b[38;5;16;48;5;231m";
const RESET = "\u001b[0m";
