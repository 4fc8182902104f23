/**
 * The sending side of a transfer.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { RunningHash } from "../base/crypto.ts";
import { malformed } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { runAll } from "../base/tasks.ts";
import type { TcpConnection } from "../net/network.ts";
import { type FileSystem, type ReadableFile, TransferError } from "./files.ts";
import {
  type CollectedFiles,
  collectFiles,
  hashFile,
  type ManifestEntry,
  type OfferSummary,
  type SkippedFile,
  summarize,
} from "./manifest.ts";
import {
  encodeDataHeader,
  encodeTransferMessage,
  HASH_BYTES,
  HEADER_BYTES,
  type HeldEntry,
  type PlanStep,
} from "./message.ts";
import { TransferMessageReader } from "./message_reader.ts";
import { checkManifest, printable } from "./paths.ts";
import { type ProgressListeners, ProgressMeter, type TransferResult } from "./progress.ts";
import {
  type NextConnection,
  type ReconnectOptions,
  type ResumableJob,
  runOverConnections,
} from "./reconnect.ts";
import { sendRefusal } from "./refuse.ts";
import { systemFiles } from "./system_files.ts";

/** The options of {@linkcode sendFiles}. */
export interface SendFilesOptions extends ReconnectOptions, ProgressListeners {
  /** Called before the first connection with the offer, and with what the folders contain that is not sent. */
  readonly onOffer?: (offer: OfferSummary, skipped: readonly SkippedFile[]) => void;
  /** The file system. Default: the system's. */
  readonly files?: FileSystem;
}

/**
 * Sends files and folders to {@linkcode receiveFiles} at the other end. If a connection breaks, it continues over the
 * next one. Data that has arrived is not sent again, even if either program was restarted meanwhile.
 *
 * Folders are sent with all their content, including empty folders; symbolic links, devices, sockets and pipes in them
 * are skipped. A source that is itself a symbolic link is followed. Modification times and whether a file is executable
 * are preserved; owners and other permissions are not.
 *
 * ```ts ignore
 * import { sendFiles } from "@punchline/punchline/transfer";
 *
 * const incoming = peer[Symbol.asyncIterator]();
 * const next = async () => (await incoming.next()).value;
 * const { files, bytes } = await sendFiles(next, ["photos", "notes.txt"]);
 * ```
 *
 * @param next opens the first connection, and another one after every break
 * @param sources paths of files and folders, no two with the same name
 * @throws {TypeError} if there are no sources
 * @throws {FileError} if a file or folder cannot be read
 * @throws {TransferError} if a name is not allowed on some system, if the receiver declines or fails, if a file changes
 *   during the transfer, or if the connection breaks for good
 * @throws {MalformedMessageError} if the other end breaks the protocol
 * @throws the signal's reason on abort, and the failure of `next` for the first connection
 */
export async function sendFiles(
  next: NextConnection,
  sources: readonly string[],
  options: SendFilesOptions = {},
): Promise<TransferResult> {
  const { files = systemFiles, onOffer, signal } = options;
  if (sources.length === 0) throw new TypeError("Cannot send files: no sources are given");
  signal?.throwIfAborted();
  const collection = await collectFiles(files, sources);
  checkManifest(collection.manifest, "posix", {}, "send");
  onOffer?.(summarize(collection.manifest), collection.skipped);
  const meter = new ProgressMeter(collection.manifest, options);
  const job = new SendJob(files, collection, meter);
  const { elapsedMs, breaks } = await runOverConnections(next, job, options);
  return meter.result(elapsedMs, breaks);
}

/** Sends everything, over as many connections as it takes. */
class SendJob implements ResumableJob<true> {
  readonly #files: FileSystem;
  readonly #collection: CollectedFiles;
  readonly #meter: ProgressMeter;
  #heldBytes = 0;

  constructor(files: FileSystem, collection: CollectedFiles, meter: ProgressMeter) {
    this.#files = files;
    this.#collection = collection;
    this.#meter = meter;
  }

  /** How many bytes the receiver has acknowledged: sending alone is no progress. */
  get progress(): number {
    return this.#heldBytes;
  }

  /** Unknown until DONE arrives. */
  get result(): undefined {
    return undefined;
  }

  async run(connection: TcpConnection): Promise<true> {
    const reader = new TransferMessageReader(connection);
    const receiver = new ReceiverReplies(connection, reader);
    try {
      await this.#sendAll(connection, reader, receiver);
      return true;
    } catch (error) {
      const reason = receiver.failure ?? error;
      if (!reader.isRefused) await sendRefusal(reason, connection, () => receiver.end());
      throw reason;
    }
  }

