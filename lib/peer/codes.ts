/**
 * Codes of a peer: offers its tickets for codes, and redeems those of others, over the peer's signaling servers. Loaded
 * only where a code is used.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { parseCode } from "../code/code.ts";
import { type CodeEvent, CodeOffering } from "../code/offer.ts";
import { redeemCode } from "../code/redeem.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import type { CodeOptions } from "./options.ts";
import type { SignalingPool } from "./pools.ts";
import { decodeTicket } from "./ticket.ts";
import { abortable } from "@std/async/abortable";

/** Where the codes of a peer meet. */
export interface CodePlaces {
  readonly pool: SignalingPool;
  readonly urls: readonly string[];
  readonly logger?: Logger;
}

/** A code that a peer offers, until it is disposed of. */
export class CodeOffer implements AsyncDisposable {
  readonly #offering: CodeOffering;
  readonly #leases: Leases;
  readonly #first = optionalResolvers<void>();
  readonly #onClosed: (offer: CodeOffer) => void;

  /** @ignore see {@linkcode Peer.offerCode} */
  constructor(
    places: CodePlaces,
    options: Pick<CodeOptions, "expiresMs" | "onEvent"> & { readonly ticket: () => string },
    onClosed: (offer: CodeOffer) => void,
  ) {
    const { ticket, expiresMs = CODE_EXPIRES_MS, onEvent } = options;
    this.#onClosed = onClosed;
    this.#leases = new Leases(places);
    this.#offering = new CodeOffering({
      ways: this.#leases.ways,
      ticket,
      expiresMs,
      onEvent: (event) => {
        onEvent?.(event);
        if (event.kind === "offered") this.#first.resolve();
        else if (event.kind === "unavailable") this.#first.reject(unavailable(event));
      },
      logger: places.logger,
    });
  }

  /** The code at the moment, such as `7-amber-walrus-otter`; `undefined` once it is spent or has expired. */
  get code(): string | undefined {
    return this.#offering.code;
  }

  /**
   * @ignore waits until there is a code; withdraws the offer if that fails
   *
   * @throws {NetworkError} if no code can be offered
   * @throws the signal's reason on abort
   */
  async ready(signal: AbortSignal | undefined): Promise<this> {
    try {
      const first = this.#first.promise;
      await (signal === undefined ? first : abortable(first, signal));
      return this;
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Withdraws the code. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#first.reject(new NetworkError("Cannot offer a code: it was withdrawn", "closed"));
    await this.#offering[Symbol.asyncDispose]();
    await this.#leases[Symbol.asyncDispose]();
    this.#onClosed(this);
  }
}

/**
 * Gets the ticket that is offered for a code.
 *
 * @throws {MalformedMessageError} if the text is not a code, or what it leads to is not a ticket
 * @throws as {@linkcode redeemCode}
 */
export async function redeemTicket(
  places: CodePlaces,
  text: string,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<string> {
  const ticket = await redeemText(places, text, options);
  decodeTicket(ticket);
  return ticket;
}

/** As {@linkcode redeemTicket}, for whatever text is offered: it is not checked. */
export async function redeemText(
  places: CodePlaces,
  text: string,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<string> {
  const code = parseCode(text);
  await using leases = new Leases(places);
  return await redeemCode(code, { ...options, ways: leases.ways, logger: places.logger });
}

/** A lease of each signaling connection. */
class Leases implements AsyncDisposable {
  readonly ways: readonly Promise<SignalingConnection>[];
  readonly #leases: readonly AsyncDisposable[];

  constructor({ pool, urls }: CodePlaces) {
    const leases = urls.map((url) => pool.lease(url));
    this.#leases = leases;
    this.ways = leases.map(async ({ signaling }) => {
      const connection = await signaling;
      if (!connection.isManual) return connection;
      throw new TypeError("Cannot use codes where people carry the messages: use the ticket");
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#leases.map((lease) => lease[Symbol.asyncDispose]()));
  }
}

function unavailable({ reason }: Extract<CodeEvent, { kind: "unavailable" }>): NetworkError {
  return new NetworkError(`Cannot offer a code: ${reason}`, "other", {
    remedy: "Use the ticket, or try again later",
  });
}

/** Chosen by us: time to walk to another machine, or to reach somebody by telephone. */
const CODE_EXPIRES_MS = 3_600_000;
