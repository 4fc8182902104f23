/**
 * The encrypted session in which two peers exchange messages before they are connected, over any number of signaling
 * servers at once, with several channels side by side.
 *
 * @module
 */

import { afterSending, mayAnswer, startRepetition } from "../base/backoff.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { optionalResolvers } from "../base/tasks.ts";
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
  decodeEnvelope,
  decodeRejection,
  encodeCompactRequest,
  encodeConnectionRequest,
  encodeRejection,
  type Envelope,
  type FoundNothing,
  type HandshakeEnvelope,
  type Rejection,
} from "./signaling_message.ts";

/** Sends a message to the other side over every signaling connection there is. It may get lost. */
export type Publish = (message: Uint8Array) => void;

/** What both sides of a session have in common. */
export abstract class SignalingSession implements Disposable {
  readonly #publish: Publish;
  readonly #channels = new Map<number, WaitQueue<Uint8Array>>();
  readonly #relayMessage = optionalResolvers<void>();
  readonly #near = optionalResolvers<void>();
  readonly #ready = optionalResolvers<TransportCipher>();
  #cipher: TransportCipher | undefined;
  #failure: unknown;

  /** A round trip between the peers, or an upper bound; `undefined` while unknown. */
  rttMs: number | undefined;

  /** Whether people carry the messages: one each way, and no more after that. */
  isManual = false;

  constructor(publish: Publish) {
    this.#publish = publish;
  }

  /** Whether both sides have the keys, as far as this side knows. */
  get isOpen(): boolean {
    return this.#cipher !== undefined;
  }

  /** Resolves once the session is open; rejects if it ends before. */
  get ready(): Promise<TransportCipher> {
    return this.#ready.promise;
  }

  /** Resolves once the other side has sent anything about relays. */
  get relayMessage(): Promise<void> {
    return this.#relayMessage.promise;
  }

  /** Resolves once the other side was heard by the local network. */
  get near(): Promise<void> {
    return this.#near.promise;
  }

  /** Notes by which signaling server the other side was heard. */
  heardBy(url: string): void {
    if (url.startsWith("lan:")) this.#near.resolve();
  }

  /** One of the channels, by a number that both sides know: see {@linkcode CHANNELS}. */
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

