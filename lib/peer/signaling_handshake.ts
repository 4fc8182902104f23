/**
 * Encrypts what two peers exchange before they are connected: a Noise handshake in their first two messages, and keys
 * exported from it for the messages that follow. Whatever carries the messages learns only when they are sent, and which
 * of two lengths they have.
 *
 * The handshake is `Noise_IKpsk1_25519_ChaChaPoly_SHA256`: the initiator knows the responder's key from a ticket, and its
 * first message proves which key it has itself, and that it knows the ticket's secret. The responder has to detect
 * replays of that first message: see {@linkcode ReplayGuard}. No other message can be replayed.
 *
 * @module
 */

import { ChaChaPolyOpener, ChaChaPolySealer, equalSecrets, ReplayWindow } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { HandshakeState, KEY_LENGTH, type KeyPair, type Role } from "../noise/handshake.ts";
import {
  type Content,
  decodeContent,
  encodeContent,
  encodeEnvelope,
  type HandshakeEnvelope,
  SESSION_ID_LENGTH,
  type TransportEnvelope,
} from "./signaling_message.ts";
import type { TicketSecrets } from "./ticket.ts";

/** The keys that either side brings to the handshake. */
export interface SignalingKeys {
  readonly secrets: TicketSecrets;
  /** This side's long-term key; stays the caller's. */
  readonly staticKey: KeyPair;
  /** A new key for each handshake; taken over. */
  readonly ephemeralKey: KeyPair;
}

/** The handshake of the side that asks for a connection. */
export class InitiatorHandshake implements Disposable {
  /** Its first bytes identify the session. */
  readonly ephemeralKey: Uint8Array;
  readonly #secrets: TicketSecrets;
  readonly #state: HandshakeState;

  /** @param remoteKey the responder's public key */
  constructor(keys: SignalingKeys, remoteKey: Uint8Array) {
    this.#secrets = keys.secrets;
    this.ephemeralKey = keys.ephemeralKey.publicKey.slice();
    this.#state = handshakeState("initiator", keys, remoteKey);
  }

  /** The first message. Call it once. */
  writeRequest(content: Content, options?: { isPadded?: boolean }): Uint8Array<ArrayBuffer> {
    const handshake = this.#state.writeMessage(encodeContent(content, "request", options));
    const mac = this.#secrets.mac("request", handshake);
    return encodeEnvelope({ kind: "request", mac, handshake });
  }

