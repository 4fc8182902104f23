/**
 * The sender's side of the protocol.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { RunningHash } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { writeAll } from "../base/reader.ts";
import { type FileSystem, type ReadableFile, TransferError } from "./files.ts";
import {
  collect,
  type Collection,
  hashFile,
  type ManifestEntry,
  type OfferSummary,
  type SkippedFile,
  summarize,
} from "./manifest.ts";
import {
  encodeDataHeader,
  encodeMessage,
  HASH_BYTES,
  HEADER_BYTES,
  type Held,
  type PlanStep,
} from "./message.ts";
import { MessageReader } from "./message_reader.ts";
import { checkManifest, printable } from "./paths.ts";
import { type ProgressListeners, ProgressMeter, type TransferResult } from "./progress.ts";
import {
  type NextConnection,
  overConnections,
  type ReconnectOptions,
  type Run,
} from "./reconnect.ts";
import { refuse } from "./refuse.ts";
import { systemFiles } from "./system_files.ts";

/** What to send. */
export interface SendFileOptions {
  readonly files: FileSystem;
  readonly path: string;
  /** What the file was when it was offered. */
  readonly entry: ManifestEntry;
  /** Where to begin. */
  readonly offset: number;
  /** Of the bytes before that. */
  readonly hash?: RunningHash;
  /** Told after every piece. */
  onPiece(length: number): void;
}

/**
 * Sends a file from `offset` on. The next piece is read while one is written.
 *
 * @throws {TransferError} `changed` if it is not any more what was offered
 */
export async function sendFile(
  connection: TcpConnection,
  options: SendFileOptions,
): Promise<void> {
  const { files, path, entry, offset, hash = new RunningHash("sha256"), onPiece } = options;
  using file = await files.open(path, offset);
  await checkUnchanged(file, entry);
  const buffers = [new Uint8Array(MESSAGE_BYTES), new Uint8Array(MESSAGE_BYTES)] as const;
  let left = entry.size - offset;
  const read = (turn: number) => {
    const end = HEADER_BYTES + Math.min(PIECE_BYTES, left);
    return file.read(buffers[turn % 2]!.subarray(HEADER_BYTES, end));
  };
  let next = left > 0 ? read(0) : undefined;
  for (let turn = 0; next !== undefined; turn++) {
    const count = await next;
    if (count === null) throw changed(entry);
    left -= count;
    const message = buffers[turn % 2]!.subarray(0, HEADER_BYTES + count);
    encodeDataHeader(count, message);
    next = left > 0 ? read(turn + 1) : undefined;
    next?.catch(() => {}); // thrown by the next turn, if there is one
    const written = writeAll(connection, message);
    hash.update(message.subarray(HEADER_BYTES));
    try {
      await written;
    } catch (error) {
      await next?.catch(() => {}); // the file is not closed under a read
      throw error;
    }
    onPiece(count);
  }
  await checkUnchanged(file, entry);
  await writeAll(connection, encodeMessage({ type: "end", hash: hash.digest() }));
}

async function checkUnchanged(file: ReadableFile, entry: ManifestEntry): Promise<void> {
  const { kind, size, modifiedMs } = await file.stat();
  const isSame = kind === "file" && size === entry.size &&
    Math.max(modifiedMs, 0) === entry.modifiedMs;
  if (!isSame) throw changed(entry);
}

function changed({ path }: ManifestEntry): TransferError {
  return new TransferError(
    `Cannot send ${printable(path)}: it was changed since it was offered`,
    "changed",
  );
}

/** Ours: no slower on loopback than half of it, and fewer messages. */
const PIECE_BYTES = 256 * 1024;
const MESSAGE_BYTES = HEADER_BYTES + PIECE_BYTES;

/** Sends a collection, over as many connections as it takes. */
export class Sending implements Run<true> {
  readonly #files: FileSystem;
  readonly #collection: Collection;
  readonly #meter: ProgressMeter;
  #heldBytes = 0;

  /** @param meter for the manifest of the collection */
  constructor(files: FileSystem, collection: Collection, meter: ProgressMeter) {
    this.#files = files;
    this.#collection = collection;
    this.#meter = meter;
  }

  /** What the receiver has: that something was sent proves nothing. */
  get progress(): number {
    return this.#heldBytes;
  }

  /** Until the receiver says that it has it all, nobody knows. */
  get outcome(): undefined {
    return undefined;
  }

  async over(connection: TcpConnection): Promise<true> {
    const reader = new MessageReader(connection);
    const receiver = new Receiver(connection, reader);
    try {
      await this.#talk(connection, reader, receiver);
      return true;
    } catch (error) {
      const reason = receiver.failure ?? error;
      if (!reader.isRefused) await refuse(reason, connection, () => receiver.end());
      throw reason;
    }
  }

