/**
 * The code that `send` and `listen` show beside the ticket.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import type { CodeEvent } from "../code/offer.ts";
import type { CodeOptions, PeerOptions } from "../peer/options.ts";
import { DEFAULT_SIGNALING } from "../signal/open.ts";
import { type Arguments, readDuration } from "./arguments.ts";
import { type CliIo, printError } from "./io.ts";
import type { ConnectionEvents } from "./peer_events.ts";
import { copyable } from "./layout.ts";
import { signalingOption } from "./peer_options.ts";
import { commandLine } from "./started_as.ts";

/** Offers a code, such as a {@linkcode Peer}. */
export interface CodeSource {
  /** What the code is for. */
  readonly ticket: string;
  /** As {@linkcode Peer.offerCode}. */
  offerCode(options: CodeOptions): Promise<AsyncDisposable>;
}

/** What to show, and where. */
export interface ShownCodeOptions {
  readonly peer: CodeSource;
  readonly events: ConnectionEvents;
  readonly io: CliIo;
  /** The command of the other side. */
  readonly command: "connect" | "recv" | "punch";
  /** Where this side is reachable. */
  readonly signaling: PeerOptions["signaling"];
}

/**
 * Reads `--code-expires`, before anything is shown.
 *
 * @returns milliseconds
 * @throws {UsageError} if it is not a time
 */
export function readCodeExpiry(values: Arguments["values"]): number {
  return readDuration("code-expires", values.get("code-expires"), { min: MIN_EXPIRES_MS }) ??
    DEFAULT_EXPIRES_MS;
}

/** Offers a code for the peer's ticket, and prints what happens to it, until it is disposed of. */
export class ShownCode implements AsyncDisposable {
  readonly #options: ShownCodeOptions;
  readonly #expiresMs: number;
  readonly #tasks: TaskGroup;
  #hasShown = false;
  #isHushed = false;

  private constructor(options: ShownCodeOptions, expiresMs: number) {
    this.#options = options;
    this.#expiresMs = expiresMs;
    this.#tasks = new TaskGroup((error) => printError(error, options.io));
    this.#tasks.run((signal) => this.#offer(signal));
  }

  /**
   * Starts, unless `--no-code` or `--hand` is given.
   *
   * @throws {UsageError} if `--code-expires` is not a time
   */
  static start({ flags, values }: Arguments, options: ShownCodeOptions): ShownCode | undefined {
    const expiresMs = readCodeExpiry(values);
    if (flags.has("no-code") || flags.has("hand")) return undefined;
    return new ShownCode(options, expiresMs);
  }

  /** Prints nothing any more: a peer has connected. A code that was not shown yet is withdrawn. */
  hush(): void {
    this.#isHushed = true;
    if (!this.#hasShown) this.#tasks.stop(); // awaited when this is disposed of
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks.stop();
  }

  async #offer(signal: AbortSignal): Promise<void> {
    const { peer } = this.#options;
    const expiresMs = this.#expiresMs;
    try {
      const onEvent = (event: CodeEvent) => signal.aborted || this.#show(event);
      await using _offer = await peer.offerCode({ expiresMs, onEvent, signal });
      if (signal.aborted) return;
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // it was reported, or the peer is closed
    }
  }

  #show(event: CodeEvent): void {
    const { peer, events, io, command, signaling } = this.#options;
    const print = (line: string) => this.#isHushed || events.print(line);
    if (event.kind === "offered") {
      this.#hasShown = true;
      const { code } = event;
      events.emit({ event: "ticket", ticket: peer.ticket, code });
      const where = whereOptions(signaling).flatMap((each) => each.split(" "));
      const time = inWords(this.#expiresMs);
      const start = command === "punch" ? "On the other machine, within" : "Or, within";
      return void print(`${start} ${time}: ${copyable(commandLine(io, command, ...where, code))}`);
    }
    const { kind, ...rest } = event;
    events.emit({ event: "code", state: kind, ...rest });
    if (event.kind === "wrong-guess") {
      const left = event.guessesLeft === 1 ? "1 more wrong guess ends" : "2 more wrong guesses end";
      print(`Someone used the code with wrong words; ${left} it`);
    } else if (event.kind === "out-of-guesses") {
      print(`The code has ended, after three wrong guesses${stillGood(command)}`);
    } else if (event.kind === "spent") {
      print("The code has been used: no one else can use it");
    } else if (event.kind === "expired") {
      print(`The code has expired${stillGood(command)}`);
    } else if (event.kind === "unavailable") {
      print(`There is no code: ${event.reason}${stillGood(command)}`);
    }
  }
}

function stillGood(command: ShownCodeOptions["command"]): string {
  return command === "punch" ? "" : "; the ticket is still good";
}

/** The options with which the other side meets at the same servers; none for the default servers. */
function whereOptions(signaling: PeerOptions["signaling"] = []): string[] {
  const urls = signaling.filter((each) => typeof each === "string");
  if (urls.join(" ") === DEFAULT_SIGNALING.join(" ")) return [];
  return urls.map(signalingOption);
}

function inWords(ms: number): string {
  if (ms === DEFAULT_EXPIRES_MS) return "an hour";
  const [unit, size] = UNITS.find(([, size]) => ms >= size) ?? UNITS.at(-1)!;
  const count = Math.max(1, Math.floor(ms / size));
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
] as const;

/** Chosen by us: a code cannot be typed in less. */
const MIN_EXPIRES_MS = 1000;

/** Chosen by us: time to walk to another machine, or to reach somebody by telephone. */
const DEFAULT_EXPIRES_MS = 3_600_000;
