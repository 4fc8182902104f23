/**
 * Encrypts and authenticates a connection with a Noise protocol, `25519_ChaChaPoly_SHA256`.
 *
 * @module
 */

import { concat, release } from "../base/bytes.ts";
import { NetworkError, RefusedError } from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { writeAll } from "../base/reader.ts";
import { addressesOf, type ByteStream, cut } from "./byte_stream.ts";
import { type HandshakeOptions, HandshakeState } from "./handshake.ts";
import { generateKeyPair, requireKeyLength } from "./key_pair.ts";
import { FrameReader, LENGTH_BYTES, RecordCipher, RecordReader, writeLength } from "./record.ts";
import { RecordWriter } from "./record_writer.ts";
import { CipherState } from "./symmetric_state.ts";

/** Whom to speak with, and about what. */
export interface ShakeHandsOptions {
  /** What this side's messages carry, the first one first; nothing where there is none. */
  readonly payloads?: readonly Uint8Array[];
  /**
   * Whether to go on with the owner of a static key that the handshake brings; asked as soon as the key arrives, before anything is sent to it.
   * With the patterns that send a key before proof of its possession (IN, IX), the proof comes with the next message.
   */
  readonly authorize?: (remoteStaticKey: Uint8Array) => boolean | Promise<boolean>;
}

/**
 * Exchanges the messages of a handshake, each after its length in 16 bits.
 *
 * @returns the payloads of the other side's messages
 * @throws {MalformedMessageError} if a message is not as it should be
 * @throws {NetworkError} `reset` if the connection is cut
 * @throws {RefusedError} if `authorize` says no
 * @throws {RangeError} if a payload is too long for a message of {@linkcode MAX_HANDSHAKE_MESSAGE_LENGTH} bytes
 */
export async function shakeHands(
  stream: ByteStream,
  frames: FrameReader,
  state: HandshakeState,
  { payloads = [], authorize }: ShakeHandsOptions,
): Promise<Uint8Array[]> {
  const unsent = [...payloads];
  const received: Uint8Array[] = [];
  let isAuthorized = authorize === undefined || state.remoteStaticKey !== undefined;
  while (state.nextStep !== "split") {
    if (state.nextStep === "write") {
      await writeAll(stream, frame(state.writeMessage(unsent.shift())));
      continue;
    }
    received.push(state.readMessage(await frames.next(MAX_HANDSHAKE_MESSAGE_LENGTH)));
    const remoteStaticKey = state.remoteStaticKey;
    if (isAuthorized || remoteStaticKey === undefined) continue;
    if (!await authorize!(remoteStaticKey)) {
      throw new RefusedError(
        "Cannot shake hands: the other side's static key is not authorized",
        0,
      );
    }
    isAuthorized = true;
  }
  return received;
}

function frame(message: Uint8Array): Uint8Array {
  if (message.length > MAX_HANDSHAKE_MESSAGE_LENGTH) {
    throw new RangeError(
      `Cannot shake hands: a message of ${message.length} bytes is over ${MAX_HANDSHAKE_MESSAGE_LENGTH}`,
    );
  }
  const length = new Uint8Array(LENGTH_BYTES);
  writeLength(length, message.length);
  return concat(length, message);
}

/** Ours: room for a payload like a certificate, and little for a stranger to fill. */
export const MAX_HANDSHAKE_MESSAGE_LENGTH = 4094;

/** How to secure a connection. */
export interface SecureConnectionOptions
  extends Omit<HandshakeOptions, "ephemeralKey">, ShakeHandsOptions {
  /** Gives up the handshake, and cuts the connection. Strangers can take forever, so there has to be one. */
  readonly signal: AbortSignal;
}

/**
 * Shakes hands over a connection, and secures it. The connection is taken over, and cut on failure.
 *
 * @example
 * ```ts
 * import { secureConnection } from "./secure_connection.ts";
 * import { generateKeyPair } from "./key_pair.ts";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const { port } = listener.addr as Deno.NetAddr;
 * const staticKey = generateKeyPair(); // the responder's identity: its public key is known to its peers
 * const signal = AbortSignal.timeout(10_000);
 * const [client, server] = await Promise.all([
 *   Deno.connect({ hostname: "127.0.0.1", port }).then((conn) =>
 *     secureConnection(conn, {
 *       ...{ pattern: "NK", role: "initiator", signal },
 *       remoteStaticKey: staticKey.publicKey,
 *     })
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
 * @throws {TypeError} if the options are no good for the pattern
 * @throws {MalformedMessageError} if the other side does not know the keys that it should, or something was changed
 * @throws {NetworkError} `reset` if the connection is cut
 * @throws {RefusedError} if `authorize` says no
 * @throws the signal's reason on abort
 */
