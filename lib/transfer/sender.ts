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
import { type CollectedFiles, collectFiles, type SkippedFile } from "./collect.ts";
import { FileError, type FileSystem, type ReadableFile } from "./files.ts";
import { hashFile, type ManifestEntry, type OfferSummary, summarize } from "./manifest.ts";
import {
  encodeDataHeader,
  encodeTransferMessage,
  entryBytes,
  type FailureReason,
  HEADER_BYTES,
  type HeldEntry,
  inMessages,
  MAX_LIST_BYTES,
  type PlanStep,
  REFUSED_BYTES,
  type RefusedEntry,
  skippedBytes,
} from "./message.ts";
import type { TransferMessageReader } from "./message_reader.ts";
import { OfferRace, type OtherReceivers } from "./offer_race.ts";
import { checkManifest } from "./paths.ts";
import { type ProgressListeners, ProgressMeter, type TransferResult } from "./progress.ts";
import {
  type NextConnection,
  type ReconnectOptions,
  type ResumableJob,
  runOverConnections,
} from "./reconnect.ts";
import { endRefused, FAILURE_TEXT, REFUSAL_TEXT } from "./refuse.ts";
import { systemFiles } from "./system_files.ts";

/** The options of {@linkcode sendFiles}. */
export interface SendFilesOptions extends ReconnectOptions, ProgressListeners {
  /**
   * Called before the first connection with the offer, and with what the folders contain that is not sent, by its path in
   * the file system.
   */
  readonly onOffer?: (offer: OfferSummary, skipped: readonly SkippedFile[]) => void;
  /** The file system. Default: the system's. */
  readonly files?: FileSystem;
  /** @ignore more receivers that may look at the offer until one accepts it, for the command line */
  readonly others?: OtherReceivers;
}

/**
 * Sends files and folders to {@linkcode receiveFiles} at the other end. If a connection breaks, it continues over the
 * next one. Data that has arrived is not sent again, even if either program was restarted meanwhile.
 *
 * Folders are sent with all their content, including empty folders. A symbolic link in a folder is sent as a link if its
 * target is relative and inside that folder. Other links, devices, sockets, pipes and names that are not UTF-8 are skipped,
 * as `TransferResult.skipped` says; a file that cannot be read, or that changes meanwhile, is in `TransferResult.refused`.
 * The rest is sent. A source that is itself a symbolic link is followed. Modification times of files and whether they are
 * executable are preserved; owners and other permissions are not.
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
 * @throws {TransferError} if two sources have the same name, if the receiver declines or fails, or if the connection
 *   breaks for good
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
  const { manifest, skipped, skippedFiles } = collection;
  if (manifest.length > 0) checkManifest(manifest, { maxEntries: Infinity }, "send");
  onOffer?.(summarize(manifest, skipped), skippedFiles);
  const meter = new ProgressMeter(collection, options);
  const job = new SendJob(files, collection, meter, options);
  const { elapsedMs, breaks } = await runOverConnections(next, job, options);
  return meter.result(elapsedMs, breaks);
}

/** Sends everything, over as many connections as it takes. */
class SendJob implements ResumableJob<true> {
  readonly #files: FileSystem;
  readonly #collection: CollectedFiles;
  readonly #meter: ProgressMeter;
  readonly #options: SendFilesOptions;
  #heldBytes = 0;

  constructor(
    files: FileSystem,
    collection: CollectedFiles,
    meter: ProgressMeter,
    options: SendFilesOptions,
  ) {
    this.#files = files;
    this.#collection = collection;
    this.#meter = meter;
    this.#options = options;
  }

  /** How many bytes the receiver has acknowledged: sending alone is no progress. */
  get progress(): number {
    return this.#heldBytes;
  }

  /** Unknown until DONE arrives. */
  get result(): undefined {
    return undefined;
  }

  async run(first: TcpConnection): Promise<true> {
    const { others, signal } = this.#options;
    await using race = new OfferRace({
      offer: ({ connection }) => this.#offer(connection),
      readAnswer: ({ reader }) => this.#readHeld(reader),
    }, { others, signal });
    const { receiver: { connection, reader }, answer } = await race.run(first);
    const receiver = new ReceiverReplies(connection, reader);
    try {
      await this.#sendAll(connection, answer, receiver);
      return true;
    } catch (error) {
      const reason = receiver.failure ?? error;
      await endRefused(reason, { connection, reader }, () => receiver.end());
      throw reason;
    }
  }

