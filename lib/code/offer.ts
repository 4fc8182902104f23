/**
 * Offers a ticket for a code, over all ways to signal at once: finds a number that is free, answers those who come there,
 * and draws another code when the guesses at one are used up.
 *
 * @module
 */

import { equalBytes, toHex } from "../base/bytes.ts";
import { equalSecrets, hash } from "../base/crypto.ts";
import { messageOf, NetworkError, undefinedIfMalformed } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { TaskGroup } from "../base/tasks.ts";
import { idleDelay, MAX_TIMER_MS, ResettableTimer } from "../base/timers.ts";
import {
  answerTopic,
  MEETING_PLACES,
  meetingTopic,
  type SignalingConnection,
} from "../signal/transport.ts";
import { type Code, formatCode, newCode } from "./code.ts";
import { codeKeys, offererShare, sealTicket } from "./exchange.ts";
import {
  CODE_ID_BYTES,
  type CodeMessage,
  type ConfirmMessage,
  decodeCodeMessage,
  encodeCodeMessage,
} from "./message.ts";
import {
  type CodeOfferAction,
  type CodeOfferEvent,
  type CodeOfferReport,
  type CodeOfferState,
  codeOfferWakeAtMs,
  openCodeOffer,
  stepCodeOffer,
} from "./offer_engine.ts";
import { isPakeShare } from "./pake.ts";
import { abortable } from "@std/async/abortable";

/** What happens to an offered code. */
export type CodeEvent =
  /** There is a code. It replaces the one before, if any. */
  | { readonly kind: "offered"; readonly code: string }
  /** Somebody tried the wrong words. */
  | { readonly kind: "wrong-guess"; readonly guessesLeft: number }
  /** The last guess was wrong, too. Another code follows at once, unless this has happened too often. */
  | { readonly kind: "out-of-guesses" }
  /** The ticket was handed over: no one else can use the code. */
  | { readonly kind: "spent" }
  /** Its time is over. */
  | { readonly kind: "expired" }
  /** There is no code, and there will be none: the reason says why. The ticket is as good as ever. */
  | { readonly kind: "unavailable"; readonly reason: string };

/** How to offer a code. */
export interface CodeOfferingOptions {
  /** The ways to signal. Some may fail to open, or open late. */
  readonly ways: readonly Promise<SignalingConnection>[];
  /** The ticket that is handed over; called at that time. */
  readonly ticket: () => string;
  /** How long a code is good for, in milliseconds. */
  readonly expiresMs: number;
  /** Called whenever something happens. May not throw. */
  readonly onEvent: (event: CodeEvent) => void;
  /** Receives non-fatal diagnostics. */
  readonly logger?: Logger;
}

/** Offers codes until it is disposed of, one after another. */
export class CodeOffering implements AsyncDisposable {
  readonly #options: CodeOfferingOptions;
  readonly #tasks = new TaskGroup((error) => this.#debug(error));
  /** Those that are open. */
  readonly #ways = new Set<SignalingConnection>();
  #current: OfferedCode | undefined;
  #replacements = 0;

  /** Starts; the first code is reported when there is one. */
  constructor(options: CodeOfferingOptions) {
    this.#options = options;
    this.#tasks.run((signal) => this.#start(signal));
  }

  /** The code that is good at the moment, if there is one. */
  get code(): string | undefined {
    return this.#current?.isOpen ? formatCode(this.#current.code) : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks.stop(new NetworkError("Cannot offer a code: it was withdrawn", "closed"));
    await this.#current?.[Symbol.asyncDispose]();
  }