  /** Takes a message from a signaling connection. One that is malformed, not authentic or a replay is ignored. */
  receive(message: Uint8Array | Envelope): void {
    if (this.#failure !== undefined) return;
    try {
      this.take(message instanceof Uint8Array ? decodeEnvelope(message) : message);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }

  /** Ends the session: all channels reject with the reason. */
  fail(reason: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    for (const queue of this.#channels.values()) queue.close(reason);
    this.#ready.reject(reason);
  }

  [Symbol.dispose](): void {
    this.fail(new NetworkError("Cannot use the signaling session: it is closed", "closed"));
  }

  protected abstract send(content: Content): void;

  /** @throws {MalformedMessageError} if the message is malformed, not authentic or a replay */
  protected abstract take(envelope: Envelope): void;

  protected get cipher(): TransportCipher | undefined {
    return this.#cipher;
  }

  protected open(cipher: TransportCipher): void {
    this.#cipher = cipher;
    this.#ready.resolve(cipher);
  }

  protected publish(message: Uint8Array): void {
    this.#publish(message);
  }

  protected publishEncrypted(cipher: TransportCipher, content: Content): void {
    if (!this.isManual) this.#publish(cipher.encrypt(content));
  }

  /** Messages on unknown channels are dropped. */
  protected deliver({ channel, body }: Content): void {
    if (channel === CHANNELS.relay) this.#relayMessage.resolve();
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

/** The initiator's side. Its first message travels in the request, the others once the answer has arrived. */
export class InitiatorSession extends SignalingSession {
  readonly #handshake: InitiatorHandshake;
  readonly #header: () => Omit<ConnectionRequest, "body">;
  /** The newest message of each channel: it replaces those before it. */
  readonly #waiting = new Map<number, Content>();
  #request: Uint8Array | undefined;
  #requestedAtMs = 0;

  /** @param header called when the request is written */
  constructor(
    handshake: InitiatorHandshake,
    header: () => Omit<ConnectionRequest, "body">,
    publish: Publish,
  ) {
    super(publish);
    this.#handshake = handshake;
    this.#header = header;
  }

  /** Identifies the session. */
  get ephemeralKey(): Uint8Array {
    return this.#handshake.ephemeralKey;
  }

  /** The request, once it is written: for a signaling connection that opens later. */
  get request(): Uint8Array | undefined {
    return this.#request;
  }

  protected override send(content: Content): void {
    if (this.cipher !== undefined) return this.publishEncrypted(this.cipher, content);
    if (this.#request === undefined) {
      const request = { ...this.#header(), body: content.body };
      const body = this.isManual ? encodeCompactRequest(request) : encodeConnectionRequest(request);
      const isPadded = !this.isManual; // people would have to copy the padding
      this.#request = this.#handshake.writeRequest({ ...content, body }, { isPadded });
      this.#requestedAtMs = performance.now();
    } else {
      this.#waiting.set(content.channel, content);
    }
    // The same bytes again: other contents must not be encrypted with the same key.
    this.publish(this.#request);
  }

  protected override take(envelope: Envelope): void {
    if (envelope.kind === "answer" && this.cipher === undefined) {
      if (!this.#handshake.isAnswer(envelope)) return;
      const { content, cipher } = this.#readAnswer(envelope);
      this.rttMs = performance.now() - this.#requestedAtMs;
      this.open(cipher);
      for (const waiting of this.#waiting.values()) this.send(waiting);
      this.#waiting.clear();
      this.deliver(content);
    } else if (envelope.kind === "transport" && this.cipher !== undefined) {
      this.deliver(this.cipher.decrypt(envelope));
    }
  }

  /** A failed handshake cannot continue, so a holder of the ticket can end the session here; no one else can. */
  #readAnswer(envelope: HandshakeEnvelope): ReturnType<InitiatorHandshake["readAnswer"]> {
    try {
      return this.#handshake.readAnswer(envelope);
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#handshake[Symbol.dispose]();
  }
}

/** The responder's side. Its first message is the answer, which it repeats until the initiator acknowledges it. */
export class ResponderSession extends SignalingSession {
  readonly #handshake: ResponderHandshake;
  #repetition = startRepetition(ANSWER_REPETITION);
  #answer: Uint8Array | undefined;
  #isAcknowledged = false;
  /** A rejection that was sent after the answer. */
  #rejection: Content | undefined;

  /** @param body the message that came with the request, on the channel that the request names */
  constructor(handshake: ResponderHandshake, body: Uint8Array, publish: Publish) {
    super(publish);
    this.#handshake = handshake;
    this.deliver({ channel: handshake.content.channel, body });
  }

  /** The request has arrived again, so the answer may have been lost, and the rejection that followed it. */
  repeatAnswer(): void {
    if (this.#answer === undefined || this.#isAcknowledged) return;
    if (!mayAnswer(this.#repetition, performance.now())) return;
    this.#publishAnswer(this.#answer);
    if (this.#rejection !== undefined) this.publishEncrypted(this.cipher!, this.#rejection);
  }

  protected override send(content: Content): void {
    if (this.cipher === undefined) {
      const isPadded = !this.isManual;
      const { message, cipher } = this.#handshake.writeAnswer(content, { isPadded });
      this.#answer = message;
      this.open(cipher);
      return this.#publishAnswer(message);
    }
    this.repeatAnswer();
    this.publishEncrypted(this.cipher, content);
    if (content.channel === CHANNELS.control && content.body.length > 0) this.#rejection = content;
  }

  protected override take(envelope: Envelope): void {
    if (envelope.kind !== "transport" || this.cipher === undefined) return;
    const content = this.cipher.decrypt(envelope);
    this.#isAcknowledged = true;
    this.deliver(content);
  }

  #publishAnswer(answer: Uint8Array): void {
    this.#repetition = afterSending(this.#repetition, performance.now());
    this.publish(answer);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#handshake[Symbol.dispose]();
  }
}

/** Sends a message without contents: the request or the answer, if neither has been sent. */
export async function sendEmpty(session: SignalingSession): Promise<void> {
  await session.channel(CHANNELS.control).send(new Uint8Array(0));
}

/** Rejects the connection. */
export async function sendRejection(
  session: SignalingSession,
  reason: Rejection["reason"],
  foundNothing?: FoundNothing,
): Promise<void> {
  const control = session.channel(CHANNELS.control);
  await control.send(encodeRejection({ reason, timeMs: Date.now(), foundNothing }));
}

/**
 * Waits until the other side rejects the connection.
 *
 * @throws the reason for which the session ended, or the signal's reason on abort
 */
export async function receiveRejection(
  session: SignalingSession,
  signal?: AbortSignal,
): Promise<Rejection> {
  const control = session.channel(CHANNELS.control);
  for (;;) {
    const body = await control.receive({ signal });
    if (body.length === 0) continue; // see sendEmpty()
    try {
      return decodeRejection(body);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }
}

/** What each channel of a session is for. */
export const CHANNELS = { punch: 0, relay: 1, control: 255 } as const;

const KNOWN_CHANNELS: readonly number[] = Object.values(CHANNELS);

/** Unread messages of a channel; more are dropped. */
const MAX_WAITING = 64;

/** The answer is repeated when the request is. The gap is chosen by us, well below the time between two requests. */
const ANSWER_REPETITION = { firstWaitMs: 1000, maximumWaitMs: 1000, minimumGapMs: 100 };
