/**
 * Gets the ticket for a code, over all ways to signal at once.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import {
  messageOf,
  NetworkError,
  NoResponseError,
  RefusedError,
  undefinedIfMalformed,
} from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import { answerTopic, meetingTopic, type SignalingConnection } from "../signal/transport.ts";
import type { Code } from "./code.ts";
import { type CodeKeys, codeKeys, openTicket, redeemerShare } from "./exchange.ts";
import {
  CODE_ID_BYTES,
  type CodeMessage,
  decodeCodeMessage,
  encodeCodeMessage,
} from "./message.ts";
import { isPakeShare, type PakeShare } from "./pake.ts";
import {
  type CodeRedeemAction,
  type CodeRedeemEvent,
  type CodeRedeemFailure,
  type CodeRedeemState,
  codeRedeemWakeAtMs,
  startCodeRedeem,
  stepCodeRedeem,
} from "./redeem_engine.ts";
import { abortable } from "@std/async/abortable";

/** How to redeem a code. */
export interface RedeemOptions {
  /** The ways to signal. Some may fail to open, or open late. */
  readonly ways: readonly Promise<SignalingConnection>[];
  /** How long to wait for the other side, in milliseconds. */
  readonly timeoutMs: number;
  /** Receives non-fatal diagnostics. */
  readonly logger?: Logger;
  /** Aborts it. */
  readonly signal?: AbortSignal;
}

/**
 * Gets the ticket for a code.
 *
 * @throws {NoResponseError} if no peer offers a ticket for this number, or the peer that does falls silent
 * @throws {RefusedError} if the words are wrong, or the code was used before or has ended; `code` is one of
 * {@linkcode CODE_REFUSALS}
 * @throws {NetworkError} `unreachable` if no signaling server can be reached, or none was in time
 * @throws the signal's reason on abort
 */
export async function redeemCode(code: Code, options: RedeemOptions): Promise<string> {
  await using redeeming = new Redeeming(code, options);
  const { signal } = options;
  return await (signal === undefined ? redeeming.ticket : abortable(redeeming.ticket, signal));
}

/**
 * Why a code was refused: the words are wrong, somebody else has used it, its time is over, or wrong guesses have ended it.
 * No rejection of a connection has these.
 */
export const CODE_REFUSALS: Readonly<
  Record<"wrong" | "spent" | "expired" | "out-of-guesses", number>
> = { wrong: 11, spent: 12, expired: 13, "out-of-guesses": 14 };

class Redeeming implements AsyncDisposable {
  readonly #code: Code;
  readonly #options: RedeemOptions;
  readonly #id = crypto.getRandomValues(new Uint8Array(CODE_ID_BYTES));
  readonly #own: PakeShare;
  readonly #result = optionalResolvers<string>();
  readonly #tasks = new TaskGroup((error) => this.#options.logger?.debug(`code: ${error}`));
  readonly #ways = new Set<SignalingConnection>();
  readonly #subscriptions = new AsyncDisposableStack();
  readonly #timer = new ResettableTimer(() => this.#step({ kind: "time" }));
  #state: CodeRedeemState;
  #keys: CodeKeys | undefined;
  /** What is sent at the moment. */
  #message: CodeMessage;

  constructor(code: Code, options: RedeemOptions) {
    this.#code = code;
    this.#options = options;
    this.#own = redeemerShare(code, this.#id);
    this.#message = { kind: "hello", id: this.#id, share: this.#own.share };
    this.#state = startCodeRedeem(options.timeoutMs, performance.now());
    this.#tasks.run(() => this.#start());
    this.#step({ kind: "time" });
  }

  get ticket(): Promise<string> {
    return this.#result.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer.clear();
    await this.#tasks.stop();
    await this.#subscriptions[Symbol.asyncDispose]();
  }

