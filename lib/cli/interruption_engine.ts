/**
 * Decides what a signal of the system does to a command: the first one ends it in good order, so that mappings are
 * released and peers are told, and the second one ends it at once.
 *
 * A hang-up ends a command only if it was started from a terminal: with `nohup` it is not, and goes on. Deno has its own
 * handler for SIGHUP as soon as the program asks for one, so an inherited "ignore" cannot be seen.
 *
 * | so far      | signal                             | what follows                                    |
 * | ----------- | ---------------------------------- | ----------------------------------------------- |
 * | running     | INT, TERM                          | interrupt the command                           |
 * |             | HUP, with a terminal               | interrupt the command                           |
 * | any         | HUP, without one                   | nothing                                         |
 * | interrupted | HUP within half a second after HUP | nothing: the shell and the kernel both send one |
 * |             | any other                          | exit at once                                    |
 *
 * @module
 */

/** A signal that ends programs. */
export type EndSignal = "SIGINT" | "SIGTERM" | "SIGHUP";

/** What has happened so far. */
export interface InterruptionState {
  /** Whether stdin, stdout or stderr was a terminal when the command started. */
  readonly hasTerminal: boolean;
  /** The signal that interrupted the command, and when. */
  readonly first: { readonly signal: EndSignal; readonly atMs: number } | null;
}

/** What to do about a signal. */
export type InterruptionAction = "interrupt" | "exit" | "ignore";

/** The state at the start. */
export function initialInterruptionState(hasTerminal: boolean): InterruptionState {
  return { hasTerminal, first: null };
}

/** Processes a signal. */
export function stepInterruption(
  state: InterruptionState,
  signal: EndSignal,
  nowMs: number,
): { readonly state: InterruptionState; readonly action: InterruptionAction } {
  const { hasTerminal, first } = state;
  if (signal === "SIGHUP" && !hasTerminal) return { state, action: "ignore" };
  if (first === null) {
    return { state: { ...state, first: { signal, atMs: nowMs } }, action: "interrupt" };
  }
  const isSameHangUp = signal === "SIGHUP" && first.signal === "SIGHUP" &&
    nowMs - first.atMs < SAME_HANG_UP_MS;
  return { state, action: isSameHangUp ? "ignore" : "exit" };
}

/** Chosen by us: a shell passes a hang-up on before it exits, and then the kernel sends another. */
const SAME_HANG_UP_MS = 500;