export async function secureConnection(
  stream: ByteStream,
  options: SecureConnectionOptions,
): Promise<SecureConnection> {
  const { signal } = options;
  let isCut = false;
  const cutOnce = () => {
    if (!isCut) cut(stream);
    isCut = true;
  };
  signal.addEventListener("abort", cutOnce, { once: true });
  try {
    signal.throwIfAborted();
    using state = new HandshakeState({ ...options, ephemeralKey: generateKeyPair() });
    const frames = new FrameReader(stream, addressesOf(stream).remote);
    const payloads = await shakeHands(stream, frames, state, options);
    signal.throwIfAborted();
    const { remoteStaticKey, handshakeHash } = state;
    const known = { remoteStaticKey, handshakeHash, handshakePayloads: payloads };
    return new SecureConnection(stream, frames, { ...known, ...state.split() });
  } catch (error) {
    cutOnce();
    signal.throwIfAborted(); // then the error only says that the connection was cut
    throw error;
  } finally {
    signal.removeEventListener("abort", cutOnce);
  }
}

/** Keys that a handshake has led to which took place elsewhere, such as in the messages before the connection. */
export interface ConnectionKeys {
  /** For what this side sends: 32 bytes, taken over, and zeroed in the end. */
  readonly sendKey: Uint8Array<ArrayBuffer>;
  /** For what it receives, the other side's `sendKey`; as that. */
  readonly receiveKey: Uint8Array<ArrayBuffer>;
  /** The same on both sides, and on no other connection. */
  readonly handshakeHash: Uint8Array;
  /** The other side's static key, if the handshake has proved one. */
  readonly remoteStaticKey?: Uint8Array;
}

/**
 * Secures a connection without another handshake, and so without a round trip. The connection is taken over.
 *
 * The keys must be of this connection alone: with the same keys on two of them, whoever sees both can read them.
 *
 * @throws {TypeError} if a key is not 32 bytes long
 */
export function secureConnectionFromKeys(
  stream: ByteStream,
  { sendKey, receiveKey, handshakeHash, remoteStaticKey }: ConnectionKeys,
): SecureConnection {
  requireKeyLength(sendKey, "key to send with");
  requireKeyLength(receiveKey, "key to receive with");
  return new SecureConnection(stream, new FrameReader(stream, addressesOf(stream).remote), {
    ...{ handshakeHash, remoteStaticKey, handshakePayloads: [] },
    send: new CipherState(sendKey),
    receive: new CipherState(receiveKey),
  });
}

/**
 * An encrypted and authenticated stream of bytes, both a `Deno.Conn` and a `TcpConnection`.
 *
 * Who has sent all says so with `closeWrite()`, and the other side reads to the end. `close()` without it cuts the
 * connection, as does disposal, and the other side's `read()` fails: a stream that was cut short, by a program that
 * failed or by somebody on the way, never looks like a finished one.
 */