  async #start(): Promise<void> {
    const joining = this.#options.ways.map((way) => this.#join(way));
    try {
      await Promise.any(joining);
    } catch (error) {
      const causes = error instanceof AggregateError ? error.errors : [error];
      const why = causes.map(messageOf).join("; ");
      this.#result.reject(
        causes.find((cause) => cause instanceof TypeError) ??
          new NetworkError(`Cannot look for the other side: ${why}`, "unreachable", {
            cause: causes[0],
          }),
      );
    }
    await Promise.allSettled(joining);
  }

  async #join(way: Promise<SignalingConnection>): Promise<void> {
    const { signal } = this.#tasks;
    const connection = await abortable(way, signal);
    const onMessage = (bytes: Uint8Array) => this.#onMessage(bytes);
    const subscription = await connection.subscribe(answerTopic(this.#id), onMessage, { signal });
    this.#subscriptions.use(subscription);
    this.#ways.add(connection);
    this.#publish(connection);
  }

  #onMessage(bytes: Uint8Array): void {
    const message = undefinedIfMalformed(() => decodeCodeMessage(bytes));
    if (message === undefined || !equalBytes(message.id, this.#id)) return;
    switch (message.kind) {
      case "share": {
        const isOwn = equalBytes(message.share, this.#own.share);
        if (isOwn || !isPakeShare(message.share)) return;
        return this.#step({ kind: "share" }, (action) => {
          if (action.kind === "take-share") this.#takeShare(message.share);
        });
      }
      case "ticket": {
        const ticket = this.#keys && openTicket(this.#keys, message);
        if (ticket === undefined) return;
        return this.#step({ kind: "ticket" }, (action) => {
          if (action.kind === "succeed") this.#result.resolve(ticket);
        });
      }
      case "refusal":
        return this.#step({ kind: "refusal", reason: message.reason });
    }
  }

  #takeShare(remote: Uint8Array): void {
    const keys = this.#keys = codeKeys(this.#id, { ...this.#own, role: "redeemer" }, remote);
    if (keys === undefined) return;
    const { share } = this.#own;
    const tag = keys.redeemerTag;
    this.#message = { kind: "confirm", id: this.#id, share, offererShare: remote, tag };
  }

  #step(event: CodeRedeemEvent, act: (action: CodeRedeemAction) => void = () => {}): void {
    const nowMs = performance.now();
    const { state, actions } = stepCodeRedeem(this.#state, event, nowMs);
    this.#state = state;
    for (const action of actions) {
      if (action.kind === "fail") this.#result.reject(this.#failure(action.reason));
      else if (action.kind === "send-hello" || action.kind === "send-confirm") {
        for (const each of this.#ways) this.#publish(each);
      } else act(action);
    }
    const waitMs = codeRedeemWakeAtMs(state) - nowMs;
    if (waitMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.max(0, waitMs));
  }

  #publish(connection: SignalingConnection): void {
    const bytes = encodeCodeMessage(this.#message);
    this.#tasks.run(() => connection.publish(meetingTopic(this.#code.number), bytes));
  }

  #failure(reason: CodeRedeemFailure): Error {
    const { number } = this.#code;
    switch (reason) {
      case "wrong":
        return new RefusedError(
          `Cannot use code ${number}-…: the words are wrong`,
          CODE_REFUSALS.wrong,
          { remedy: "Compare the words with those that the other side shows, and try again" },
        );
      case "spent":
        return new RefusedError(
          `Cannot use code ${number}-…: it was used before`,
          CODE_REFUSALS.spent,
          { remedy: "Ask the other side for a new code" },
        );
      case "expired":
        return new RefusedError(
          `Cannot use code ${number}-…: it has expired`,
          CODE_REFUSALS.expired,
          { remedy: "Ask the other side for a new code" },
        );
      case "out-of-guesses":
        return new RefusedError(
          `Cannot use code ${number}-…: wrong guesses have ended it`,
          CODE_REFUSALS["out-of-guesses"],
          { remedy: "Ask the other side for a new code" },
        );
      case "absent":
        if (this.#ways.size === 0) {
          return new NetworkError(
            "Cannot look for the other side: no signaling server could be reached in time",
            "unreachable",
            { remedy: "Check this machine's connection to the network" },
          );
        }
        return new NoResponseError(
          `Cannot use code ${number}-…: no one answers: the code may have expired, or its sender stopped`,
          { remedy: "Check the number, or ask the other side for a new code" },
        );
      case "interrupted":
        return new NoResponseError(
          `Cannot use code ${number}-…: the other side stopped answering`,
          { remedy: "Compare the words, or ask the other side for a new code" },
        );
    }
  }
}
