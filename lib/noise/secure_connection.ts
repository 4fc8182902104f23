/**
 * Connections encrypted and authenticated with a Noise protocol, `25519_ChaChaPoly_SHA256`.
 *
 * @module
 */

import { concat, release } from "../base/bytes.ts";
import { NetworkError, RefusedError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import {
  addressesOf,
  type ByteStream,
  type DenoConn,
  type NetAddress,
  resetStream,
  toNetAddress,
} from "../net/deno_conn.ts";
import {
  generateKeyPair,
  type HandshakeOptions,
  HandshakeState,
  requireKeyLength,
} from "./handshake.ts";
import {
  LENGTH_BYTES,
  NoiseMessageReader,
  RecordCipher,
  RecordReader,
  RecordWriter,
  writeLength,
} from "./record.ts";
import { CipherState } from "./symmetric_state.ts";

/** How to secure a connection. */
export interface SecureConnectionOptions extends Omit<HandshakeOptions, "ephemeralKey"> {
  /** The payloads of this side's handshake messages, the first one first. Default: empty. */
  readonly payloads?: readonly Uint8Array[];
  /**
   * Decides whether to continue with the owner of a static key that the handshake transmits. Called as soon as the key
   * arrives, before anything is sent to its owner. In patterns that send a key before its possession is proved (IN, IX),
   * the proof comes with the next message. Default: everyone is authorized.
   */
  readonly authorize?: (remoteStaticKey: Uint8Array) => boolean | Promise<boolean>;
  /** Aborts the handshake and resets the connection. Required, because an unauthenticated peer can take forever. */
  readonly signal: AbortSignal;
}

/**
 * Performs a handshake over a connection, and secures it. The connection is taken over, and reset on failure.
 *
 * @example
 * ```ts
 * import { secureConnection } from "./secure_connection.ts";
 * import { generateKeyPair } from "./handshake.ts";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const { port } = listener.addr as Deno.NetAddr;
 * const staticKey = generateKeyPair(); // the server's identity: clients know its public key
 * const remoteStaticKey = staticKey.publicKey;
 * const signal = AbortSignal.timeout(10_000);
 * const [client, server] = await Promise.all([
 *   Deno.connect({ hostname: "127.0.0.1", port }).then((conn) =>
 *     secureConnection(conn, { pattern: "NK", role: "initiator", remoteStaticKey, signal })
 *   ),
 *   listener.accept().then((conn) =>
 *     secureConnection(conn, { pattern: "NK", role: "responder", staticKey, signal })
 *   ),
 * ]);
 * using _ = server;
 * using __ = client;
 * await client.write(new TextEncoder().encode("hello"));
 * await client.closeWrite();
 * assertEquals(await new Response(server.readable).text(), "hello");
 * ```
 *
 * @throws {TypeError} if the options do not fit the pattern
 * @throws {MalformedMessageError} if the other side does not know the right keys, or a message was modified
 * @throws {NetworkError} `reset` if the connection is cut
 * @throws {RefusedError} if `authorize` returns `false`
 * @throws {RangeError} if a payload is too long for a message of {@linkcode MAX_HANDSHAKE_MESSAGE_LENGTH} bytes
 * @throws the signal's reason on abort
 */
export async function secureConnection(
  stream: ByteStream,
  options: SecureConnectionOptions,
): Promise<SecureConnection> {
  const { signal } = options;
  let isReset = false;
  const resetOnce = () => {
    if (!isReset) resetStream(stream);
    isReset = true;
  };
  signal.addEventListener("abort", resetOnce, { once: true });
  try {
    signal.throwIfAborted();
    using state = new HandshakeState({ ...options, ephemeralKey: generateKeyPair() });
    const messages = new NoiseMessageReader(stream, addressesOf(stream).remote);
    const handshakePayloads = await shakeHands(stream, messages, state, options);
    signal.throwIfAborted();
    const { remoteStaticKey, handshakeHash } = state;
    const { send, receive } = state.split();
    return new SecureConnection(stream, messages, {
      remoteStaticKey,
      handshakeHash,
      handshakePayloads,
      send,
      receive,
    });
  } catch (error) {
    resetOnce();
    signal.throwIfAborted(); // in that case the error only says that the connection was reset
    throw error;
  } finally {
    signal.removeEventListener("abort", resetOnce);
  }
}

/** The keys from a handshake that took place elsewhere, such as in signaling messages before the connection. */
export interface ConnectionKeys {
  /** The key for what this side sends: 32 bytes, taken over, and zeroed at the end. */
  readonly sendKey: Uint8Array<ArrayBuffer>;
  /** The key for what this side receives, which is the other side's `sendKey`; also taken over. */
  readonly receiveKey: Uint8Array<ArrayBuffer>;
  /** The same on both sides, and on no other connection. */
  readonly handshakeHash: Uint8Array;
  /** The other side's static key, if the handshake has authenticated one. */
  readonly remoteStaticKey?: Uint8Array;
}

/**
 * Secures a connection without another handshake, and so without a round trip. The connection is taken over.
 *
 * Use the keys for this one connection only: if two connections share keys, anyone who sees both can decrypt them.
 *
 * @throws {TypeError} if a key is not 32 bytes long
 */
export function secureConnectionFromKeys(
  stream: ByteStream,
  { sendKey, receiveKey, handshakeHash, remoteStaticKey }: ConnectionKeys,
): SecureConnection {
  requireKeyLength(sendKey, "key to send with");
  requireKeyLength(receiveKey, "key to receive with");
  return new SecureConnection(stream, new NoiseMessageReader(stream, addressesOf(stream).remote), {
    remoteStaticKey,
    handshakeHash,
    handshakePayloads: [],
    send: new CipherState(sendKey),
    receive: new CipherState(receiveKey),
  });
}

/**
 * An encrypted and authenticated byte stream. It is a `Deno.Conn` and a `TcpConnection`.
 *
 * `closeWrite()` finishes one direction: the other side reads to the end. `close()` without it cuts the connection, as
 * does disposal, and the other side's `read()` fails. So a truncated stream, whether a program failed or an attacker cut
 * it, never looks like a finished one.
 */
export class SecureConnection implements DenoConn {
  /** This side's address. */
  readonly local: TransportAddress;
  /** The other side's address. */
  readonly remote: TransportAddress;
  /** The other side's static key, authenticated by the handshake; `undefined` if the pattern has none. */
  readonly remoteStaticKey: Uint8Array | undefined;
  /** The same on both sides, and on no other connection: for channel binding (Noise §11.2). */
  readonly handshakeHash: Uint8Array;
  /** The payloads of the other side's handshake messages, the first one first. */
  readonly handshakePayloads: readonly Uint8Array[];
  readonly #stream: ByteStream;
  readonly #reader: RecordReader;
  readonly #writer: RecordWriter;
  /** The plaintext of the record being read, and the part of it not read yet. */
  #record = NOTHING;
  #unread = NOTHING;
  #isReading = false;
  #isClosed = false;
  #writeClosed: Promise<void> | undefined;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  /** @ignore use {@linkcode secureConnection} or {@linkcode secureConnectionFromKeys} */
  constructor(stream: ByteStream, messages: NoiseMessageReader, result: HandshakeResult) {
    const { local, remote } = addressesOf(stream);
    this.local = local;
    this.remote = remote;
    this.remoteStaticKey = result.remoteStaticKey;
    this.handshakeHash = result.handshakeHash;
    this.handshakePayloads = result.handshakePayloads;
    this.#stream = stream;
    this.#reader = new RecordReader(messages, new RecordCipher(result.receive), (failure) => {
      this.#end(failure, () => resetStream(stream));
    });
    this.#writer = new RecordWriter(stream, new RecordCipher(result.send));
  }

  /** {@linkcode SecureConnection.local} in Deno's form. */
  get localAddr(): NetAddress {
    return toNetAddress(this.local);
  }

  /** {@linkcode SecureConnection.remote} in Deno's form. */
  get remoteAddr(): NetAddress {
    return toNetAddress(this.remote);
  }

  /**
   * Reads into the start of `buffer`. One call at a time.
   *
   * @returns the number of bytes, or `null` once the other side has finished
   * @throws {MalformedMessageError} if records were modified, repeated, reordered or dropped
   * @throws {NetworkError} `reset` if the connection was cut, `closed` if this side closed it
   */
  async read(buffer: Uint8Array): Promise<number | null> {
    if (buffer.length === 0) return 0;
    this.#requireNoOtherRead();
    this.#isReading = true;
    try {
      if (this.#unread.length === 0) {
        const next = await this.#reader.read();
        if (this.#isClosed) throw this.#closedError();
        if (next === null) return null;
        this.#record = this.#unread = next;
      }
      const length = Math.min(buffer.length, this.#unread.length);
      buffer.set(this.#unread.subarray(0, length));
      this.#unread = this.#unread.subarray(length);
      if (this.#unread.length === 0) release(this.#record);
      return length;
    } finally {
      this.#isReading = false;
    }
  }

  /**
   * The rest of the record being read, or the next one, in memory that is the caller's. One call at a time, as with `read()`.
   *
   * @returns `null` once the other side has finished
   * @throws as {@linkcode SecureConnection.read}
   */
  readChunk(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#isReading) return Promise.reject(anotherRead());
    if (this.#unread.length === 0) return this.#reader.read();
    const rest = this.#unread.slice();
    this.#record = this.#unread = NOTHING;
    return Promise.resolve(rest);
  }

  /**
   * Writes all of `data`, which must not change until the call returns. The last record may still be in flight:
   * `closeWrite()` waits for it, `close()` does not, and the next call throws its failure.
   *
   * @returns the length of `data`
   * @throws {NetworkError} `closed` if this side has closed the connection, or the connection's failure
   */
  async write(data: Uint8Array): Promise<number> {
    const waiting = this.#writer.write(data);
    if (waiting !== undefined) await waiting;
    return data.length;
  }

  /** Finishes this direction: waits until everything is written, then sends the end. The other direction stays open. */
  closeWrite(): Promise<void> {
    return this.#writeClosed ??= this.#writer.end().then(() => this.#stream.closeWrite());
  }

  /** The other side's bytes, until it finishes. Cancelling it closes the connection. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      pull: async (controller) => {
        const chunk = await this.readChunk();
        if (chunk === null) controller.close();
        else controller.enqueue(chunk);
      },
      cancel: () => this.close(),
    }, { highWaterMark: 0 });
  }

  /** Takes the bytes to send. Closing it calls `closeWrite()`, aborting it calls `close()`. */
  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= new WritableStream({
      write: async (data) => void await this.write(data),
      close: () => this.closeWrite(),
      abort: () => this.close(),
    });
  }

  /** Closes both directions; idempotent. Without a `closeWrite()` before it, the other side sees a cut. */
  close(): void {
    this.#end(this.#closedError(), () => this.#stream.close());
  }

  /** Like `close()`, but with a RST if the connection below can send one. */
  reset(): void {
    this.#end(this.#closedError(), () => resetStream(this.#stream));
  }

  /** Keeps the program running while a read is waiting; the default. */
  ref(): void {
    if ("ref" in this.#stream) this.#stream.ref?.();
  }

  /** Lets the program exit while a read is waiting, if the connection below supports that. */
  unref(): void {
    if ("unref" in this.#stream) this.#stream.unref?.();
  }

  /** Same as `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #end(failure: unknown, close: () => void): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#record = this.#unread = NOTHING;
    this.#reader.fail(failure);
    this.#writer.fail(failure);
    close();
  }

  /** The record reader cannot check this: it may be done while the call that read the record has not resumed yet. */
  #requireNoOtherRead(): void {
    if (this.#isReading) throw anotherRead();
  }

  #closedError(): NetworkError {
    const remote = formatTransportAddress(this.remote);
    return new NetworkError(`Cannot use the connection to ${remote}: it is closed`, "closed");
  }
}

function anotherRead(): TypeError {
  return new TypeError("Cannot read: another read is waiting");
}

/** The result of a handshake. */
interface HandshakeResult {
  readonly remoteStaticKey: Uint8Array | undefined;
  readonly handshakeHash: Uint8Array;
  readonly handshakePayloads: readonly Uint8Array[];
  readonly send: CipherState;
  readonly receive: CipherState;
}

/**
 * Exchanges the messages of a handshake, each after its length in 16 bits.
 *
 * @returns the payloads of the other side's messages
 */
async function shakeHands(
  stream: ByteStream,
  messages: NoiseMessageReader,
  state: HandshakeState,
  { payloads = [], authorize }: SecureConnectionOptions,
): Promise<Uint8Array[]> {
  const unsent = [...payloads];
  const received: Uint8Array[] = [];
  let isAuthorized = authorize === undefined || state.remoteStaticKey !== undefined;
  while (state.nextStep !== "split") {
    if (state.nextStep === "write") {
      await writeAll(stream, withLength(state.writeMessage(unsent.shift())));
      continue;
    }
    received.push(state.readMessage(await messages.next(MAX_HANDSHAKE_MESSAGE_LENGTH)));
    const remoteStaticKey = state.remoteStaticKey;
    if (isAuthorized || remoteStaticKey === undefined) continue;
    if (!await authorize!(remoteStaticKey)) {
      throw new RefusedError(
        "Cannot shake hands: the other side's static key is not authorized",
        0,
        { remedy: "Check that the key is the one you mean, and allow it" },
      );
    }
    isAuthorized = true;
  }
  return received;
}

function withLength(message: Uint8Array): Uint8Array {
  if (message.length > MAX_HANDSHAKE_MESSAGE_LENGTH) {
    throw new RangeError(
      `Cannot shake hands: a message of ${message.length} bytes is over ${MAX_HANDSHAKE_MESSAGE_LENGTH}`,
    );
  }
  const length = new Uint8Array(LENGTH_BYTES);
  writeLength(length, message.length);
  return concat(length, message);
}

/** Chosen by us: room for a payload such as a certificate, but little memory for an unauthenticated peer to fill. */
export const MAX_HANDSHAKE_MESSAGE_LENGTH = 4094;

const NOTHING = new Uint8Array(0);
