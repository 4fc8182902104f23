/**
 * Checks whether a direct TCP path carries long packets, while it is already in use: padding goes first, each way, below the
 * encryption. It costs no round trip.
 *
 * @module
 */

import { type ConnectionAttempt, NetworkError } from "../base/errors.ts";
import type { PathKind } from "../base/path_kind.ts";
import { writeAll } from "../base/reader.ts";
import { ResettableTimer } from "../base/timers.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import type { Finding } from "../nat/behavior.ts";
import type { DirectPathKind } from "../punch/path_kinds.ts";
import type { PunchRole } from "../punch/offer.ts";
import {
  initialPathCheckState,
  PADDING_BYTES,
  pathCheckEndsAtMs,
  type PathCheckEvent,
  type PathCheckState,
  stepPathCheck,
} from "./path_check_engine.ts";

/** The path has let small messages through, and then none of the long ones. */
export class MtuHoleError extends NetworkError {
  /** Makes one. */
  constructor(remote: string) {
    super(`Cannot use the path to ${remote}: ${MTU_HOLE}`, "timed-out", { remedy: MTU_REMEDY });
  }
}

/** What a connection knows of MTU holes in direct paths by TCP. */
export class MtuHoleMemory {
  readonly #onHole: () => void;
  #untilMs = -Infinity;

  /** @param onHole called with the first one, and again if one is found after this has been forgotten */
  constructor(onHole: () => void = () => {}) {
    this.#onHole = onHole;
  }

  /** Whether TCP is of no use for now. */
  get isKnown(): boolean {
    return performance.now() < this.#untilMs;
  }

  /** Notes a hole; returns the attempts with what became of the one that had found the path. */
  note(
    { connection: { remote }, kind }: {
      readonly connection: Pick<TcpConnection, "remote">;
      readonly kind: PathKind;
    },
    attempts: readonly ConnectionAttempt[],
  ): ConnectionAttempt[] {
    if (!this.isKnown) this.#onHole();
    this.#untilMs = performance.now() + KEPT_MS;
    const address = formatTransportAddress(remote);
    return attempts.map((attempt): ConnectionAttempt =>
      attempt.outcome === "connected" && attempt.transport === "tcp" &&
        (attempt.remote === address || attempt.kind === kind)
        ? { ...attempt, outcome: "failed", reason: MTU_HOLE, remedy: MTU_REMEDY }
        : attempt
    );
  }
}

/** The check of one path. */
export class PathCheck {
  /** What to use instead of the connection: it sends padding first, and skips the other side's. */
  readonly connection: TcpConnection;
  readonly #raw: TcpConnection;
  /** Whether another path was in use. */
  readonly #isBeside: boolean;
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  readonly #judged = Promise.withResolvers<void>();
  #state: PathCheckState;

  /**
   * Starts the check.
   *
   * @param raw taken over
   * @param punchMs how long the path took to find
   * @param user knows a round trip if another path is in use
   */
  constructor(raw: TcpConnection, punchMs: number, user: { readonly rttMs: number | undefined }) {
    this.#raw = raw;
    this.#isBeside = user.rttMs !== undefined;
    // Within a host nothing swallows long packets: a program that does not read them is busy.
    const isWithinHost = raw.local.ip === raw.remote.ip;
    const leastMs = isWithinHost ? Infinity : this.#isBeside ? BESIDE_MS : 0;
    this.#state = initialPathCheckState(Math.max(punchMs, leastMs), performance.now());
    this.connection = paddedConnection(raw, {
      isOver: () => this.#state.verdict !== "open",
      onReceived: (bytes) => this.#dispatch({ kind: "received", bytes }),
      onHeard: () => this.#dispatch({ kind: "heard" }),
      onEnded: () => this.#dispatch({ kind: "ended" }),
      onClosed: () => this.#dispatch({ kind: "closed" }),
    });
    this.#setTimer();
  }

