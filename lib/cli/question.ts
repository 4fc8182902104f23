/**
 * Questions. One rule for all commands: a question goes to stderr and is answered on stdin, before any data, only if both
 * are terminals. The default is no, and so is silence for five minutes. What was typed before the question was shown is
 * not an answer, and is dropped: it may have been pasted along with a ticket, by the choice of a stranger.
 *
 * Windows keeps the start of a line that Enter has not ended. There the answer is a number that is drawn for the question,
 * so that nothing that was typed before it can be a yes, or the start of one. This was tested with a simulated terminal, not
 * on Windows.
 *
 * A command asks one question, with everything in it. `recv` needs a second one if all servers of its ticket need permission:
 * what is offered is known only once one of them was used.
 *
 * @module
 */

import { Deadline } from "../base/timers.ts";
import type { CliIo } from "./io.ts";
import { layoutColumns, wrap } from "./layout.ts";
import { screenOf } from "./screen.ts";
import type { StdinLines } from "./stdin_lines.ts";

/** A question that is answered with yes or no. */
export interface Question {
  /** What there is to know before answering, line by line. Must be printable. */
  readonly facts: readonly string[];
  /** The question, without the choice of answers. */
  readonly text: string;
}

/** The answer. `"unanswerable"`: stdin or stderr is not a terminal. */
export type Answer = "yes" | "no" | "unanswerable" | "timed-out";

/** Whether questions can be asked at all. */
export function canAsk(io: CliIo): boolean {
  return io.isInputTerminal && io.status !== undefined;
}

/**
 * Asks a question. Its facts are printed even if it cannot be answered.
 *
 * @param options.signal ends the question, for example because the other side has gone
 * @throws the signal's reason on abort
 */
export async function ask(
  { facts, text }: Question,
  io: CliIo,
  stdin: StdinLines,
  { signal = io.signal, timeoutMs = ANSWER_MS }: {
    readonly signal?: AbortSignal;
    readonly timeoutMs?: number;
  } = {},
): Promise<Answer> {
  const printFacts = () => facts.forEach((fact) => io.err(fact));
  if (!canAsk(io)) {
    printFacts();
    return "unanswerable";
  }
  const screen = screenOf(io);
  const number = io.keepsTyped ? `${randomNumber()}` : undefined;
  const question = number === undefined
    ? `${text} [y/N]`
    : `${text} Type ${number} for yes, or Enter for no:`;
  using deadline = new Deadline(timeoutMs, signal);
  try {
    await stdin.dropTyped({ signal: deadline.signal });
    printFacts();
    const columns = layoutColumns(io.status!.columns);
    io.status!.write(`${wrap(question, { columns: columns - 2 }).join("\n")} `); // room for the answer
    const line = await stdin.line({ maxBytes: MAX_ANSWER_BYTES, signal: deadline.signal });
    if (line === undefined) io.status!.write("\n");
    const answer = line?.trim().toLowerCase() ?? "";
    const isYes = number === undefined ? answer === "y" || answer === "yes" : answer === number;
    return isYes ? "yes" : "no";
  } catch (error) {
    io.status!.write("\n");
    signal.throwIfAborted();
    if (deadline.signal.aborted) return "timed-out";
    if (error instanceof RangeError) return "no";
    throw error;
  } finally {
    screen?.release();
  }
}

/** From 100 to 999. */
function randomNumber(): number {
  return 100 + crypto.getRandomValues(new Uint32Array(1))[0]! % 900;
}

/** Chosen by us: longer than it takes to read a long list. */
const ANSWER_MS = 300_000;

/** Chosen by us: an answer has up to three letters. */
const MAX_ANSWER_BYTES = 256;