export class SecureConnection implements Disposable {
  /** This side's address. */
  readonly local: TransportAddress;
  /** The other side's address. */
  readonly remote: TransportAddress;
  /** The other side's static key, proved by the handshake; `undefined` if the pattern has none. */
  readonly remoteStaticKey: Uint8Array | undefined;
  /** The same on both sides, and on no other connection: for channel binding (Noise §11.2). */
  readonly handshakeHash: Uint8Array;
  /** What the other side's handshake messages carried, the first one first. */
  readonly handshakePayloads: readonly Uint8Array[];
  readonly #stream: ByteStream;
  readonly #reader: RecordReader;
  readonly #writer: RecordWriter;
  /** What is read from at present, and which part of it was not read yet. */
  #record = NOTHING;
  #unread = NOTHING;
  #isReading = false;
  #isClosed = false;
  #writeClosed: Promise<void> | undefined;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  /** @ignore use {@linkcode secureConnection} or {@linkcode secureConnectionFromKeys} */
  constructor(stream: ByteStream, frames: FrameReader, secured: SecuredBy) {
    const { local, remote } = addressesOf(stream);
    this.local = local;
    this.remote = remote;
    this.remoteStaticKey = secured.remoteStaticKey;
    this.handshakeHash = secured.handshakeHash;
    this.handshakePayloads = secured.handshakePayloads;
    const { send, receive } = secured;
    this.#stream = stream;
    this.#reader = new RecordReader(frames, new RecordCipher(receive), (failure) => {
      this.#end(failure, () => cut(stream));
    });
    this.#writer = new RecordWriter(stream, new RecordCipher(send));
  }

  /** This side's address, as Deno has it. */
  get localAddr(): NetAddress {
    return toNetAddress(this.local);
  }

  /** The other side's address, as Deno has it. */
  get remoteAddr(): NetAddress {
    return toNetAddress(this.remote);
  }

  /**
   * Fills the start of `buffer`; the number of bytes, or `null` once the other side has finished.
   *
   * @throws {MalformedMessageError} if something was changed, repeated or left out
   * @throws {NetworkError} `reset` if the connection was cut, `closed` if by this side
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
   * Writes all of `data`, which must not change until then; the number of bytes. A record of them may still be on its
   * way: `closeWrite()` waits for it, `close()` does not, and its failure is told to the next call.
   *
   * @throws {NetworkError} `closed` if this side has closed the connection, or what it fails with
   */
  async write(data: Uint8Array): Promise<number> {
    await this.#writer.write(data);
    return data.length;
  }

  /** Waits until all is written, and tells the other side that this was all; reading goes on. */
  closeWrite(): Promise<void> {
    return this.#writeClosed ??= this.#writer.end().then(() => this.#stream.closeWrite());
  }

  /** What the other side sends, until it finishes. Cancelling it closes the connection. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      pull: async (controller) => {
        this.#requireNoOtherRead();
        this.#isReading = true;
        try {
          const unread = this.#unread;
          this.#unread = NOTHING;
          const next = unread.length > 0 ? unread.slice() : await this.#reader.read();
          if (next === null) controller.close();
          else controller.enqueue(next);
        } finally {
          this.#isReading = false;
        }
      },
      cancel: () => this.close(),
    }, { highWaterMark: 0 });
  }

  /** What this side sends. Closing it is `closeWrite()`, aborting it `close()`. */
  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= new WritableStream({
      write: async (data) => void await this.write(data),
      close: () => this.closeWrite(),
      abort: () => this.close(),
    });
  }

  /** Closes both directions; idempotent. Without `closeWrite()` before, the other side sees a cut. */
  close(): void {
    this.#end(this.#closedError(), () => this.#stream.close());
  }

  /** As `close()`, with RST where that can be done. */
  reset(): void {
    this.#end(this.#closedError(), () => cut(this.#stream));
  }

  /** Keeps the program running while a read waits, which is so by default. */
  ref(): void {
    if ("ref" in this.#stream) this.#stream.ref?.();
  }

  /** Lets the program end while a read waits, where the connection can do that. */
  unref(): void {
    if ("unref" in this.#stream) this.#stream.unref?.();
  }

  /** As `close()`. */
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

  /** The reader alone does not know: when it is done, the read that it was for has not gone on yet. */
  #requireNoOtherRead(): void {
    if (this.#isReading) throw new TypeError("Cannot read: another read is waiting");
  }

  #closedError(): NetworkError {
    const remote = formatTransportAddress(this.remote);
    return new NetworkError(`Cannot use the connection to ${remote}: it is closed`, "closed");
  }
}

/** What a handshake has led to. */
interface SecuredBy {
  readonly remoteStaticKey: Uint8Array | undefined;
  readonly handshakeHash: Uint8Array;
  readonly handshakePayloads: readonly Uint8Array[];
  readonly send: CipherState;
  readonly receive: CipherState;
}

/** A `Deno.NetAddr`. */
export interface NetAddress {
  readonly transport: "tcp";
  readonly hostname: string;
  readonly port: number;
}

function toNetAddress({ ip, port }: TransportAddress): NetAddress {
  return { transport: "tcp", hostname: ip, port };
}

const NOTHING = new Uint8Array(0);