  async #sendAll(
    connection: TcpConnection,
    held: ReadonlyMap<number, HeldEntry>,
    receiver: ReceiverReplies,
  ): Promise<void> {
    const steps = await this.#plan(held);
    await writeAll(
      connection,
      encodeTransferMessage({ type: "plan", steps: steps.map(({ step }) => step) }),
    );
    receiver.listen(4 + REFUSED_BYTES * steps.length);
    this.#meter.begin(steps.map(({ offset }) => offset));
    this.#heldBytes = steps.reduce((sum, { offset }) => sum + offset, 0);
    for (const [index, planned] of steps.entries()) {
      if (planned.isRefused) continue; // DONE says why
      if (planned.step === "compare") await this.#sendHash(connection, index, planned);
      else if (planned.step !== "keep") await this.#send(connection, index, planned);
      if (planned.step !== "compare" && !this.#meter.isRefused(index)) this.#meter.finish(index);
    }
    for (const { index, reason } of await receiver.done) {
      if (index >= steps.length) throw malformed("done", `there is no entry ${index}`);
      this.#meter.refuse(index, "receiver", REFUSAL_TEXT[reason]);
    }
    for (const [index, { step }] of steps.entries()) { // only the receiver knew whether they are equal
      if (step === "compare" && !this.#meter.isRefused(index)) this.#meter.finish(index);
    }
    await connection.closeWrite().catch(() => {}); // the receiver may be gone already, and has everything
  }

  async #offer(connection: TcpConnection): Promise<void> {
    const { manifest, skipped } = this.#collection;
    await writeAll(connection, encodeTransferMessage({ type: "offer" }));
    for (const entries of inMessages(manifest, entryBytes)) {
      await writeAll(connection, encodeTransferMessage({ type: "entries", entries }));
    }
    for (const some of inMessages(skipped, skippedBytes)) {
      await writeAll(connection, encodeTransferMessage({ type: "skipped", skipped: some }));
    }
    const counts = { entries: manifest.length, skipped: skipped.length };
    await writeAll(connection, encodeTransferMessage({ type: "offered", ...counts }));
  }

  /** Reads HELD, as often as it comes, and ANSWER. */
  async #readHeld(reader: TransferMessageReader): Promise<ReadonlyMap<number, HeldEntry>> {
    const held = new Map<number, HeldEntry>();
    for (;;) {
      const message = await reader.next({ held: MAX_LIST_BYTES, answer: 4 });
      if (message instanceof Uint8Array) throw malformed("type", "data was not expected");
      if (message.type === "answer") {
        if (message.held === held.size) return held;
        throw malformed("answer", `it counts ${message.held} entries, but ${held.size} were named`);
      }
      if (message.type !== "held") continue;
      for (const each of message.held) {
        const isKnown = each.index < this.#collection.manifest.length && !held.has(each.index);
        if (!isKnown) throw malformed("held", `it names entry ${each.index}`);
        held.set(each.index, each);
      }
    }
  }

  async #plan(held: ReadonlyMap<number, HeldEntry>): Promise<PlannedStep[]> {
    const steps: PlannedStep[] = [];
    for (const [index, entry] of this.#collection.manifest.entries()) {
      steps.push(await this.#planOne(entry, held.get(index)));
    }
    return steps;
  }

  async #planOne(entry: ManifestEntry, held: HeldEntry | undefined): Promise<PlannedStep> {
    const { kind, size } = entry;
    if (held?.state === "refused") return REFUSED;
    if (kind !== "file") return KEEP_NOTHING;
    if (held?.state === "done") return { step: "keep", offset: size };
    if (held?.state === "compare") return { step: "compare", offset: size };
    if (held === undefined || !("hash" in held) || held.length > size) return SEND_ALL;
    const { length, state } = held;
    const hash = await this.#hash(entry, length);
    if (hash === undefined || !equalBytes(hash.digest(), held.hash)) return SEND_ALL;
    if (state === "part") return { step: "continue", offset: length, hash };
    return length === size ? { step: "keep", offset: size } : SEND_ALL;
  }

  /** `undefined` if the file is shorter or cannot be read, which is reported when it is sent. */
  async #hash(entry: ManifestEntry, length: number): Promise<RunningHash | undefined> {
    try {
      using file = await this.#files.open(this.#collection.pathOf(entry), 0);
      return await hashFile(file, length);
    } catch (error) {
      if (error instanceof FileError) return undefined;
      throw error;
    }
  }

  /** The receiver compares it with that of its own file. */
  async #sendHash(connection: TcpConnection, index: number, planned: PlannedStep): Promise<void> {
    const hash = await this.#hash(this.#collection.manifest[index]!, planned.offset);
    if (hash !== undefined) return await this.#send(connection, index, { ...planned, hash });
    await this.#fail(connection, index, "changed");
  }

  async #send(
    connection: TcpConnection,
    index: number,
    { offset, hash }: PlannedStep,
  ): Promise<void> {
    const entry = this.#collection.manifest[index]!;
    try {
      await sendFile(connection, {
        files: this.#files,
        path: this.#collection.pathOf(entry),
        entry,
        offset,
        hash,
        onPiece: (length) => this.#meter.add(index, length),
      });
    } catch (error) {
      const reason = failureReason(error);
      if (reason === undefined) throw error;
      await this.#fail(connection, index, reason);
    }
  }

  async #fail(connection: TcpConnection, index: number, reason: FailureReason): Promise<void> {
    await writeAll(connection, encodeTransferMessage({ type: "failed", reason }));
    this.#meter.refuse(index, "sender", FAILURE_TEXT[reason]);
  }
}

