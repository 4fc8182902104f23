/**
 * The side that a ticket leads to: listens for knocks, and shows those that deserve it.
 *
 * @module
 */

import { equalBytes, toHex } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { generateKeyPair } from "../noise/key_pair.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import { PeerConnection } from "./connection.ts";
import type { PeerContext } from "./context.ts";
import { IncomingConnection, IncomingRequest } from "./incoming.ts";
import { resumptionId, type TicketSecrets } from "./keys.ts";
import { firstPath, overSignal, supplyPaths } from "./path_search.ts";
import { ReplayGuard } from "./replay_guard.ts";
import {
  ephemeralKeyOf,
  type HandshakeEnvelope,
  isKnockOf,
  ResponderHandshake,
} from "./signaling_handshake.ts";
import {
  type ConnectionRequest,
  CONVERSATION_LENGTH,
  decodeConnectionRequest,
  decodeEnvelope,
} from "./signaling_message.ts";
import { receiveRejection } from "./signaling_session.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

/** Lets one search run at a time, however often the other side asks for another. */
export class NewestSearch {
  /** Aborted when a newer one takes the place of the last. */
  #newer = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  #startedAtMs = -Infinity;

  /**
   * Ends the search before, and begins this one once nothing goes on of that. Resolves early, without a throw, when a
   * newer one takes its place.
   *
   * @throws what the search throws, or the signal's reason
   */
  async run(search: (signal: AbortSignal) => Promise<unknown>, signal: AbortSignal): Promise<void> {
    this.#newer.abort(new DOMException("The other side has begun anew", "AbortError"));
    const newer = this.#newer = new AbortController();
    const running = this.#start(search, AbortSignal.any([signal, newer.signal]));
    this.#ended = running.catch(() => {});
    try {
      await running;
    } catch (error) {
      if (signal.aborted || !newer.signal.aborted) throw error;
    }
  }

  async #start(
    search: (signal: AbortSignal) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#ended;
    const waitMs = this.#startedAtMs + MIN_GAP_MS - performance.now();
    if (waitMs > 0) await delay(waitMs, { signal });
    signal.throwIfAborted();
    this.#startedAtMs = performance.now();
    await search(signal);
  }
}

/**
 * From one search to the next. Ours: who has lost a path seldom loses the next within that time, and each search asks
 * STUN servers, which are other people's.
 */
const MIN_GAP_MS = 500;

/** Whom to let in, and how to treat them. */
export interface ListenerOptions {
  readonly secrets: TicketSecrets;
  /** Who may ask at all. */
  readonly allows: (remoteKey: Uint8Array) => boolean | Promise<boolean>;
  /** What is spoken; anything if that is left out. */
  readonly protocol?: string;
  /** Whether a connection without a path waits for the other side to come back. */
  readonly reconnects: boolean;
}

/** Hears what buses bring, until it is closed. */
export class Listener {
  /** Those who want to connect, in their order. */
  readonly incoming = new WaitQueue<IncomingConnection>(MAX_INCOMING);
  readonly #context: PeerContext;
  readonly #options: ListenerOptions;
  readonly #guard = new ReplayGuard();
  readonly #conversations = new Map<string, IncomingRequest>();
  /** Connections that may be gone on with, by what names them. */
  readonly #resumable = new Map<string, PeerConnection>();
  /** One at a time for each connection, however often the other side knocks. */
  readonly #searches = new WeakMap<PeerConnection, NewestSearch>();