  async #talk(
    connection: TcpConnection,
    reader: MessageReader,
    receiver: Receiver,
  ): Promise<void> {
    const { manifest } = this.#collection;
    await writeAll(connection, encodeMessage({ type: "offer", manifest }));
    const { held } = await reader.expect("answer", 4 + manifest.length * MAX_HELD_BYTES);
    if (held.length !== manifest.length) {
      throw new MalformedMessageError(
        `Cannot read answer: ${held.length} entries, ${manifest.length} were offered`,
      );
    }
    const steps = await this.#plan(held);
    await writeAll(
      connection,
      encodeMessage({ type: "plan", steps: steps.map(({ step }) => step) }),
    );
    receiver.listen();
    this.#meter.begin(steps.map(({ offset }) => offset));
    this.#heldBytes = steps.reduce((sum, { offset }) => sum + offset, 0);
    for (const [index, planned] of steps.entries()) {
      if (planned.step !== "keep") await this.#send(connection, index, planned);
      this.#meter.finish(index);
    }
    await receiver.done;
    await connection.closeWrite().catch(() => {}); // the receiver may have gone already
  }

  async #plan(held: readonly Held[]): Promise<PlannedStep[]> {
    const steps: PlannedStep[] = [];
    for (const [index, each] of held.entries()) steps.push(await this.#planOne(index, each));
    return steps;
  }

  async #planOne(index: number, held: Held): Promise<PlannedStep> {
    const { kind, size } = this.#collection.manifest[index]!;
    if (kind === "folder") return { step: "keep", offset: 0 };
    if (held.state === "done") return { step: "keep", offset: size };
    if (!("hash" in held) || held.length > size) return { step: "send", offset: 0 };
    const { length, state } = held;
    const hash = await hashFile(this.#files, this.#collection.paths[index]!, length);
    if (hash === undefined || !equalBytes(hash.digest(), held.hash)) {
      return { step: "send", offset: 0 };
    }
    if (state === "part") return { step: "continue", offset: length, hash };
    return length === size ? { step: "keep", offset: size } : { step: "send", offset: 0 };
  }

  async #send(
    connection: TcpConnection,
    index: number,
    { offset, hash }: PlannedStep,
  ): Promise<void> {
    await sendFile(connection, {
      files: this.#files,
      path: this.#collection.paths[index]!,
      entry: this.#collection.manifest[index]!,
      offset,
      hash,
      onPiece: (length) => this.#meter.add(index, length),
    });
  }
}

/** What the receiver says while it is sent files: nothing but that it has them all, or that it cannot go on. */
class Receiver {
  readonly #connection: TcpConnection;
  readonly #reader: MessageReader;
  #done: Promise<unknown> | undefined;
  #failure: unknown;

  constructor(connection: TcpConnection, reader: MessageReader) {
    this.#connection = connection;
    this.#reader = reader;
  }

  /** Why nothing comes from the receiver any more: it has said so, or the connection broke. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Resolves once it has it all. */
  get done(): Promise<unknown> {
    return this.#done ?? Promise.resolve();
  }

  /** A failure ends the connection, and with it a write that nobody reads any more. */
  listen(): void {
    this.#done = this.#reader.expect("done", 0);
    this.#done.catch((error) => {
      this.#failure = error;
      this.#connection.reset();
    });
  }

  /** Settles once the receiver has ended the stream. */
  async end(): Promise<void> {
    if (this.#done !== undefined) await this.#done;
    else await this.#reader.drain();
  }
}

interface PlannedStep {
  readonly step: PlanStep;
  /** What the receiver has of it, once this is planned. */
  readonly offset: number;
  /** Of those bytes. */
  readonly hash?: RunningHash;
}

const MAX_HELD_BYTES = 9 + HASH_BYTES;

/** How to send. */
export interface SendFilesOptions extends ReconnectOptions, ProgressListeners {
  /** Told what will be offered, and what of the folders will not, before the first connection. */
  readonly onOffer?: (offer: OfferSummary, skipped: readonly SkippedFile[]) => void;
  /** The system's unless given. */
  readonly files?: FileSystem;
}

/**
 * Sends files and folders to whoever receives them with `receiveFiles()` at the other end. A connection that breaks is
 * followed by the next, and what has arrived is not sent again, also if either program was started anew meanwhile.
 *
 * Folders are sent with all that is in them, empty folders too, but for symbolic links, devices, sockets and pipes,
 * which are skipped. A source that is itself a symbolic link stands for what it points to. Times and whether a file is
 * executable are kept; owners and other permissions are not.
 *
 * ```ts ignore
 * import { sendFiles } from "@punchline/punchline/transfer";
 *
 * const incoming = peer[Symbol.asyncIterator]();
 * const next = async () => (await incoming.next()).value;
 * const { files, bytes } = await sendFiles(next, ["photos", "notes.txt"]);
 * ```
 *
 * @param next gets the first connection, and after a break the next; nothing is waited for longer than it takes
 * @param sources paths of files and folders, of which no two have one name
 * @throws {FileError} if something cannot be read
 * @throws {TransferError} if no receiver could take it, the receiver declines or fails, a file changes meanwhile, or no connection is to be had
 * @throws {MalformedMessageError} if the other end speaks something else
 * @throws the signal's reason on abort, and what `next` fails with before the first connection
 */
export async function sendFiles(
  next: NextConnection,
  sources: readonly string[],
  options: SendFilesOptions = {},
): Promise<TransferResult> {
  const { files = systemFiles, onOffer, signal } = options;
  if (sources.length === 0) throw new TypeError("Cannot send files: none are given");
  signal?.throwIfAborted();
  const collection = await collect(files, sources);
  checkManifest(collection.manifest, "posix", {}, "send");
  onOffer?.(summarize(collection.manifest), collection.skipped);
  const meter = new ProgressMeter(collection.manifest, options);
  const run = new Sending(files, collection, meter);
  const { elapsedMs, breaks } = await overConnections(next, run, options);
  return meter.result(elapsedMs, breaks);
}
