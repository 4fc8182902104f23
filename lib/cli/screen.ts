/**
 * The terminal of a command: lines are laid out to its width, and below them a status line says what is waited for. The
 * status line is redrawn in place every second, is removed before anything else is printed, and is back after it. Where
 * stdin is data, it has an empty line below it, in which the terminal shows what is typed.
 *
 * @module
 */

import { ResettableTimer } from "../base/timers.ts";
import type { CliIo, StatusLine } from "./io.ts";
import { cut, layoutColumns, textWidth, uncopyable, wrap } from "./layout.ts";
import {
  INITIAL_STATUS,
  newlyFailed,
  type StatusEvent,
  type StatusPart,
  statusParts,
  type StatusState,
  stepStatus,
} from "./status_engine.ts";

/**
 * Gives a command a terminal that lays lines out and has a status line. Without a terminal, or for programs, lines are
 * printed as they are.
 *
 * @param options.asJson whether the output is for programs
 */
export function withScreen(io: CliIo, { asJson }: { asJson: boolean }): CliIo & Disposable {
  const { status } = io;
  const screen = status === undefined || asJson ? undefined : new Screen(status);
  const print = (to: (line: string) => void, columns: () => number | undefined) => (line: string) =>
    printLaidOut(line, asJson ? undefined : columns(), (text) => {
      if (screen === undefined) to(text);
      else screen.above(() => to(text));
    });
  return Object.create(io, { // a copy would keep the width that stdout has now
    out: {
      value: print(
        (line) => io.out(line),
        () => io.isTerminal ? io.outColumns ?? status?.columns : undefined,
      ),
    },
    err: { value: print((line) => io.err(line), () => status?.columns) },
    ...screen === undefined ? {} : { status: { value: screen } },
    [Symbol.dispose]: { value: () => screen?.close() },
  });
}

/** The status line of a command; `undefined` if it has none. */
export function screenOf({ status }: Pick<CliIo, "status">): Screen | undefined {
  return status instanceof Screen ? status : undefined;
}

/** Says what a command is waiting for, on a terminal. */
export function waitFor(io: Pick<CliIo, "status">, text: string, timeoutMs?: number): void {
  screenOf(io)?.tell({ kind: "task", text, timeoutMs });
}

/** Removes the status line. */
export function waitOver(io: Pick<CliIo, "status">): void {
  screenOf(io)?.tell({ kind: "idle" });
}

/** The width to lay out what goes to stdout; `undefined` if stdout is not a terminal. */
export function outputColumns(io: CliIo): number | undefined {
  const columns = io.isTerminal ? io.outColumns ?? io.status?.columns : undefined;
  return columns === undefined ? undefined : layoutColumns(columns);
}

/** A terminal with a status line. */
export class Screen implements StatusLine {
  readonly #line: StatusLine;
  readonly #timer = new ResettableTimer(() => this.#tick());
  #status: StatusState = INITIAL_STATUS;
  /** What is in the place of the status line, such as a progress bar. */
  #text: (() => string) | undefined;
  /** The text on the screen, and how wide that was. */
  #drawn = "";
  #drawnColumns = 0;
  #isHeld = false;
  #isAboveTyping = false;

  constructor(line: StatusLine) {
    this.#line = line;
    this.#timer.isReferenced = false;
  }

  get columns(): number {
    return this.#line.columns;
  }

  get rows(): number | undefined {
    return this.#line.rows;
  }

  get hasStyles(): boolean {
    return this.#line.hasStyles ?? false;
  }

  get isDumb(): boolean {
    return this.#line.isDumb ?? false;
  }

  /** What is known about the wait. */
  get state(): StatusState {
    return this.#status;
  }

  /** Writes text where the status line was; it is not drawn again until {@linkcode Screen.release}. */
  write(text: string): void {
    this.#isHeld = true;
    this.#erase();
    this.#line.write(text);
  }

  /** Draws the status line again. */
  release(): void {
    this.#isHeld = false;
    this.#draw();
  }

  /** Takes an event. */
  tell(event: StatusEvent): void {
    const before = this.#status;
    this.#status = stepStatus(before, event, performance.now());
    const failed = this.isDumb ? newlyFailed(before, event) : undefined;
    if (failed !== undefined) this.#line.write(`${failed}\n`);
    this.#draw();
  }

  /** Shows a text in place of the status line, which is called again whenever it is redrawn; `undefined` to end that. */
  show(text: (() => string) | undefined): void {
    this.#text = text;
    this.#draw();
  }

  /** What is typed from now on is shown below the status line. */
  expectTyping(): void {
    this.#erase();
    this.#isAboveTyping = true;
    this.#draw();
  }

