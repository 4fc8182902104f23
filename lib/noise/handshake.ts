/**
 * The `HandshakeState` of the Noise Protocol Framework, revision 34, §5.3, for `25519_ChaChaPoly_SHA256`, with its
 * patterns (§7) and key pairs.
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { x25519, x25519PublicKey } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { type CipherState, SymmetricState } from "./symmetric_state.ts";

/** The longest Noise message, in bytes (§3). */
export const MAX_MESSAGE_LENGTH = 65_535;

/** The keys and settings of one side of a handshake. */
export interface HandshakeOptions {
  readonly pattern: PatternName;
  readonly role: Role;
  /** Data that must be the same on both sides for the handshake to succeed (§6). Default: empty. */
  readonly prologue?: Uint8Array;
  /** `s`: this side's static key, if the pattern has one. The caller keeps it. */
  readonly staticKey?: KeyPair;
  /** `e`: a fresh key for this handshake, which takes it over and destroys it. */
  readonly ephemeralKey: KeyPair;
  /** `rs`: the other side's static public key, if the pattern says that it is known beforehand. */
  readonly remoteStaticKey?: Uint8Array;
  /** A key of 32 bytes for each `psk` of the pattern, in order. The caller keeps them. */
  readonly psks?: readonly Uint8Array[];
}

/** What the handshake needs next; `"nothing"` once it has failed, was split or was disposed of. */
export type HandshakeStep = "write" | "read" | "split" | "nothing";