/** What the receiver replies while files are sent: only DONE or REFUSAL. */
class ReceiverReplies {
  readonly #connection: TcpConnection;
  readonly #reader: TransferMessageReader;
  #done: Promise<readonly RefusedEntry[]> | undefined;
  #failure: unknown;

  constructor(connection: TcpConnection, reader: TransferMessageReader) {
    this.#connection = connection;
    this.#reader = reader;
  }

  /** Why the transfer failed: the receiver has sent REFUSAL, or the connection broke. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Resolves once the receiver has everything, to what it refused. */
  get done(): Promise<readonly RefusedEntry[]> {
    return this.#done ?? Promise.resolve([]);
  }

  /**
   * Starts listening. A failure resets the connection, which ends a write that the receiver no longer reads.
   *
   * @param maxLength the longest that DONE may be
   */
  listen(maxLength: number): void {
    this.#done = this.#reader.expect("done", maxLength).then(({ refused }) => refused);
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
  /** Whether the receiver does not take it. */
  readonly isRefused?: boolean;
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
 * @throws {ChangedError} if the file differs from what was offered
 * @throws {FileError} if it cannot be read
 */
async function sendFile(
  connection: TcpConnection,
  options: SendFileOptions,
): Promise<void> {
  const { files, path, entry, offset, hash = new RunningHash("sha256"), onPiece } = options;
  using file = await files.open(path, offset);
  await checkUnchanged(file, entry);
  let left = entry.size - offset;
  const pieceBytes = Math.min(PIECE_BYTES, left);
  const buffers = [0, 1].map(() => new Uint8Array(HEADER_BYTES + pieceBytes));
  const read = (turn: number) => {
    const end = HEADER_BYTES + Math.min(pieceBytes, left);
    return file.read(buffers[turn % 2]!.subarray(HEADER_BYTES, end));
  };
  for (let turn = 0, count = left > 0 ? await read(turn) : 0; left > 0; turn++) {
    if (count === null) throw new ChangedError();
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
  // Files of /proc have a size of 0, whatever is in them.
  if (entry.size === 0 && await file.read(new Uint8Array(1)) !== null) throw new ChangedError();
  await checkUnchanged(file, entry);
  await writeAll(connection, encodeTransferMessage({ type: "end", hash: hash.digest() }));
}

async function checkUnchanged(file: ReadableFile, entry: ManifestEntry): Promise<void> {
  const { kind, size, modifiedMs } = await file.stat();
  const isSame = kind === "file" && size === entry.size &&
    Math.max(modifiedMs, 0) === entry.modifiedMs;
  if (!isSame) throw new ChangedError();
}

/** A file is not what it was when it was offered. */
class ChangedError extends Error {}

/** Why a file could not be sent; `undefined` if something else went wrong. */
function failureReason(error: unknown): FailureReason | undefined {
  if (error instanceof ChangedError) return "changed";
  return error instanceof FileError ? "unreadable" : undefined;
}

/** Chosen by us: as fast on loopback as half of it, with fewer messages. */
const PIECE_BYTES = 256 * 1024;

const SEND_ALL: PlannedStep = { step: "send", offset: 0 };
const KEEP_NOTHING: PlannedStep = { step: "keep", offset: 0 };
const REFUSED: PlannedStep = { step: "keep", offset: 0, isRefused: true };
