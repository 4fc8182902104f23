/**
 * The line between two peers who are not connected yet: a sealed conversation, over whatever carries it, with several
 * channels side by side.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import type { SignalChannel } from "../signal/channel.ts";
import type {
  InitiatorHandshake,
  ResponderHandshake,
  TransportCipher,
} from "./signaling_handshake.ts";
import {
  type ConnectionRequest,
  type Content,
  decodeRejection,
  encodeConnectionRequest,
  encodeRejection,
  type Envelope,
  type Rejection,
} from "./signaling_message.ts";

/** Sends a message to the other side, by all ways that there are; what does not arrive is lost. */
export type Carry = (message: Uint8Array, to: "ask" | "reply") => void;

/** The side of a line that both sides have. */
export abstract class SignalingSession implements Disposable {
  readonly #carry: Carry;
  readonly #channels = new Map<number, WaitQueue<Uint8Array>>();
  readonly #ready = Promise.withResolvers<TransportCipher>();
  #cipher: TransportCipher | undefined;
  #failure: unknown;

  /** A round trip to the other side and back, or an upper bound, if that is known. */
  rttMs: number | undefined;

  /** Whether people carry what is said: one thing each way, and nothing after that. */
  isManual = false;

  constructor(carry: Carry) {
    this.#carry = carry;
    this.#ready.promise.catch(() => {}); // whoever waits for it is told
  }

  /** Whether the other side has been heard. */
  get isOpen(): boolean {
    return this.#cipher !== undefined;
  }

  /** Resolves once both sides have the keys; rejects with what ends the line before. */
  get ready(): Promise<TransportCipher> {
    return this.#ready.promise;
  }

