/**
 * The `HandshakeState` of the Noise Protocol Framework, revision 34, §5.3, for `25519_ChaChaPoly_SHA256`.
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { KEY_LENGTH, type KeyPair, requireKeyLength } from "./key_pair.ts";
import { type CipherState, SymmetricState } from "./symmetric_state.ts";

/** A step of a handshake message, as §5.3 and §9.2 process it. */
export type Token = "e" | "s" | DhToken | "psk";

/** The Diffie-Hellman tokens: the initiator's key first, the responder's second. */
export type DhToken = "ee" | "es" | "se" | "ss";

/** Who sends the first message, and who the second. */
export type Role = "initiator" | "responder";

/** A fundamental pattern's name, such as `"XX"`: how the initiator's static key is known, then the responder's. */
export type FundamentalPattern = keyof typeof PATTERNS;

/** A pattern's name with its `psk` modifiers, as in a protocol name: `"XX"`, `"IKpsk2"`, `"NNpsk0+psk2"`. */
export type PatternName = FundamentalPattern | `${FundamentalPattern}psk${string}`;

/** What the parties know before a handshake, and what they send in it. */
export interface HandshakePattern {
  readonly name: PatternName;
  /** Whose static key the other side knows beforehand, in the order in which they are hashed. */
  readonly preMessages: readonly Role[];
  /** The initiator sends the first one, then they take turns. */
  readonly messages: readonly (readonly Token[])[];
}

/**
 * The pattern of this name.
 *
 * @example
 * ```ts
 * import { parsePattern } from "./handshake.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const { preMessages, messages } = parsePattern("NKpsk2");
 * assertEquals(preMessages, ["responder"]);
 * assertEquals(messages, [["e", "es"], ["e", "ee", "psk"]]);
 * ```
 *
 * @throws {TypeError} if there is none
 */
export function parsePattern(name: PatternName): HandshakePattern {
  const fundamental = name.slice(0, 2);
  if (!isFundamental(fundamental)) throw unknownPattern(name);
  const lines: readonly string[] = PATTERNS[fundamental];
  const end = lines.indexOf("...");
  const messages = lines.slice(end + 1).map(tokensOf);
  for (const position of pskPositions(name)) {
    const message = messages[Math.max(0, position - 1)];
    if (message === undefined) throw unknownPattern(name);
    if (position === 0) message.unshift("psk");
    else message.push("psk");
  }
  const preMessages = lines.slice(0, Math.max(0, end)).map(senderOf);
  return { name, preMessages, messages };
}

/** §9.4: `psk0` goes before the first message's tokens, `pskN` after those of the Nth. */
function pskPositions(name: PatternName): number[] {
  const modifiers = name.slice(2);
  if (modifiers === "") return [];
  const positions = modifiers.split("+").map((modifier) => {
    const [, position] = /^psk(\d)$/.exec(modifier) ?? [];
    if (position === undefined) throw unknownPattern(name);
    return Number(position);
  });
  if (new Set(positions).size < positions.length) throw unknownPattern(name);
  return positions;
}

function isFundamental(name: string): name is FundamentalPattern {
  return Object.hasOwn(PATTERNS, name);
}

function tokensOf(line: string): Token[] {
  return line.slice("-> ".length).split(", ") as Token[];
}

function senderOf(line: string): Role {
  return line.startsWith("->") ? "initiator" : "responder";
}

function unknownPattern(name: string): TypeError {
  return new TypeError(`Cannot use handshake pattern: ${JSON.stringify(name)} is not known`);
}

/** §7.5, written as it is there. */
const PATTERNS = {
  NN: ["-> e", "<- e, ee"],
  NK: ["<- s", "...", "-> e, es", "<- e, ee"],
  NX: ["-> e", "<- e, ee, s, es"],
  KN: ["-> s", "...", "-> e", "<- e, ee, se"],
  KK: ["-> s", "<- s", "...", "-> e, es, ss", "<- e, ee, se"],
  KX: ["-> s", "...", "-> e", "<- e, ee, se, s, es"],
  XN: ["-> e", "<- e, ee", "-> s, se"],
  XK: ["<- s", "...", "-> e, es", "<- e, ee", "-> s, se"],
  XX: ["-> e", "<- e, ee, s, es", "-> s, se"],
  IN: ["-> e, s", "<- e, ee, se"],
  IK: ["<- s", "...", "-> e, es, s, ss", "<- e, ee, se"],
  IX: ["-> e, s", "<- e, ee, se, s, es"],
} as const;

/** The longest Noise message, §3. */
export const MAX_MESSAGE_LENGTH = 65_535;