  constructor(context: PeerContext, options: ListenerOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Takes what has come over a bus. */
  onMessage(message: Uint8Array, signaling: SignalingConnection): void {
    if (this.#context.closed.aborted) return;
    try {
      const envelope = decodeEnvelope(message);
      if (envelope.kind === "knock") this.#onKnock(envelope as HandshakeEnvelope, signaling);
      else if (envelope.kind === "sealed") {
        this.#conversations.get(toHex(envelope.conversation))?.accept(envelope, signaling);
      }
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error; // whoever sent it
    }
  }

  /** Nobody is shown any more. */
  close(reason: unknown): void {
    this.incoming.close(reason);
    for (const conversation of this.#conversations.values()) conversation[Symbol.dispose]();
  }

  /** What costs least comes first: strangers end at the MAC, repetitions before the decryption. */
  #onKnock(envelope: HandshakeEnvelope, signaling: SignalingConnection): void {
    const { secrets } = this.#options;
    if (!isKnockOf(envelope, secrets)) return;
    const ephemeralKey = ephemeralKeyOf(envelope);
    const name = toHex(ephemeralKey.subarray(0, CONVERSATION_LENGTH));
    const nowMs = Date.now();
    if (this.#guard.isRepeated(ephemeralKey, nowMs)) {
      return this.#conversations.get(name)?.repeated(signaling);
    }
    if (this.#conversations.size >= MAX_CONVERSATIONS) return;
    const { staticKey, logger } = this.#context;
    const answerer = new ResponderHandshake(envelope, {
      ...{ secrets, staticKey },
      ephemeralKey: generateKeyPair(),
    });
    const knock = tryDecodeConnectionRequest(answerer);
    if (knock === undefined) return;
    const { remoteKey } = answerer;
    const { sentAtMs } = knock;
    const verdict = this.#guard.judge({ ephemeralKey, remoteKey, sentAtMs }, nowMs);
    if (verdict === "too-many") {
      logger?.debug("connect: too many want to connect at once, or the same one too often");
      return answerer[Symbol.dispose]();
    }
    const replyTopic = secrets.replyTopic(ephemeralKey);
    const conversation = new IncomingRequest(answerer, knock, {
      ...{ replyTopic, signaling },
      ...logger && { logger },
    });
    this.#conversations.set(name, conversation);
    const job = this.#converse(conversation, verdict).finally(() => {
      conversation[Symbol.dispose]();
      this.#conversations.delete(name);
    });
    this.#context.inBackground(job);
  }

  /** From a knock to the end of what comes of it. */
  async #converse(conversation: IncomingRequest, verdict: "fresh" | "wrong-clock"): Promise<void> {
    const { remoteKey, knock } = conversation;
    const { allows, protocol } = this.#options;
    if (verdict === "wrong-clock") return await this.#reject(conversation, "clock");
    const asked = (async () => await allows(remoteKey))();
    const isAllowed = await this.#inTime(conversation, asked);
    if (isAllowed === undefined) return;
    if (!isAllowed) return await this.#reject(conversation, "refused");
    if (protocol !== undefined && knock.protocol !== protocol) {
      return await this.#reject(conversation, "protocol");
    }
    if (knock.resumes === null) return await this.#show(conversation);
    const connection = this.#resumable.get(knock.resumes);
    const isTheirs = connection !== undefined && equalBytes(connection.remoteKey, remoteKey);
    if (!isTheirs) return await this.#reject(conversation, "unknown");
    const signal = overSignal(this.#context, connection);
    await this.#search(conversation, connection, signal).catch((error) => {
      this.#context.logger?.debug(`connect: ${error}`); // the other side will try again
    });
  }

  /** Says no, and again to those who have not heard it. */
  async #reject(conversation: IncomingRequest, why: Parameters<IncomingRequest["reject"]>[0]) {
    await conversation.reject(why);
    await this.#pause(DECLINED_MS);
  }

  /** Lets the application decide. */
  async #show(conversation: IncomingRequest): Promise<void> {
    const { remoteKey, knock } = conversation;
    const decided = Promise.withResolvers<() => Promise<void>>();
    let isTooLate = false;
    const incoming = new IncomingConnection(remoteKey, knock.protocol, {
      accept: async (signal) => {
        if (isTooLate) throw tooLateError();
        const connection = this.#newConnection(conversation);
        const { connectMs } = this.#context.timings;
        const graceMs = this.#mayComeBack(conversation) ? connectMs : 0;
        let searching = Promise.resolve();
        const search = (signal: AbortSignal) => {
          searching = this.#search(conversation, connection, signal);
          decided.resolve(() => searching.catch(() => withdraw())); // whoever accepts is told
          return searching;
        };
        const withdraw = async () => {
          if (signal?.aborted !== true || connection.hasPath || conversation.line.isManual) return;
          await this.#reject(conversation, "withdrawn");
        };
        await firstPath(this.#context, connection, search, { signal, graceMs });
        return connection;
      },
      refuse: (why) => decided.resolve(() => this.#reject(conversation, why)),
      ignore: () => decided.resolve(() => this.#pause(DECLINED_MS)),
    });
    if (!this.incoming.push(incoming)) return;
    const next = await this.#inTime(conversation, decided.promise);
    isTooLate = next === undefined;
    await next?.();
  }

  /** By hand nobody can knock just because a path is lost. */
  #mayComeBack({ line }: IncomingRequest): boolean {
    return this.#options.reconnects && !line.isManual;
  }

  #newConnection(conversation: IncomingRequest): PeerConnection {
    const { remoteKey, knock, line } = conversation;
    const reconnects = this.#mayComeBack(conversation);
    const connection = new PeerConnection({
      role: "controlled",
      remoteKey,
      protocol: knock.protocol,
      timeoutMs: reconnects ? this.#context.timings.reconnectMs : 0,
      closed: this.#context.closed,
      onLost: () => this.#context.buses.check(), // the other side will knock
    });
    if (reconnects) {
      line.ready.then(({ connectionKey }) => this.#remember(connection, connectionKey), () => {});
    }
    return connection;
  }

  /** For when the other side comes back. */
  #remember(connection: PeerConnection, connectionKey: Uint8Array): void {
    const id = resumptionId(connectionKey);
    this.#resumable.set(id, connection);
    connection.finished.catch(() => {}).then(() => this.#resumable.delete(id));
  }

  async #search(
    { line, knock: { wants } }: IncomingRequest,
    connection: PeerConnection,
    signal: AbortSignal,
  ): Promise<void> {
    const search = this.#searches.get(connection) ?? new NewestSearch();
    this.#searches.set(connection, search);
    const withdrawn = new AbortController();
    receiveRejection(line, signal)
      .then(() => delay(LAST_WORD_MS, { signal }))
      .then(() => withdrawn.abort(withdrawnError()), () => {});
    const wanted = AbortSignal.any([signal, withdrawn.signal]);
    const supply = (signal: AbortSignal) =>
      supplyPaths(this.#context, line, connection, { role: "controlled", wants, signal });
    await search.run(supply, wanted);
  }

  /**
   * What is decided while the other side waits, `undefined` after that: who knocks does not wait for ever, and what they
   * have said of their addresses does not stay true.
   */
  async #inTime<T>({ line }: IncomingRequest, decision: Promise<T>): Promise<T | undefined> {
    const { closed, timings } = this.#context;
    using deadline = new Deadline(line.isManual ? timings.manualMs : timings.answerMs, closed);
    try {
      return await abortable(decision, deadline.signal);
    } catch (error) {
      if (error !== deadline.signal.reason) throw error;
      return undefined;
    }
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, { signal: this.#context.closed }).catch(() => {});
  }
}

function tryDecodeConnectionRequest(answerer: ResponderHandshake): ConnectionRequest | undefined {
  try {
    return decodeConnectionRequest(answerer.content.body);
  } catch (error) {
    answerer[Symbol.dispose]();
    if (error instanceof MalformedMessageError) return undefined; // whoever it is, they have the ticket
    throw error;
  }
}

function withdrawnError(): NetworkError {
  return new NetworkError("Cannot connect: the other side has given up", "reset");
}

function tooLateError(): NetworkError {
  return new NetworkError("Cannot accept: the other side does not wait any more", "timed-out");
}

/** Ours: who wants to connect waits half a minute, so these are what a person can decide upon. */
const MAX_INCOMING = 1024;

/** Ours: each holds a handshake and, once it is accepted, the ports of a punch. */
const MAX_CONVERSATIONS = 2048;

/** Who hears that the other side has given up may be about to find out why. Ours. */
const LAST_WORD_MS = 500;

/** How long a refusal is repeated to those who have not heard it. Ours: some repetitions of their knock. */
const DECLINED_MS = 5000;