  /** Whether a holder of the ticket wrote this as the answer to this request. */
  isAnswer({ mac, handshake }: HandshakeEnvelope): boolean {
    return equalSecrets(mac, this.#secrets.mac("answer", this.ephemeralKey, handshake));
  }

  /**
   * Reads the second message.
   *
   * @throws {MalformedMessageError} if the responder did not write it; the handshake cannot continue after that
   */
  readAnswer(answer: HandshakeEnvelope): { content: Content; cipher: TransportCipher } {
    const content = decodeContent(this.#state.readMessage(answer.handshake));
    return { content, cipher: takeCipher(this.#state, "initiator", this.ephemeralKey) };
  }

  /** Destroys the secrets. */
  [Symbol.dispose](): void {
    this.#state[Symbol.dispose]();
  }
}

/** The handshake of the side that is asked for a connection; one for each request. */
export class ResponderHandshake implements Disposable {
  /** The initiator's public key. */
  readonly remoteKey: Uint8Array;
  /** The contents of the request. */
  readonly content: Content;
  readonly #ephemeralKey: Uint8Array;
  readonly #secrets: TicketSecrets;
  readonly #state: HandshakeState;

  /**
   * Reads a request that has passed {@linkcode isAuthenticRequest}.
   *
   * @throws {MalformedMessageError} if it is not authentic after all
   */
  constructor(request: HandshakeEnvelope, keys: SignalingKeys) {
    this.#ephemeralKey = ephemeralKeyOf(request);
    this.#secrets = keys.secrets;
    this.#state = handshakeState("responder", keys);
    this.content = decodeContent(this.#state.readMessage(request.handshake));
    this.remoteKey = this.#state.remoteStaticKey!;
  }

  /** The second message. Call it once. */
  writeAnswer(
    content: Content,
    options?: { isPadded?: boolean },
  ): { message: Uint8Array<ArrayBuffer>; cipher: TransportCipher } {
    const handshake = this.#state.writeMessage(encodeContent(content, "answer", options));
    const mac = this.#secrets.mac("answer", this.#ephemeralKey, handshake);
    const message = encodeEnvelope({ kind: "answer", mac, handshake });
    return { message, cipher: takeCipher(this.#state, "responder", this.#ephemeralKey) };
  }

  /** Destroys the secrets. */
  [Symbol.dispose](): void {
    this.#state[Symbol.dispose]();
  }
}

/** Whether a holder of the ticket wrote this request. One HMAC, so that messages of others cost little. */
export function isAuthenticRequest(
  { mac, handshake }: HandshakeEnvelope,
  secrets: TicketSecrets,
): boolean {
  return handshake.length > KEY_LENGTH && equalSecrets(mac, secrets.mac("request", handshake));
}

/** The initiator's ephemeral key, with which a request begins. */
export function ephemeralKeyOf(request: HandshakeEnvelope): Uint8Array {
  return request.handshake.slice(0, KEY_LENGTH);
}

/** Encrypts and decrypts the messages after the handshake, which may arrive in any order; each is accepted once. */
export class TransportCipher {
  /** 32 bytes that only these two peers know; the keys of the connection's paths follow from it. */
  readonly connectionKey: Uint8Array;
  readonly #sessionId: Uint8Array;
  readonly #sendKey: Uint8Array;
  readonly #receiveKey: Uint8Array;
  readonly #window = new ReplayWindow();
  #sent = 0n;

  /** @param ephemeralKey the initiator's */
  constructor(
    ephemeralKey: Uint8Array,
    keys: { send: Uint8Array; receive: Uint8Array; connection: Uint8Array },
  ) {
    this.#sessionId = ephemeralKey.subarray(0, SESSION_ID_LENGTH);
    this.#sendKey = keys.send;
    this.#receiveKey = keys.receive;
    this.connectionKey = keys.connection;
  }

  /** Encrypts the next message. */
  encrypt(content: Content): Uint8Array<ArrayBuffer> {
    const counter = this.#sent++;
    const plaintext = encodeContent(content, "transport");
    const target = new Uint8Array(plaintext.length + TAG_LENGTH);
    const ciphertext = new ChaChaPolySealer(this.#sendKey, nonceOf(counter))
      .seal(NO_ASSOCIATED_DATA, plaintext, target);
    return encodeEnvelope({ kind: "transport", sessionId: this.#sessionId, counter, ciphertext });
  }

  /**
   * Decrypts a message of the other side.
   *
   * @throws {MalformedMessageError} if it is not authentic, was decrypted before, or is too old to rule that out
   */
  decrypt({ counter, ciphertext }: TransportEnvelope): Content {
    if (!this.#window.mayAccept(counter)) {
      throw new MalformedMessageError(
        `Cannot decrypt message ${counter}: it is a replay or too old`,
      );
    }
    const plaintext = new ChaChaPolyOpener(this.#receiveKey, nonceOf(counter))
      .open(NO_ASSOCIATED_DATA, ciphertext);
    if (plaintext === undefined) {
      throw new MalformedMessageError(`Cannot decrypt message ${counter}: it is not authentic`);
    }
    this.#window.accept(counter);
    return decodeContent(plaintext);
  }
}

function handshakeState(
  role: Role,
  { secrets, staticKey, ephemeralKey }: SignalingKeys,
  remoteStaticKey?: Uint8Array,
): HandshakeState {
  return new HandshakeState({
    pattern: "IKpsk1",
    role,
    prologue: PROLOGUE,
    staticKey,
    ephemeralKey,
    psks: [secrets.presharedKey],
    remoteStaticKey,
  });
}

/** Exports the keys of the finished handshake, which is destroyed. */
function takeCipher(state: HandshakeState, role: Role, ephemeralKey: Uint8Array): TransportCipher {
  const otherRole = role === "initiator" ? "responder" : "initiator";
  const cipher = new TransportCipher(ephemeralKey, {
    send: state.exportKey(`messages of the ${role}`),
    receive: state.exportKey(`messages of the ${otherRole}`),
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
const NO_ASSOCIATED_DATA = new Uint8Array(0);
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;
