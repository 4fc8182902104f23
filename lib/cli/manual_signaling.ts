/**
 * Manual signaling (`--hand`): messages are shown on stderr and pasted into stdin, and the people copy them. Once there
 * is a connection, the rest of stdin is its data.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { PEER_TIMINGS } from "../peer/options.ts";
import { decodeTicket } from "../peer/ticket.ts";
import { MANUAL_URL, manualTransport } from "../signal/manual.ts";
import type { SignalTransport } from "../signal/transport.ts";
import type { Arguments } from "./arguments.ts";
import { type CliIo, printError, UsageError } from "./io.ts";
import type { ConnectionEvents } from "./peer_events.ts";
import type { StdinLines } from "./stdin_lines.ts";

/**
 * Opens the prompt if signaling is manual.
 *
 * @param options.ticket the peer to reach, if any; its ticket says whether signaling is manual
 * @param options.forwards the option that asks for forwarding, if any
 * @param options.stdin where the messages are pasted
 * @throws {UsageError} if the options contradict each other
 */
export function openManualPrompt(
  { flags }: Pick<Arguments, "flags">,
  io: CliIo,
  events: ConnectionEvents,
  { ticket, forwards, stdin }: {
    readonly ticket?: string;
    readonly forwards?: string;
    readonly stdin: StdinLines;
  },
): ManualPrompt | undefined {
  const isRequested = flags.has("hand");
  const isManual = ticket === undefined
    ? isRequested
    : decodeTicket(ticket).signaling.every((url) => url === MANUAL_URL);
  if (isRequested && !isManual) {
    throw new UsageError("--hand cannot be used with this ticket, which names signaling servers");
  }
  if (isManual && forwards !== undefined) {
    throw new UsageError(
      `--${forwards} cannot be used with manual signaling: each connection would need messages of its own`,
    );
  }
  const asQr = flags.has("qr") && !flags.has("json");
  return isManual
    ? new ManualPrompt(io, events, stdin, { asQr, isDialing: ticket !== undefined })
    : undefined;
}

/**
 * Shows the messages for the other side, and reads those that are pasted, in this order: the listener shows its ticket and
 * asks for a message, the dialer shows that message and asks for the answer, and the listener shows the answer.
 */
export class ManualPrompt {
  /** The signaling transport for the peer. */
  readonly transport: SignalTransport;
  /** Rejects once no message can be pasted any more, and none was. */
  readonly #isOver = optionalResolvers<never>();
  readonly #events: ConnectionEvents;
  /** What a dialer waits for, and how long. */
  readonly waiting = {
    text: "Waiting for the answer to be pasted",
    timeoutMs: PEER_TIMINGS.manualMs,
  } as const;

  constructor(
    io: CliIo,
    events: ConnectionEvents,
    stdin: StdinLines,
    { asQr, isDialing }: { asQr: boolean; isDialing: boolean },
  ) {
    this.#events = events;
    this.transport = manualTransport({
      lines: stdin,
      write: (text) => {
        events.emit({ event: "message", text });
        const what = isDialing ? "Send this to the other side" : "Send this answer back";
        events.print(`${what} within a few minutes:\n\n${text}\n`);
        if (asQr) showCode(text, io);
        if (isDialing) events.print("Paste the answer here, and press Enter");
      },
      onGarbage: (error) => printError(error, io),
      onEnd: (received) => {
        if (received === 0 && stdin.hasEnded) this.#isOver.reject(stdinEnded(isDialing));
      },
    });
  }

  /** Asks for the dialer's message, once the ticket is shown. */
  askForMessage(): void {
    this.#events.print("The other machine shows a message: paste it here, and press Enter");
  }

  /**
   * The same promise, which rejects early if stdin ends without the one message that a connection needs.
   *
   * @throws {NetworkError} `closed` in that case
   */
  unlessOver<T>(connecting: Promise<T>): Promise<T> {
    return Promise.race([connecting, this.#isOver.promise]);
  }
}

function stdinEnded(isDialing: boolean): NetworkError {
  const what = isDialing ? "answer" : "message";
  const message = `Cannot connect: stdin has ended, so the other side's ${what} cannot be pasted`;
  return new NetworkError(message, "closed", {
    remedy: `Start again on a terminal, or keep stdin open until the ${what} is there`,
  });
}

async function showCode(text: string, io: CliIo): Promise<void> {
  const { showQr } = await import("./qr.ts");
  await showQr(text, io);
}