  async #start(signal: AbortSignal): Promise<void> {
    const { ways } = this.#options;
    const joining = ways.map(async (way) => {
      const connection = await abortable(way, signal);
      this.#ways.add(connection);
      if (this.#current !== undefined) await this.#joinLate(this.#current, connection, signal);
    });
    const settled = Promise.allSettled(joining);
    await Promise.race([settled, idleDelay(OPEN_MS, signal)]);
    await Promise.any(joining).catch((error: unknown) => {
      signal.throwIfAborted();
      this.#unavailable(`no signaling server can be reached: ${reasonOf(error)}`);
    });
    if (this.#ways.size > 0) await this.#offer(signal);
    await settled;
  }

  /** Offers another code. */
  async #offer(signal: AbortSignal): Promise<void> {
    const number = await this.#freeNumber(signal);
    signal.throwIfAborted();
    if (number === undefined) return this.#unavailable("all numbers that were tried are taken");
    const code = newCode(number, crypto.getRandomValues(new Uint8Array(6)));
    const { ticket, expiresMs } = this.#options;
    const offered = new OfferedCode(code, {
      ticket,
      expiresMs,
      publish: (connection, topic, message) => this.#publish(connection, topic, message),
      report: (report) => this.#onReport(report),
    });
    const joined = await Promise.allSettled([...this.#ways].map((each) => offered.join(each)));
    if (joined.every(({ status }) => status === "rejected")) {
      return this.#unavailable("no signaling server accepts the meeting place");
    }
    await this.#current?.[Symbol.asyncDispose]();
    this.#current = offered;
    this.#options.onEvent({ kind: "offered", code: formatCode(code) });
  }

  #onReport(report: CodeOfferReport): void {
    this.#options.onEvent(report);
    if (report.kind !== "out-of-guesses") return;
    if (++this.#replacements > MAX_REPLACEMENTS) {
      return this.#unavailable("somebody keeps guessing at codes");
    }
    this.#tasks.run((signal) => this.#offer(signal));
  }

  /** From a server that allocates numbers, or else at random; `undefined` if others have all of them. */
  async #freeNumber(signal: AbortSignal): Promise<number | undefined> {
    for (let draws = 0; draws < MAX_DRAWS; draws++) {
      const allocated = await this.#allocate(signal);
      const number = allocated?.number ?? randomNumber();
      const others = [...this.#ways].filter((each) => each !== allocated?.by);
      const id = newId(); // one for all: two URLs may lead to the same server
      const isTaken = await Promise.all(
        others.map((each) => this.#isTaken(number, id, each, signal)),
      );
      if (!isTaken.includes(true)) return number;
    }
    return undefined;
  }

  async #allocate(
    signal: AbortSignal,
  ): Promise<{ number: number; by: SignalingConnection } | undefined> {
    for (const by of this.#ways) {
      try {
        const number = await by.allocateNumber?.({ signal });
        if (number !== undefined) return { number, by };
      } catch (error) {
        signal.throwIfAborted();
        this.#debug(error);
      }
    }
    return undefined;
  }

  /** Asks at the meeting place whether another code has this number. Another one that asks wants it, too. */
  async #isTaken(
    number: number,
    id: Uint8Array,
    connection: SignalingConnection,
    signal: AbortSignal,
  ): Promise<boolean> {
    const topic = meetingTopic(number);
    const answer = Promise.withResolvers<boolean>();
    const onMessage = (bytes: Uint8Array) => {
      const message = undefinedIfMalformed(() => decodeCodeMessage(bytes));
      const isOwn = message !== undefined && equalBytes(message.id, id);
      if (isOwn ? message.kind === "taken" : message?.kind === "probe") answer.resolve(true);
    };
    try {
      await using subscriptions = new AsyncDisposableStack();
      subscriptions.use(await connection.subscribe(topic, onMessage, { signal }));
      subscriptions.use(await connection.subscribe(answerTopic(id), onMessage, { signal }));
      for (let tries = 0; tries < 2; tries++) {
        await connection.publish(topic, encodeCodeMessage({ kind: "probe", id }));
        const waitMs = connection.url === "lan:" ? LAN_PROBE_MS : PROBE_MS;
        const silence = idleDelay(waitMs, signal).then(() => false);
        if (await Promise.race([answer.promise, silence])) return true;
      }
    } catch (error) {
      signal.throwIfAborted();
      this.#debug(error); // this way does not work now
    }
    return false;
  }

  /** Offers the code over a server that was opened after the code was shown, unless another has its number there. */
  async #joinLate(
    offered: OfferedCode,
    connection: SignalingConnection,
    signal: AbortSignal,
  ): Promise<void> {
    if (await this.#isTaken(offered.code.number, newId(), connection, signal)) return;
    if (offered === this.#current) await offered.join(connection);
  }

  #publish(connection: SignalingConnection, topic: string, message: CodeMessage): void {
    this.#tasks.run(() => connection.publish(topic, encodeCodeMessage(message)));
  }

  #unavailable(reason: string): void {
    this.#options.onEvent({ kind: "unavailable", reason });
  }

  #debug(error: unknown): void {
    this.#options.logger?.debug(`code: ${messageOf(error)}`);
  }
}

/** One code. */
class OfferedCode implements AsyncDisposable {
  readonly code: Code;
  readonly #options: OfferedCodeOptions;
  readonly #topic: string;
  readonly #secret = crypto.getRandomValues(new Uint8Array(32));
  readonly #subscriptions = new AsyncDisposableStack();
  readonly #timer = new ResettableTimer(() => this.#step({ kind: "time" }));
  #state: CodeOfferState;
  /** What the one who knew the words gets, however often. */
  #handedOver: Extract<CodeMessage, { kind: "ticket" }> | undefined;

  constructor(code: Code, options: OfferedCodeOptions) {
    this.code = code;
    this.#options = options;
    this.#topic = meetingTopic(code.number);
    const nowMs = performance.now();
    this.#state = openCodeOffer(nowMs + options.expiresMs, nowMs);
    this.#timer.isReferenced = false;
    this.#step({ kind: "time" });
  }