  async #sendAll(
    connection: TcpConnection,
    reader: TransferMessageReader,
    receiver: ReceiverReplies,
  ): Promise<void> {
    const { manifest } = this.#collection;
    await writeAll(connection, encodeTransferMessage({ type: "offer", manifest }));
    const { held } = await reader.expect("answer", 4 + manifest.length * MAX_HELD_BYTES);
    if (held.length !== manifest.length) {
      throw malformed(
        "answer",
        `it has ${held.length} entries, but ${manifest.length} were offered`,
      );
    }
    const steps = await this.#plan(held);
    await writeAll(
      connection,
      encodeTransferMessage({ type: "plan", steps: steps.map(({ step }) => step) }),
    );
    receiver.listen();
    this.#meter.begin(steps.map(({ offset }) => offset));
    this.#heldBytes = steps.reduce((sum, { offset }) => sum + offset, 0);
    for (const [index, planned] of steps.entries()) {
      if (planned.step !== "keep") await this.#send(connection, index, planned);
      this.#meter.finish(index);
    }
    await receiver.done;
    await connection.closeWrite().catch(() => {}); // the receiver may be gone already, and has everything
  }

  async #plan(held: readonly HeldEntry[]): Promise<PlannedStep[]> {
    const steps: PlannedStep[] = [];
    for (const [index, each] of held.entries()) steps.push(await this.#planOne(index, each));
    return steps;
  }

  async #planOne(index: number, held: HeldEntry): Promise<PlannedStep> {
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

/** What the receiver replies while files are sent: only DONE or REFUSAL. */
class ReceiverReplies {
  readonly #connection: TcpConnection;
  readonly #reader: TransferMessageReader;
  #done: Promise<unknown> | undefined;
  #failure: unknown;

  constructor(connection: TcpConnection, reader: TransferMessageReader) {
    this.#connection = connection;
    this.#reader = reader;
  }

  /** Why the transfer failed: the receiver has sent REFUSAL, or the connection broke. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Resolves once the receiver has everything. */
  get done(): Promise<unknown> {
    return this.#done ?? Promise.resolve();
  }

  /** Starts listening. A failure resets the connection, which ends a write that the receiver no longer reads. */
  listen(): void {
    this.#done = this.#reader.expect("done", 0);
    this.#done.catch((error) => {
      this.#failure = error;
      this.#connection.reset();
    });
  }

  /** Waits until the receiver has ended the stream. */
  async end(): Promise<void> {
    if (this.#done !== undefined) await this.#done;
    else await this.#reader.drain();
  }
}

interface PlannedStep {
  readonly step: PlanStep;
  /** How many bytes the receiver has. */
  readonly offset: number;
  /** The hash of these bytes. */
  readonly hash?: RunningHash;
}

/** What to send. */
interface SendFileOptions {
  readonly files: FileSystem;
  readonly path: string;
  /** The file as it was offered. */
  readonly entry: ManifestEntry;
  /** Where to start. */
  readonly offset: number;
  /** The hash of the bytes before it; none for offset 0. */
  readonly hash?: RunningHash;
  /** Called after every piece. */
  onPiece(length: number): void;
}

/**
 * Sends a file from `offset` on.
 *
 * @throws {TransferError} `changed` if the file differs from what was offered
 */
async function sendFile(
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
  for (let turn = 0, count = left > 0 ? await read(turn) : 0; left > 0; turn++) {
    if (count === null) throw changed(entry);
    left -= count;
    const length = count;
    const message = buffers[turn % 2]!.subarray(0, HEADER_BYTES + length);
    encodeDataHeader(length, message);
    const readAndWritten = runAll([ // both run while the piece is hashed
      () => left > 0 ? read(turn + 1) : Promise.resolve(0),
      () => writeAll(connection, message),
    ]);
    hash.update(message.subarray(HEADER_BYTES));
    [count] = await readAndWritten;
    onPiece(length);
  }
  await checkUnchanged(file, entry);
  await writeAll(connection, encodeTransferMessage({ type: "end", hash: hash.digest() }));
}

async function checkUnchanged(file: ReadableFile, entry: ManifestEntry): Promise<void> {
  const { kind, size, modifiedMs } = await file.stat();
  const isSame = kind === "file" && size === entry.size &&
    Math.max(modifiedMs, 0) === entry.modifiedMs;
  if (!isSame) throw changed(entry);
}

function changed({ path }: ManifestEntry): TransferError {
  return new TransferError(
    `Cannot send ${printable(path)}: it has changed since it was offered`,
    "changed",
  );
}

/** The most bytes of an entry in ANSWER: state, length and hash. */
const MAX_HELD_BYTES = 9 + HASH_BYTES;

/** Chosen by us: as fast on loopback as half of it, with fewer messages. */
const PIECE_BYTES = 256 * 1024;
const MESSAGE_BYTES = HEADER_BYTES + PIECE_BYTES;