  /**
   * The terminal has shown this text, lines that Enter has ended among it: they stay, and the status line goes below them.
   * Text from before {@linkcode Screen.expectTyping} stands elsewhere, and has moved nothing.
   */
  typed(text: string): void {
    if (!this.#isAboveTyping) return;
    const lines = text.split("\n").slice(0, -1);
    if (this.#drawn === "" || lines.length === 0) return;
    const rows = lines.reduce((sum, line) => sum + this.#rowsOf(line), 0);
    if (rows + 1 >= (this.rows ?? Infinity)) {
      this.#drawn = "";
      return this.#draw();
    }
    // The cursor may be behind the start of another line by now.
    const moved = `\r${up(rows + 1)}${DELETE_LINE}${down(rows)}${INSERT_LINE}`;
    this.#line.write(`${SAVE_CURSOR}${moved}${this.#drawn}${RESTORE_CURSOR}`);
    this.#draw();
  }

  /** Prints above the status line. */
  above(print: () => void): void {
    this.#erase();
    print();
    this.#draw();
  }

  /** Draws something of the command's own above the status line, control characters included. */
  draw(text: string): void {
    this.above(() => this.#line.write(text));
  }

  /** Removes the line. */
  close(): void {
    this.#status = INITIAL_STATUS;
    this.#text = undefined;
    this.#erase();
    this.#timer.clear();
  }

  #tick(): void {
    if (!this.isDumb) this.#draw();
  }

  #draw(): void {
    const text = this.#isHeld ? "" : this.#textNow();
    if (this.isDumb) return this.#drawPlainly();
    if (text === "") {
      this.#erase();
      return this.#timer.clear();
    }
    if (text !== this.#drawn) this.#line.write(this.#redrawn(text));
    this.#drawn = text;
    this.#drawnColumns = this.#line.columns;
    this.#timer.set(REDRAW_MS);
  }

  /** Without a cursor that can move, a line is printed for each new task, and for each way that fails. */
  #drawPlainly(): void {
    const text = this.#status.task?.text ?? "";
    if (text !== "" && text !== this.#drawn) this.#line.write(`${text}\n`);
    this.#drawn = text;
  }

  #textNow(): string {
    const columns = this.#line.columns - 1; // in the last column some terminals wrap
    if (this.#text !== undefined) return cut(this.#text(), columns);
    const fits = (text: string) => textWidth(text) <= columns;
    return drawParts(statusParts(this.#status, performance.now(), fits), columns, this.hasStyles);
  }

  #erase(): void {
    if (this.#drawn === "" || this.isDumb) return;
    const erased = this.#erased();
    this.#drawn = "";
    this.#line.write(erased);
  }

  #redrawn(text: string): string {
    if (!this.#isAboveTyping) return `\r${text}${this.#clearRest()}\r`;
    const isWrapped = this.#line.columns < this.#drawnColumns;
    if (this.#drawn !== "" && !isWrapped) {
      return `${SAVE_CURSOR}\r${up(1)}${text}${CLEAR_LINE}${RESTORE_CURSOR}`;
    }
    return `${this.#drawn === "" ? "\r" : this.#erased()}${text}${CLEAR_LINE}\n`;
  }

  #erased(): string {
    if (!this.#isAboveTyping) return `\r${this.#clearRest()}`;
    const rows = this.#rowsOf(this.#drawn.replaceAll(STYLE, ""));
    if (rows === 1) return `\r${CLEAR_LINE}${up(1)}${CLEAR_LINE}`;
    return `\r${up(rows)}${CLEAR_BELOW}`;
  }

  /** How many rows of the terminal a line takes. */
  #rowsOf(line: string): number {
    return Math.max(1, Math.ceil(textWidth(line) / this.#line.columns));
  }

  /** The cursor waits at the start of the line: a terminal that is narrower now has wrapped what was drawn below it. */
  #clearRest(): string {
    return this.#line.columns < this.#drawnColumns ? CLEAR_BELOW : CLEAR_LINE;
  }
}

/** The parts that fit, with their colours. */
function drawParts(parts: readonly StatusPart[], columns: number, hasStyles: boolean): string {
  let room = columns;
  return parts.map(({ text, tone }) => {
    const fitting = cut(text, Math.max(0, room));
    room -= textWidth(text);
    return fitting === "" ? "" : styled(fitting, tone, hasStyles);
  }).join("");
}

/** A text in the colour of what it means, on a terminal that has colours. */
function styled(text: string, tone: StatusPart["tone"], hasStyles: boolean): string {
  const code = TONES[tone];
  return hasStyles && code !== undefined ? `\u001b[${code}m${text}\u001b[0m` : text;
}

function printLaidOut(
  text: string,
  columns: number | undefined,
  print: (line: string) => void,
): void {
  if (columns === undefined) return print(text.startsWith("{") ? text : uncopyable(text)); // JSON stays
  for (const line of wrap(text, { columns: layoutColumns(columns) })) print(uncopyable(line));
}

/**
 * Erase from the cursor to the end of the line (ECMA-48 EL), or of the page (ED). The second one is for when it is needed:
 * at the top of a screen, some terminals save the page first.
 */
const CLEAR_LINE = "\u001b[K";
const CLEAR_BELOW = "\u001b[J";

/** Cursor up and down, delete and insert line (ECMA-48 CUU, CUD, DL, IL). */
function up(rows: number): string {
  return `\u001b[${rows}A`;
}
function down(rows: number): string {
  return `\u001b[${rows}B`;
}
const DELETE_LINE = "\u001b[M";
const INSERT_LINE = "\u001b[L";

/** DECSC and DECRC, which every terminal since the VT100 has. */
const SAVE_CURSOR = "\u001b7";
const RESTORE_CURSOR = "\u001b8";

/** Select graphic rendition (ECMA-48 SGR): green, red, faint. */
const TONES: Readonly<Record<StatusPart["tone"], number | undefined>> = {
  plain: undefined,
  good: 32,
  bad: 31,
  faint: 2,
};

// deno-lint-ignore no-control-regex -- the escape sequences above
const STYLE = /\u001b\[[\d;]*m/g;

/** Chosen by us: the seconds count, so the line shows that the command is alive. */
const REDRAW_MS = 1000;