/** What one side brings to a handshake. */
export interface HandshakeOptions {
  readonly pattern: PatternName;
  readonly role: Role;
  /** What both sides must have seen in the same way for the handshake to succeed (§6); nothing by default. */
  readonly prologue?: Uint8Array;
  /** `s`: this side's own; the patterns that begin with N have none for the initiator. Stays the caller's. */
  readonly staticKey?: KeyPair;
  /** `e`: fresh for each handshake, taken over, and destroyed with it. */
  readonly ephemeralKey: KeyPair;
  /** `rs`: the other side's, where the pattern says that it is known. */
  readonly remoteStaticKey?: Uint8Array;
  /** 32 bytes for each `psk` of the pattern, in their order; they stay the caller's. */
  readonly psks?: readonly Uint8Array[];
}

/** What happens next in a handshake. */
export type HandshakeStep = "write" | "read" | "split" | "nothing";

/**
 * One side of a handshake: messages in, messages out, and in the end two keys.
 *
 * @example
 * ```ts
 * import { HandshakeState } from "./handshake.ts";
 * import { KeyPair } from "./key_pair.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const fresh = () => new KeyPair(crypto.getRandomValues(new Uint8Array(32)));
 * const alice = new HandshakeState({ pattern: "NN", role: "initiator", ephemeralKey: fresh() });
 * const bob = new HandshakeState({ pattern: "NN", role: "responder", ephemeralKey: fresh() });
 * bob.readMessage(alice.writeMessage());
 * const payload = alice.readMessage(bob.writeMessage(new TextEncoder().encode("hello")));
 *
 * assertEquals(new TextDecoder().decode(payload), "hello");
 * assertEquals(alice.handshakeHash, bob.handshakeHash);
 * assertEquals(alice.nextStep, "split");
 * ```
 */
export class HandshakeState implements Disposable {
  readonly #role: Role;
  readonly #symmetricState: SymmetricState;
  readonly #messages: (readonly Token[])[];
  readonly #staticKey: KeyPair | undefined;
  readonly #ephemeralKey: KeyPair;
  readonly #hasPsks: boolean;
  /** Those that are still to come. */
  readonly #psks: Uint8Array[];
  #remoteStaticKey: Uint8Array | undefined;
  #remoteEphemeralKey: Uint8Array | undefined;
  #nextStep: HandshakeStep;

  /** @throws {TypeError} if the pattern is not known, or a key that it needs is missing or no key */
  constructor(options: HandshakeOptions) {
    const { role, prologue, staticKey, ephemeralKey, remoteStaticKey, psks } = options;
    const pattern = parsePattern(options.pattern);
    requireKeys(pattern, options);
    this.#role = role;
    this.#staticKey = staticKey;
    this.#ephemeralKey = ephemeralKey;
    this.#remoteStaticKey = remoteStaticKey?.slice();
    this.#psks = [...psks ?? []];
    this.#hasPsks = this.#psks.length > 0;
    this.#messages = [...pattern.messages];
    this.#nextStep = role === "initiator" ? "write" : "read";
    this.#symmetricState = new SymmetricState(`Noise_${pattern.name}_25519_ChaChaPoly_SHA256`);
    this.#symmetricState.mixHash(prologue ?? new Uint8Array(0));
    for (const owner of pattern.preMessages) {
      const key = owner === role ? staticKey?.publicKey : remoteStaticKey;
      this.#symmetricState.mixHash(key!);
    }
  }

  /** Whose turn it is; `"nothing"` once the handshake has failed, was split or was disposed of. */
  get nextStep(): HandshakeStep {
    return this.#nextStep;
  }

  /** The other side's static key, once it is known; to be relied upon once the handshake is through. */
  get remoteStaticKey(): Uint8Array | undefined {
    return this.#remoteStaticKey?.slice();
  }

  /** What both sides share and nobody else can arrange: the "channel binding" of §11.2, once `nextStep` is `"split"`. */
  get handshakeHash(): Uint8Array {
    return this.#symmetricState.handshakeHash;
  }

  /**
   * The next message, with a payload as secret as the pattern has it at this point (§7.7).
   *
   * @throws {TypeError} if it is not this side's turn
   * @throws {RangeError} if the message would be longer than 65,535 bytes
   * @throws {MalformedMessageError} if the other side's public key is of low order
   */
  writeMessage(payload: Uint8Array = new Uint8Array(0)): Uint8Array<ArrayBuffer> {
    return this.#take("write", (tokens) => {
      const parts = tokens.map((token) => this.#write(token));
      const message = concat(...parts, this.#symmetricState.encryptAndHash(payload));
      if (message.length > MAX_MESSAGE_LENGTH) {
        throw new RangeError(
          `Cannot write a handshake message: ${message.length} bytes are over ${MAX_MESSAGE_LENGTH}`,
        );
      }
      return message;
    });
  }