  /**
   * Waits until the path has carried the padding both ways.
   *
   * @param moved resolves once the other side uses the path
   * @param role the controlling side starts when the other side has answered; the other one, beside another path, when it
   * has heard that. On a slow line an answer of its own may wait behind data for seconds
   * @param user knows the round trip of the path once the other side has answered
   * @throws {MtuHoleError} if it swallows long packets; it is reset then
   * @throws {NetworkError} as `moved`, or if the path was lost
   */
  async passed(
    moved: Promise<void>,
    role: PunchRole,
    user: { readonly rttMs: number | undefined },
  ): Promise<void> {
    const isAnswered = () => role === "controlling" || this.#isBeside || user.rttMs !== undefined;
    try {
      await Promise.race([moved, this.#judged.promise]);
      await this.#until(isAnswered);
      if (this.#state.verdict === "open") this.#dispatch({ kind: "answered" });
      await this.#judged.promise;
    } catch (error) {
      this.#dispatch({ kind: "ended" });
      if (this.#state.verdict !== "hole") throw error;
    }
    moved.catch(() => {}); // it may follow the path
    const remote = formatTransportAddress(this.#raw.remote);
    if (this.#state.verdict === "hole") throw new MtuHoleError(remote);
    if (this.#state.verdict === "lost") {
      throw new NetworkError(`Cannot use the path to ${remote}: it was lost at once`, "reset");
    }
    await moved;
  }

  /** Resolves once the condition holds, or the check is over. */
  #until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => condition() ? resolve() : timer.set(POLL_MS);
      const timer = new ResettableTimer(look);
      look();
      this.#judged.promise.then(() => {
        timer.clear();
        resolve();
      });
    });
  }

  #dispatch(event: PathCheckEvent): void {
    const before = this.#state.verdict;
    this.#state = stepPathCheck(this.#state, event, performance.now());
    const { verdict } = this.#state;
    if (verdict === "open") return this.#setTimer();
    this.#timer.clear();
    if (before !== "open") return;
    if (verdict === "hole") this.#raw.reset();
    this.#judged.resolve();
  }

  #setTimer(): void {
    this.#timer.set(Math.max(1, pathCheckEndsAtMs(this.#state) - performance.now()));
  }
}

/** Sends padding before anything else, and reads the other side's. */
function paddedConnection(
  raw: TcpConnection,
  { isOver, onReceived, onHeard, onEnded, onClosed }: {
    isOver: () => boolean;
    onReceived: (bytes: number) => void;
    onHeard: () => void;
    onEnded: () => void;
    onClosed: () => void;
  },
): TcpConnection {
  let skipped = 0;
  const padding = writeAll(raw, crypto.getRandomValues(new Uint8Array(PADDING_BYTES)));
  padding.catch(() => onEnded());
  const skip = async (): Promise<boolean> => {
    const buffer = new Uint8Array(SKIP_BYTES);
    while (skipped < PADDING_BYTES) {
      const count = await raw.read(buffer.subarray(0, PADDING_BYTES - skipped));
      if (count === null) return false;
      skipped += count;
      onReceived(count);
    }
    return true;
  };
  const read = async (buffer: Uint8Array): Promise<number | null> => {
    try {
      const count = skipped >= PADDING_BYTES || await skip() ? await raw.read(buffer) : null;
      if (count === null) onEnded();
      else onHeard();
      return count;
    } catch (error) {
      onEnded();
      throw error;
    }
  };
  // What follows at once goes out with it: a new connection may send ten packets before the first answer, and the padding
  // takes six.
  const write = async (data: Uint8Array): Promise<number> => {
    await padding;
    return await raw.write(data);
  };
  return {
    local: raw.local,
    remote: raw.remote,
    // Every message passes here: once nothing is checked any more, that costs it nothing.
    read: (buffer) => isOver() && skipped >= PADDING_BYTES ? raw.read(buffer) : read(buffer),
    write: (data) => isOver() ? raw.write(data) : write(data),
    closeWrite: async () => {
      await padding;
      await raw.closeWrite();
    },
    close: () => {
      onClosed();
      raw.close();
    },
    reset: () => {
      onClosed();
      raw.reset();
    },
    ref: () => raw.ref?.(),
    unref: () => raw.unref?.(),
    [Symbol.dispose]: () => raw.close(),
  };
}

/** Chosen by us: a socket gives a reader of large pieces a large buffer, which an idle connection does not need. */
const SKIP_BYTES = 512;

/** What an attempt says of such a path. */
const MTU_HOLE = "small messages pass, but long packets are swallowed (an MTU hole)";

/** What to do about it. */
export const MTU_REMEDY =
  'Lower the MTU of this machine\'s interface, the VPN or the router, or let ICMP "packet too big" through';

/** What a person is told about it. */
export const MTU_FINDING: Finding = {
  kind: "mtu",
  summary:
    "A direct path by TCP swallows long packets (an MTU hole): UDP or a relay has to carry the connection instead",
  remedy: MTU_REMEDY,
};

/** What to look for where TCP is of no use: nothing by TCP, so that only the punch by UDP beside it goes on. */
export const UDP_ONLY: ReadonlySet<DirectPathKind> = new Set(["punch-udp"]);

/** Chosen by us: networks change, and a search for a better path finds out. */
const KEPT_MS = 600_000;

/** Chosen by us: where another path fills the line's buffer, packets of every length are lost, and sent again for longer. */
const BESIDE_MS = 1500;

/** Chosen by us: a small part of any round trip that matters. */
const POLL_MS = 10;
