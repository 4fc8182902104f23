/**
 * Seals what two peers say before they are connected: a Noise handshake that travels in their first two messages, and
 * its keys for those that follow. Who carries the messages learns their times, and one of two lengths.
 *
 * The handshake is `Noise_IKpsk1_25519_ChaChaPoly_SHA256`: the initiator knows the responder's key from a ticket, and
 * shows with its first message which key it has itself, and that it knows the ticket's secret. A repeated first message
 * is for the responder to find out: see {@linkcode ReplayGuard}. Nothing else can be repeated.
 *
 * @module
 */

import { ChaChaPolyOpener, ChaChaPolySealer, equalSecrets } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { HandshakeState, type Role } from "../noise/handshake.ts";
import { KEY_LENGTH, type KeyPair } from "../noise/key_pair.ts";
import type { TicketSecrets } from "./keys.ts";
import {
  type Content,
  CONVERSATION_LENGTH,
  decodeContent,
  encodeContent,
  encodeEnvelope,
  type Envelope,
} from "./signaling_message.ts";

/** One of the first two messages. */
export type HandshakeEnvelope = Envelope & { kind: "knock" | "answer" };

/** What both sides bring. */
export interface SealingOptions {
  readonly secrets: TicketSecrets;
  /** This side's own; stays the caller's. */
  readonly staticKey: KeyPair;
  /** Fresh, and taken over. */
  readonly ephemeralKey: KeyPair;
}

/** The side that knocks. */
export class InitiatorHandshake implements Disposable {
  /** Names the conversation. */
  readonly ephemeralKey: Uint8Array;
  readonly #secrets: TicketSecrets;
  readonly #state: HandshakeState;

  /** @param remoteKey the responder's public key */
  constructor(options: SealingOptions, remoteKey: Uint8Array) {
    this.#secrets = options.secrets;
    this.ephemeralKey = options.ephemeralKey.publicKey.slice();
    this.#state = handshake("initiator", options, remoteKey);
  }