  /**
   * The payload of the other side's message. A handshake that has failed stays so.
   *
   * @throws {TypeError} if it is not the other side's turn
   * @throws {MalformedMessageError} if the message is too short, not authentic, or has a public key of low order
   */
  readMessage(message: Uint8Array): Uint8Array<ArrayBuffer> {
    return this.#take("read", (tokens) => {
      const reader = new ByteReader(message, "handshake message");
      for (const token of tokens) this.#read(token, reader);
      return this.#symmetricState.decryptAndHash(reader.bytes(reader.remaining, "payload")).slice();
    });
  }

  /**
   * The keys for what comes after the handshake, once.
   *
   * @throws {TypeError} if the handshake is not through
   */
  split(): { send: CipherState; receive: CipherState } {
    this.#require("split");
    const [initiator, responder] = this.#symmetricState.split();
    this[Symbol.dispose]();
    return this.#role === "initiator"
      ? { send: initiator, receive: responder }
      : { send: responder, receive: initiator };
  }

  /**
   * A further key of 32 bytes that both sides have and nobody else, for what is beside the connection; before the split.
   *
   * @param label what the key is for; each gives another key
   * @throws {TypeError} if the handshake is not through
   */
  exportKey(label: string): Uint8Array<ArrayBuffer> {
    this.#require("split");
    return this.#symmetricState.exportKey(label);
  }

  /** Forgets all secrets of this handshake; idempotent. */
  [Symbol.dispose](): void {
    this.#nextStep = "nothing";
    this.#symmetricState.destroy();
    this.#ephemeralKey[Symbol.dispose]();
  }

  /** Processes a message; what fails on its way ends the handshake. */
  #take(
    step: "write" | "read",
    process: (tokens: readonly Token[]) => Uint8Array,
  ): Uint8Array<ArrayBuffer> {
    this.#require(step);
    this.#nextStep = "nothing";
    try {
      const result = process(this.#messages.shift()!);
      this.#nextStep = this.#messages.length === 0 ? "split" : step === "write" ? "read" : "write";
      return result as Uint8Array<ArrayBuffer>;
    } finally {
      if (this.#nextStep === "nothing") this[Symbol.dispose]();
    }
  }

  #write(token: Token): Uint8Array {
    switch (token) {
      case "e":
        this.#mixEphemeral(this.#ephemeralKey.publicKey);
        return this.#ephemeralKey.publicKey;
      case "s":
        return this.#symmetricState.encryptAndHash(this.#staticKey!.publicKey);
      default:
        this.#mixSecret(token);
        return new Uint8Array(0);
    }
  }

  #read(token: Token, reader: ByteReader): void {
    switch (token) {
      case "e":
        this.#remoteEphemeralKey = reader.bytes(KEY_LENGTH, "e");
        return this.#mixEphemeral(this.#remoteEphemeralKey);
      case "s": {
        const encrypted = reader.bytes(KEY_LENGTH + this.#symmetricState.overhead, "s");
        this.#remoteStaticKey = this.#symmetricState.decryptAndHash(encrypted).slice();
        return;
      }
      default:
        return this.#mixSecret(token);
    }
  }

  /** §9.2: with pre-shared keys the ephemeral ones take part in the keys from the start. */
  #mixEphemeral(publicKey: Uint8Array): void {
    this.#symmetricState.mixHash(publicKey);
    if (this.#hasPsks) this.#symmetricState.mixKey(publicKey.slice());
  }

  #mixSecret(token: DhToken | "psk"): void {
    if (token === "psk") return this.#symmetricState.mixKeyAndHash(this.#psks.shift()!);
    const [initiatorKey, responderKey] = token;
    const [own, other] = this.#role === "initiator"
      ? [initiatorKey, responderKey]
      : [responderKey, initiatorKey];
    const keyPair = own === "e" ? this.#ephemeralKey : this.#staticKey!;
    const publicKey = other === "e" ? this.#remoteEphemeralKey! : this.#remoteStaticKey!;
    this.#symmetricState.mixKey(keyPair.dh(publicKey));
  }

  #require(step: HandshakeStep): void {
    if (this.#nextStep === step) return;
    throw new TypeError(`Cannot ${step}: the handshake's next step is ${this.#nextStep}`);
  }
}

function requireKeys(pattern: HandshakePattern, options: HandshakeOptions): void {
  const { role, staticKey, remoteStaticKey, psks = [] } = options;
  const { name, preMessages, messages } = pattern;
  const sent = messages.filter((_, index) => (index % 2 === 0) === (role === "initiator"));
  if (staticKey === undefined && (preMessages.includes(role) || sent.flat().includes("s"))) {
    throw new TypeError(`Cannot be the ${role} of ${name}: it needs a static key`);
  }
  const knowsRemote = preMessages.some((owner) => owner !== role);
  if (knowsRemote !== (remoteStaticKey !== undefined)) {
    const rule = knowsRemote
      ? "needs the other side's static key"
      : "has no use for a remote static key";
    throw new TypeError(`Cannot be the ${role} of ${name}: it ${rule}`);
  }
  if (remoteStaticKey !== undefined) requireKeyLength(remoteStaticKey, "remote static key");
  const needed = messages.flat().filter((token) => token === "psk").length;
  if (psks.length !== needed) {
    throw new TypeError(
      `Cannot use ${name}: it takes ${needed} pre-shared keys, not ${psks.length}`,
    );
  }
  for (const psk of psks) requireKeyLength(psk, "pre-shared key");
}