  /** One of the channels, by a number that both sides know. */
  channel(id: number): SignalChannel {
    const rttMs = () => this.rttMs;
    return {
      get rttMs() {
        return rttMs();
      },
      isManual: this.isManual,
      // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
      send: async (body) => {
        if (this.#failure !== undefined) throw this.#failure;
        this.send({ channel: id, body });
      },
      receive: ({ signal } = {}) => this.#queue(id).next(signal),
    };
  }

  /** Ends it: all channels reject, with this. */
  fail(reason: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    for (const queue of this.#channels.values()) queue.close(reason);
    this.#ready.reject(reason);
  }

  [Symbol.dispose](): void {
    this.fail(new NetworkError("Cannot use the line to the peer: it is closed", "closed"));
  }

  /** Takes what has arrived for this conversation; what is not authentic, or came before, is ignored. */
  accept(envelope: Envelope): void {
    if (this.#failure !== undefined) return;
    try {
      this.take(envelope);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }

  protected abstract send(content: Content): void;

  /** @throws {MalformedMessageError} if it is not what it should be */
  protected abstract take(envelope: Envelope): void;

  protected get cipher(): TransportCipher | undefined {
    return this.#cipher;
  }

  protected open(cipher: TransportCipher): void {
    this.#cipher = cipher;
    this.#ready.resolve(cipher);
  }

  protected carry(message: Uint8Array, to: "ask" | "reply"): void {
    this.#carry(message, to);
  }

  protected carrySealed(cipher: TransportCipher, content: Content, to: "ask" | "reply"): void {
    if (!this.isManual) this.#carry(cipher.encrypt(content), to);
  }

  protected deliver({ channel, body }: Content): void {
    if (KNOWN_CHANNELS.includes(channel)) this.#queue(channel).push(body);
  }

  #queue(id: number): WaitQueue<Uint8Array> {
    let queue = this.#channels.get(id);
    if (queue === undefined) {
      queue = new WaitQueue(MAX_WAITING);
      if (this.#failure !== undefined) queue.close(this.#failure);
      else this.#channels.set(id, queue);
    }
    return queue;
  }
}

/** The line of who knocks. What it says first goes with the knock, the rest once the answer is there. */
export class InitiatorSession extends SignalingSession {
  readonly #knocker: InitiatorHandshake;
  readonly #header: () => Omit<ConnectionRequest, "body">;
  readonly #waiting = new Map<number, Content>();
  #knock: Uint8Array | undefined;
  #knockedAtMs = 0;

  /** @param header asked when it knocks */
  constructor(
    knocker: InitiatorHandshake,
    header: () => Omit<ConnectionRequest, "body">,
    carry: Carry,
  ) {
    super(carry);
    this.#knocker = knocker;
    this.#header = header;
  }

  /** Names the conversation. */
  get ephemeralKey(): Uint8Array {
    return this.#knocker.ephemeralKey;
  }

  /** The knock, for a way that opens only now. */
  get knock(): Uint8Array | undefined {
    return this.#knock;
  }

  protected override send(content: Content): void {
    if (this.cipher !== undefined) return this.carrySealed(this.cipher, content, "ask");
    if (this.#knock === undefined) {
      const body = encodeConnectionRequest({ ...this.#header(), body: content.body });
      this.#knock = this.#knocker.knock({ ...content, body });
      this.#knockedAtMs = performance.now();
    } else {
      this.#waiting.set(content.channel, content); // the newest says it all
    }
    // Encrypting another content with the same key is out of the question: the knock is repeated as it was.
    this.carry(this.#knock, "ask");
  }

  protected override take(envelope: Envelope): void {
    if (envelope.kind === "answer" && this.cipher === undefined) {
      if (!this.#knocker.isAnswer(envelope)) return;
      const { content, cipher } = this.#readAnswer(envelope);
      this.rttMs = performance.now() - this.#knockedAtMs;
      this.open(cipher);
      for (const waiting of this.#waiting.values()) this.send(waiting);
      this.#waiting.clear();
      this.deliver(content);
    } else if (envelope.kind === "sealed" && this.cipher !== undefined) {
      this.deliver(this.cipher.open(envelope));
    }
  }

  /** Who has the ticket can spoil it, as the handshake ends with a failure; nobody else can. */
  #readAnswer(envelope: Envelope & { kind: "answer" | "knock" }) {
    try {
      return this.#knocker.readAnswer(envelope);
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#knocker[Symbol.dispose]();
  }
}

/** The line of who is knocked at. What it says first is the answer, which it repeats until that has arrived. */
export class ResponderSession extends SignalingSession {
  readonly #answerer: ResponderHandshake;
  #answer: Uint8Array | undefined;
  #answeredAtMs = -Infinity;
  #isConfirmed = false;

  /** @param body the first message on the channel that the knock names */
  constructor(answerer: ResponderHandshake, body: Uint8Array, carry: Carry) {
    super(carry);
    this.#answerer = answerer;
    this.deliver({ channel: answerer.content.channel, body });
  }

  /** The knock has come again: the answer may have been lost. */
  repeatAnswer(): void {
    if (this.#answer === undefined || this.#isConfirmed) return;
    if (performance.now() - this.#answeredAtMs < MIN_GAP_MS) return;
    this.#carryAnswer(this.#answer);
  }

  protected override send(content: Content): void {
    if (this.cipher === undefined) {
      const { message, cipher } = this.#answerer.answer(content);
      this.#answer = message;
      this.open(cipher);
      return this.#carryAnswer(message);
    }
    if (!this.#isConfirmed) this.repeatAnswer();
    this.carrySealed(this.cipher, content, "reply");
  }

  protected override take(envelope: Envelope): void {
    if (envelope.kind !== "sealed" || this.cipher === undefined) return;
    const content = this.cipher.open(envelope);
    this.#isConfirmed = true;
    this.deliver(content);
  }

  #carryAnswer(answer: Uint8Array): void {
    this.#answeredAtMs = performance.now();
    this.carry(answer, "reply");
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#answerer[Symbol.dispose]();
  }
}

/** What the channels of a line are for. */
export const CHANNELS = { punch: 0, relay: 1, control: 255 } as const;

/** Messages of a channel that nobody has received; more are lost. */
const MAX_WAITING = 64;

/** What comes on any other is dropped. */
const KNOWN_CHANNELS: readonly number[] = Object.values(CHANNELS);

/** From one answer to the next. Ours, well below the first repetition of a knock. */
const MIN_GAP_MS = 100;

/** Says so. */
export async function sendRejection(line: SignalingSession, why: Rejection["why"]): Promise<void> {
  await line.channel(CHANNELS.control).send(encodeRejection({ why, timeMs: Date.now() }));
}

/**
 * Waits until the other side says so.
 *
 * @throws what the line ends with, or the signal's reason on abort
 */
export async function receiveRejection(
  line: SignalingSession,
  signal: AbortSignal,
): Promise<Rejection> {
  const control = line.channel(CHANNELS.control);
  for (;;) {
    const body = await control.receive({ signal });
    if (body.length === 0) continue; // only there to carry a knock or an answer
    try {
      return decodeRejection(body);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }
}