  /** The first message; once. */
  knock(content: Content): Uint8Array<ArrayBuffer> {
    const handshake = this.#state.writeMessage(encodeContent(content, "knock"));
    return encodeEnvelope({ kind: "knock", mac: this.#secrets.mac("knock", handshake), handshake });
  }

  /** Whether somebody who has the ticket wrote this answer to the knock. */
  isAnswer({ mac, handshake }: HandshakeEnvelope): boolean {
    return equalSecrets(mac, this.#secrets.mac("answer", this.ephemeralKey, handshake));
  }

  /**
   * Reads the second message.
   *
   * @throws {MalformedMessageError} if it is not the responder's; the handshake is over then
   */
  readAnswer(answer: HandshakeEnvelope): { content: Content; cipher: TransportCipher } {
    const content = decodeContent(this.#state.readMessage(answer.handshake));
    return { content, cipher: takeSeal(this.#state, "initiator", this.ephemeralKey) };
  }

  /** Forgets the secrets. */
  [Symbol.dispose](): void {
    this.#state[Symbol.dispose]();
  }
}

/** The side that is knocked at, once for each knock. */
export class ResponderHandshake implements Disposable {
  /** Who knocks. */
  readonly remoteKey: Uint8Array;
  /** What came with the knock. */
  readonly content: Content;
  readonly #ephemeralKey: Uint8Array;
  readonly #secrets: TicketSecrets;
  readonly #state: HandshakeState;

  /**
   * Reads a knock that {@linkcode isKnockOf} took for one.
   *
   * @throws {MalformedMessageError} if it is not authentic
   */
  constructor(knock: HandshakeEnvelope, options: SealingOptions) {
    this.#ephemeralKey = ephemeralKeyOf(knock);
    this.#secrets = options.secrets;
    this.#state = handshake("responder", options);
    this.content = decodeContent(this.#state.readMessage(knock.handshake));
    this.remoteKey = this.#state.remoteStaticKey!;
  }

  /** The second message; once. */
  answer(content: Content): { message: Uint8Array<ArrayBuffer>; cipher: TransportCipher } {
    const handshake = this.#state.writeMessage(encodeContent(content, "answer"));
    const mac = this.#secrets.mac("answer", this.#ephemeralKey, handshake);
    const message = encodeEnvelope({ kind: "answer", mac, handshake });
    return { message, cipher: takeSeal(this.#state, "responder", this.#ephemeralKey) };
  }

  /** Forgets the secrets. */
  [Symbol.dispose](): void {
    this.#state[Symbol.dispose]();
  }
}

/** Whether somebody who has the ticket wrote this knock; cheap, so that strangers cost little. */
export function isKnockOf(knock: HandshakeEnvelope, secrets: TicketSecrets): boolean {
  const { mac, handshake } = knock;
  return handshake.length > KEY_LENGTH && equalSecrets(mac, secrets.mac("knock", handshake));
}

/** The initiator's ephemeral key in a knock: it names the conversation. */
export function ephemeralKeyOf(knock: HandshakeEnvelope): Uint8Array {
  return knock.handshake.slice(0, KEY_LENGTH);
}

/** Seals and opens what follows the handshake, in whatever order it arrives, each message once. */
export class TransportCipher {
  /** Both sides have it and nobody else: what secures a connection follows from it; 32 bytes. */
  readonly connectionKey: Uint8Array;
  readonly #conversation: Uint8Array;
  readonly #sendKey: Uint8Array;
  readonly #receiveKey: Uint8Array;
  readonly #window = new ReplayWindow();
  #sent = 0n;

  /** @param ephemeralKey the initiator's, which names the conversation */
  constructor(
    ephemeralKey: Uint8Array,
    keys: { send: Uint8Array; receive: Uint8Array; connection: Uint8Array },
  ) {
    this.#conversation = ephemeralKey.subarray(0, CONVERSATION_LENGTH);
    this.#sendKey = keys.send;
    this.#receiveKey = keys.receive;
    this.connectionKey = keys.connection;
  }

  /** The next message. */
  encrypt(content: Content): Uint8Array<ArrayBuffer> {
    const counter = this.#sent++;
    const plaintext = encodeContent(content, "sealed");
    const target = new Uint8Array(plaintext.length + TAG_LENGTH);
    const ciphertext = new ChaChaPolySealer(this.#sendKey, nonceOf(counter))
      .seal(NO_AD, plaintext, target);
    return encodeEnvelope({
      kind: "sealed",
      conversation: this.#conversation,
      counter,
      ciphertext,
    });
  }

  /**
   * Opens a message of the other side's.
   *
   * @throws {MalformedMessageError} if it is not authentic, or was opened before
   */
  open({ counter, ciphertext }: Envelope & { kind: "sealed" }): Content {
    if (!this.#window.mayTake(counter)) {
      throw new MalformedMessageError(`Cannot open message ${counter}: it is an old one`);
    }
    const plaintext = new ChaChaPolyOpener(this.#receiveKey, nonceOf(counter))
      .open(NO_AD, ciphertext);
    if (plaintext === undefined) {
      throw new MalformedMessageError(`Cannot open message ${counter}: it is not authentic`);
    }
    this.#window.take(counter);
    return decodeContent(plaintext);
  }
}

/** Which of the last messages have come: a sliding window as of RFC 6479. */
class ReplayWindow {
  /** One more than the highest that has come. */
  #end = 0n;
  /** Those below the end that have come; bit 0 is the last. */
  #seen = 0n;

  mayTake(counter: bigint): boolean {
    if (counter >= this.#end) return true;
    const age = this.#end - 1n - counter;
    return age < WINDOW && (this.#seen >> age & 1n) === 0n;
  }

  take(counter: bigint): void {
    if (counter >= this.#end) {
      const shift = counter + 1n - this.#end;
      this.#seen = shift >= WINDOW ? 0n : this.#seen << shift & (1n << WINDOW) - 1n;
      this.#end = counter + 1n;
    }
    this.#seen |= 1n << this.#end - 1n - counter;
  }
}

function handshake(
  role: Role,
  { secrets, staticKey, ephemeralKey }: SealingOptions,
  remoteStaticKey?: Uint8Array,
): HandshakeState {
  return new HandshakeState({
    pattern: "IKpsk1",
    role,
    prologue: PROLOGUE,
    staticKey,
    ephemeralKey,
    psks: [secrets.presharedKey],
    ...remoteStaticKey && { remoteStaticKey },
  });
}

function takeSeal(state: HandshakeState, role: Role, ephemeralKey: Uint8Array): TransportCipher {
  const other = role === "initiator" ? "responder" : "initiator";
  const cipher = new TransportCipher(ephemeralKey, {
    send: state.exportKey(`messages of the ${role}`),
    receive: state.exportKey(`messages of the ${other}`),
    connection: state.exportKey("connection"),
  });
  state[Symbol.dispose]();
  return cipher;
}

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(NONCE_LENGTH);
  new DataView(nonce.buffer).setBigUint64(NONCE_LENGTH - 8, counter, true);
  return nonce;
}

const PROLOGUE = new TextEncoder().encode("punchline 1");
const NO_AD = new Uint8Array(0);
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;

/** Ours: messages that overtake each other by more are lost. */
const WINDOW = 256n;