  get isOpen(): boolean {
    return this.#state.status === "open";
  }

  /** Listens at the meeting place of one way to signal. */
  async join(connection: SignalingConnection): Promise<void> {
    const onMessage = (bytes: Uint8Array) => this.#onMessage(bytes, connection);
    this.#subscriptions.use(await connection.subscribe(this.#topic, onMessage));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer.clear();
    await this.#subscriptions[Symbol.asyncDispose]();
  }

  #onMessage(bytes: Uint8Array, connection: SignalingConnection): void {
    const message = undefinedIfMalformed(() => decodeCodeMessage(bytes));
    if (message === undefined) return;
    const { id } = message;
    const topic = answerTopic(id);
    const answer = (answer: CodeMessage) => this.#options.publish(connection, topic, answer);
    switch (message.kind) {
      case "probe":
        return this.#step({ kind: "probe" }, () => answer({ kind: "taken", id }));
      case "hello":
        return this.#step({ kind: "hello" }, (action) => {
          if (action.kind === "refuse") {
            return answer({ kind: "refusal", id, reason: action.reason });
          }
          if (!isPakeShare(message.share)) return;
          const { share } = offererShare(this.code, this.#secret, message);
          answer({ kind: "share", id, share });
        });
      case "confirm":
        return this.#onConfirm(message, toHex(hash("sha256", bytes)), answer);
    }
  }

  #onConfirm(
    message: ConfirmMessage,
    digest: string,
    answer: (message: CodeMessage) => void,
  ): void {
    if (!isPakeShare(message.share)) return; // costs no guess
    const { id } = message;
    const act = (action: CodeOfferAction): void => {
      if (action.kind === "refuse") answer({ kind: "refusal", id, reason: action.reason });
      else if (action.kind === "hand-over" && this.#handedOver) answer(this.#handedOver);
      else if (action.kind === "judge") {
        const isRight = this.#judge(message);
        if (isRight !== undefined) this.#step({ kind: "judged", digest, isRight }, act);
      }
    };
    this.#step({ kind: "confirm", digest }, act);
  }

  /**
   * Whether it is right; if so, the ticket is ready to be handed over. `undefined` if it is for another offerer, or an
   * impostor.
   */
  #judge({ id, share, offererShare: answered, tag }: ConfirmMessage): boolean | undefined {
    const own = offererShare(this.code, this.#secret, { id, share });
    if (!equalBytes(own.share, answered)) return undefined;
    const keys = codeKeys(id, { ...own, role: "offerer" }, share);
    if (keys === undefined || !equalSecrets(keys.redeemerTag, tag)) return false;
    const ciphertext = sealTicket(keys, id, this.#options.ticket());
    this.#handedOver = { kind: "ticket", id, tag: keys.offererTag, ciphertext };
    return true;
  }

  #step(event: CodeOfferEvent, act: (action: CodeOfferAction) => void = () => {}): void {
    const nowMs = performance.now();
    const { state, actions } = stepCodeOffer(this.#state, event, nowMs);
    this.#state = state;
    const waitMs = codeOfferWakeAtMs(state) - nowMs;
    if (waitMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.min(Math.max(0, waitMs), MAX_TIMER_MS));
    for (const action of actions) {
      if (action.kind === "report") this.#options.report(action.report);
      else act(action);
    }
  }
}

interface OfferedCodeOptions extends Pick<CodeOfferingOptions, "ticket" | "expiresMs"> {
  publish(connection: SignalingConnection, topic: string, message: CodeMessage): void;
  report(report: CodeOfferReport): void;
}

function newId(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(CODE_ID_BYTES));
}

function randomNumber(): number {
  // 2^32 values in 10,000 classes: no number is more likely than another by more than a millionth.
  return crypto.getRandomValues(new Uint32Array(1))[0]! % MEETING_PLACES;
}

function reasonOf(error: unknown): string {
  return error instanceof AggregateError
    ? error.errors.map(messageOf).join("; ")
    : messageOf(error);
}

/** How long to wait for the slower signaling servers. Chosen by us: a TLS handshake with a distant broker. */
const OPEN_MS = 2000;

/** How long one with the same number may take to answer. Chosen by us: two round trips by a distant broker. */
const PROBE_MS = 600;

/** Chosen by us: many times the round trip of a LAN, and of its Wi-Fi. */
const LAN_PROBE_MS = 150;

/** How many numbers are tried. Chosen by us: if so many are taken, somebody answers for all of them. */
const MAX_DRAWS = 5;

/**
 * How often a code is replaced. Chosen by us: each of them lets an attacker make as many guesses as the one before, so all
 * of them together leave odds of 2^-25.
 */
const MAX_REPLACEMENTS = 6;