/**
 * One side of a handshake: processes messages, and ends with a key for each direction.
 *
 * @example
 * ```ts
 * import { HandshakeState } from "./handshake.ts";
 * import { KeyPair } from "./handshake.ts";
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
  /** Those not used yet. */
  readonly #psks: Uint8Array[];
  #remoteStaticKey: Uint8Array | undefined;
  #remoteEphemeralKey: Uint8Array | undefined;
  #nextStep: HandshakeStep;

  /** @throws {TypeError} if the pattern is unknown, or a key is missing, superfluous or of the wrong length */
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

  /** What to call next. */
  get nextStep(): HandshakeStep {
    return this.#nextStep;
  }

  /** The other side's static public key, once it is known. Do not rely on it before the handshake is complete. */
  get remoteStaticKey(): Uint8Array | undefined {
    return this.#remoteStaticKey?.slice();
  }

  /** Identifies this handshake, for channel binding (§11.2). Final once `nextStep` is `"split"`. */
  get handshakeHash(): Uint8Array {
    return this.#symmetricState.handshakeHash;
  }

  /**
   * Writes the next message. §7.7 says how well its payload is protected.
   *
   * @throws {TypeError} if it is not this side's turn to write
   * @throws {RangeError} if the message would be longer than 65,535 bytes
   * @throws {MalformedMessageError} if the other side's public key is of low order
   */
  writeMessage(payload: Uint8Array = new Uint8Array(0)): Uint8Array<ArrayBuffer> {
    return this.#process("write", (tokens) => {
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
   * Reads the other side's message. A failure ends the handshake.
   *
   * @returns its payload
   * @throws {TypeError} if it is not the other side's turn to write
   * @throws {MalformedMessageError} if the message is too short, is not authentic or has a public key of low order
   */
  readMessage(message: Uint8Array): Uint8Array<ArrayBuffer> {
    return this.#process("read", (tokens) => {
      const reader = new ByteReader(message, "handshake message");
      for (const token of tokens) this.#read(token, reader);
      return this.#symmetricState.decryptAndHash(reader.bytes(reader.remaining, "payload")).slice();
    });
  }

  /**
   * The keys for everything after the handshake. Can be called once.
   *
   * @throws {TypeError} if the handshake is not complete, or was split
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
   * Another secret key of 32 bytes that both sides share, for use outside the connection. Call it before the split.
   *
   * @param label what the key is for; each label gives a different key
   * @throws {TypeError} if the handshake is not complete, or was split
   */
  exportKey(label: string): Uint8Array<ArrayBuffer> {
    this.#require("split");
    return this.#symmetricState.exportKey(label);
  }

  /** Erases all secrets of this handshake; idempotent. */
  [Symbol.dispose](): void {
    this.#nextStep = "nothing";
    this.#symmetricState.destroy();
    this.#ephemeralKey[Symbol.dispose]();
  }

  /** Processes a message. A failure ends the handshake. */
  #process(
    step: "write" | "read",
    run: (tokens: readonly Token[]) => Uint8Array,
  ): Uint8Array<ArrayBuffer> {
    this.#require(step);
    this.#nextStep = "nothing";
    try {
      const result = run(this.#messages.shift()!);
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

  /** §9.2: patterns with pre-shared keys also mix ephemeral keys into the cipher key. */
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

/** A handshake pattern (§7). */
export interface HandshakePattern {
  readonly name: PatternName;
  /** Whose static keys are known beforehand, in the order in which they are hashed. */
  readonly preMessages: readonly Role[];
  /** The initiator sends the first message, then the sides alternate. */
  readonly messages: readonly (readonly Token[])[];
}

/** The name of a pattern with its `psk` modifiers (§8): `"XX"`, `"IKpsk2"`, `"NNpsk0+psk2"`. */
export type PatternName = FundamentalPattern | `${FundamentalPattern}psk${string}`;

/** The name of a fundamental pattern (§7.5), such as `"XX"`: the initiator's static key, then the responder's. */
export type FundamentalPattern = keyof typeof PATTERNS;

/** The initiator sends the first message. */
export type Role = "initiator" | "responder";

/** A token of a handshake message, processed as §5.3 and §9.2 say. */
export type Token = "e" | "s" | DhToken | "psk";

/** The Diffie-Hellman tokens: the initiator's key comes first. */
export type DhToken = "ee" | "es" | "se" | "ss";

/**
 * Parses the name of a pattern.
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
 * @throws {TypeError} if there is no such pattern
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

/** Generates a key pair from random bytes of the system. */
export function generateKeyPair(): KeyPair {
  const secretKey = crypto.getRandomValues(new Uint8Array(KEY_LENGTH));
  const keyPair = new KeyPair(secretKey);
  secretKey.fill(0);
  return keyPair;
}

/** A public key and its secret key, which cannot be read back. */
export class KeyPair implements Disposable {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly #secretKey: Uint8Array;
  #isDestroyed = false;

  /**
   * Computes the public key of a secret key.
   *
   * @param secretKey 32 random bytes; they are copied
   * @throws {TypeError} if it is not 32 bytes long
   */
  constructor(secretKey: Uint8Array) {
    requireKeyLength(secretKey, "secret key");
    this.#secretKey = secretKey.slice();
    this.publicKey = x25519PublicKey(this.#secretKey);
  }

  /**
   * The secret that only the owners of the two key pairs can compute.
   *
   * @throws {MalformedMessageError} if the public key is one of those that give zero with every secret key
   */
  dh(publicKey: Uint8Array): Uint8Array<ArrayBuffer> {
    if (this.#isDestroyed) throw new TypeError("Cannot use the key pair: it was destroyed");
    const shared = x25519(this.#secretKey, publicKey);
    if (shared === undefined) {
      throw new MalformedMessageError("Cannot agree on a key: the public key is of low order");
    }
    return shared;
  }

  /** Erases the secret key; idempotent. */
  [Symbol.dispose](): void {
    this.#isDestroyed = true;
    this.#secretKey.fill(0);
  }
}

/** The length of every key, in bytes: public, secret, pre-shared and shared. */
export const KEY_LENGTH = 32;

/**
 * Checks the length of a key.
 *
 * @throws {TypeError} if it is not 32 bytes long
 */
export function requireKeyLength(key: Uint8Array, what: string): void {
  if (key.length === KEY_LENGTH) return;
  throw new TypeError(`Cannot use ${what}: it has ${key.length} bytes, not ${KEY_LENGTH}`);
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
    const rule = knowsRemote ? "needs the other side's static key" : "takes no remote static key";
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

/** §9.4: `psk0` comes before the tokens of the first message, `pskN` after those of the Nth. */
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
  return new TypeError(`Cannot use handshake pattern: ${JSON.stringify(name)} is unknown`);
}

/** The interactive fundamental patterns, as §7.5 writes them. */
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
