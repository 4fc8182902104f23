/**
 * The receiving side of a transfer.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { RunningHash } from "../base/crypto.ts";
import { malformed, MalformedMessageError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { runAll } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import type { TcpConnection } from "../net/network.ts";
import {
  checkFolders,
  type Destination,
  type ExistingPolicy,
  findDestination,
  freePath,
  inTheWay,
  type TargetFolder,
} from "./destination.ts";
import { FileError, type FileSystem, TransferError, type WritableFile } from "./files.ts";
import {
  type Manifest,
  type ManifestEntry,
  type OfferSummary,
  partPath,
  summarize,
} from "./manifest.ts";
import { encodeTransferMessage, HASH_BYTES, MAX_DATA_BYTES, type PlanStep } from "./message.ts";
import { TransferMessageReader } from "./message_reader.ts";
import { checkManifest, folded, MAX_MANIFEST_BYTES, type OfferLimits, printable } from "./paths.ts";
import { type ProgressListeners, ProgressMeter, type TransferResult } from "./progress.ts";
import {
  type NextConnection,
  type ReconnectOptions,
  type ResumableJob,
  runOverConnections,
} from "./reconnect.ts";
import { sendRefusal } from "./refuse.ts";
import { systemFiles } from "./system_files.ts";

/** The options of {@linkcode receiveFiles}. */
export interface ReceiveFilesOptions extends ReconnectOptions, ProgressListeners {
  /**
   * Called with the offer before anything is written; `false` declines it. The names in it are checked, but use
   * {@linkcode printable} before printing them. Default: accepts every offer.
   */
  readonly onOffer?: (offer: OfferSummary) => boolean | Promise<boolean>;
  /**
   * What to do if a different file with an offered name exists: `"refuse"` the whole offer, the default; `"overwrite"`
   * the file, but never a folder or a link; or `"rename"` the new file to `name (1)`.
   */
  readonly existing?: ExistingPolicy;
  /** The largest offer to accept. */
  readonly limits?: OfferLimits;
  /** The file system. Default: the system's. */
  readonly files?: FileSystem;
}

/**
 * Receives files and folders from {@linkcode sendFiles} at the other end, into a folder and never outside of it. If a
 * connection breaks, it continues over the next one.
 *
 * A file is named `name.punchline-part` until it is complete and its hash is verified. A later call continues such a
 * part if it matches. A file that exists with the same content is not sent again: for this, the sender gets the hash of
 * every file whose name and size match the offer.
 *
 * ```ts ignore
 * import { receiveFiles } from "@punchline/punchline/transfer";
 *
 * const next = ({ signal }) => peer.connect(ticket, { signal });
 * const { files, bytes } = await receiveFiles(next, "downloads", {
 *   onOffer: ({ files, bytes }) => confirm(`${files} files, ${bytes} bytes?`),
 * });
 * ```
 *
 * @param next opens the first connection, and another one after every break
 * @param folder an existing folder
 * @throws {TransferError} if the offer breaks a rule, was declined or collides with existing files, if a hash is wrong,
 *   if the sender gives up, or if the connection breaks for good
 * @throws {FileError} if a file or folder cannot be read or written
 * @throws {MalformedMessageError} if the other end breaks the protocol
 * @throws the signal's reason on abort, and the failure of `next` for the first connection
 */
export async function receiveFiles(
  next: NextConnection,
  folder: string,
  options: ReceiveFilesOptions = {},
): Promise<TransferResult> {
  const { files = systemFiles, existing = "refuse", signal } = options;
  signal?.throwIfAborted();
  const root = await files.resolve(folder);
  if ((await files.stat(root))?.kind !== "folder") {
    throw new FileError(`Cannot receive into ${folder}: it is not a folder`, "other");
  }
  const job = new ReceiveJob({ files, root, existing }, options);
  const { result: meter, elapsedMs, breaks } = await runOverConnections(next, job, options);
  return meter.result(elapsedMs, breaks);
}

/** Receives one offer, over as many connections as it takes. */
class ReceiveJob implements ResumableJob<ProgressMeter> {
  readonly #target: TargetFolder;
  readonly #options: ReceiveFilesOptions;
  /** The indices of the entries that are complete. */
  readonly #done = new Set<number>();
  #manifest: Manifest | undefined;
  /** The paths of the manifest, folded. */
  #offered: ReadonlySet<string> = new Set();
  #meter: ProgressMeter | undefined;
  #isComplete = false;

  constructor(target: Omit<TargetFolder, "isTaken">, options: ReceiveFilesOptions) {
    this.#target = { ...target, isTaken: (path) => this.#offered.has(folded(path)) };
    this.#options = options;
  }

  get progress(): number {
    return this.#meter === undefined ? 0 : this.#meter.sentBytes + this.#meter.files;
  }

  /** Known once everything has arrived, even if the sender does not know it yet. */
  get result(): ProgressMeter | undefined {
    return this.#isComplete ? this.#meter : undefined;
  }

  async run(connection: TcpConnection): Promise<ProgressMeter> {
    const reader = new TransferMessageReader(connection);
    try {
      return await this.#receiveAll(connection, reader);
    } catch (error) {
      if (!reader.isRefused) await sendRefusal(error, connection, () => reader.drain());
      throw error;
    }
  }

  async #receiveAll(
    connection: TcpConnection,
    reader: TransferMessageReader,
  ): Promise<ProgressMeter> {
    const { maxManifestBytes = MAX_MANIFEST_BYTES } = this.#options.limits ?? {};
    const offer = await reader.expect("offer", maxManifestBytes);
    const { manifest, meter } = await this.#accept(offer.manifest);
    const found = await this.#findAll(manifest);
    const held = found.map(({ held }) => held);
    await writeAll(connection, encodeTransferMessage({ type: "answer", held }));
    const { steps } = await reader.expect("plan", 4 + manifest.length);
    checkPlan(steps, manifest, found);
    const destinations = await this.#replaceMismatches(manifest, steps, found);
    meter.begin(steps.map((step, index) => bytesHeld(step, manifest[index]!.size, found[index]!)));
    for (const [index, destination] of destinations.entries()) {
      await this.#receive(reader, index, steps[index]!, destination);
    }
    this.#isComplete = true;
    await writeAll(connection, encodeTransferMessage({ type: "done" }));
    await this.#sayGoodbye(connection, reader);
    return meter;
  }

  /** Waits a while for the sender to end the stream, which it does once it has received DONE. */
  async #sayGoodbye(connection: TcpConnection, reader: TransferMessageReader): Promise<void> {
    using deadline = new Deadline(GOODBYE_MS);
    deadline.signal.addEventListener("abort", () => connection.reset(), { once: true });
    try {
      await reader.drain();
      await connection.closeWrite();
    } catch (error) {
      if (!deadline.signal.aborted) throw error;
    }
  }

  /** Checks the first offer. Those on later connections must be the same. */
  async #accept(manifest: Manifest): Promise<{ manifest: Manifest; meter: ProgressMeter }> {
    if (this.#manifest !== undefined && this.#meter !== undefined) {
      if (isSame(this.#manifest, manifest)) return { manifest, meter: this.#meter };
      throw new TransferError("Cannot continue: the other side has changed its offer", "changed");
    }
    const { limits, onOffer } = this.#options;
    checkManifest(manifest, this.#target.files.naming, limits);
    if (onOffer !== undefined && !await onOffer(summarize(manifest))) {
      throw new TransferError("Cannot receive: the offer was declined", "declined");
    }
    this.#manifest = manifest;
    this.#offered = new Set(manifest.map(({ path }) => folded(path)));
    this.#meter = new ProgressMeter(manifest, this.#options);
    return { manifest, meter: this.#meter };
  }

  async #findAll(manifest: Manifest): Promise<Destination[]> {
    const found: Destination[] = [];
    for (const [index, entry] of manifest.entries()) {
      found.push(
        this.#done.has(index)
          ? { path: entry.path, held: { state: "done" } }
          : await findDestination(this.#target, entry),
      );
    }
    return found;
  }

  /** Finds new paths, before anything is written, for files whose existing namesakes turned out to differ. */
  async #replaceMismatches(
    manifest: Manifest,
    steps: readonly PlanStep[],
    found: readonly Destination[],
  ): Promise<Destination[]> {
    const settled: Destination[] = [];
    for (const [index, destination] of found.entries()) {
      const isMismatch = destination.held.state === "whole" && steps[index] === "send";
      settled.push(
        isMismatch
          ? { path: await freePath(this.#target, manifest[index]!.path), held: NOTHING }
          : destination,
      );
    }
    return settled;
  }

  async #receive(
    reader: TransferMessageReader,
    index: number,
    step: PlanStep,
    destination: Destination,
  ): Promise<void> {
    const entry = this.#manifest![index]!;
    const { files, root } = this.#target;
    if (entry.kind === "folder") return await this.#makeFolder(entry.path);
    if (step !== "keep") {
      await this.#makeFolder(entry.path.slice(0, Math.max(entry.path.lastIndexOf("/"), 0)));
      const part = partPath(`${root}/${destination.path}`);
      const { held, hash } = destination;
      const isContinued = step === "continue" && "length" in held;
      await receiveFile(reader, {
        files,
        part,
        entry,
        offset: isContinued ? held.length : 0,
        hash: isContinued ? hash : undefined,
        onPiece: (length) => this.#meter!.add(index, length),
      });
      await this.#publish(part, destination.path);
    }
    this.#done.add(index);
    this.#meter!.finish(index, destination.path);
  }

  /** Creates a folder and those above it, unless they exist. */
  async #makeFolder(path: string): Promise<void> {
    if (path === "") return;
    const { files, root } = this.#target;
    const names = path.split("/");
    for (let depth = 1; depth <= names.length; depth++) {
      const folder = names.slice(0, depth).join("/");
      const info = await files.stat(`${root}/${folder}`);
      if (info === undefined) await files.makeFolder(`${root}/${folder}`);
      else if (info.kind !== "folder") throw inTheWay(folder, info.kind);
    }
  }

  /** Gives a complete file its final name. */
  async #publish(part: string, path: string): Promise<void> {
    const { files, root, existing } = this.#target;
    await checkFolders(this.#target, path);
    try {
      await files.rename(part, `${root}/${path}`, { overwrite: existing === "overwrite" });
    } catch (error) {
      if (error instanceof FileError && error.reason === "exists") throw inTheWay(path, "file");
      throw error;
    }
  }
}

/** Checks that the plan keeps and continues only what this side has. */
function checkPlan(
  steps: readonly PlanStep[],
  manifest: Manifest,
  found: readonly Destination[],
): void {
  const isConsistent = steps.length === found.length && steps.every((step, index) => {
    const { state } = found[index]!.held;
    if (manifest[index]!.kind === "folder") return step === "keep";
    if (step === "keep") return state === "done" || state === "whole";
    return step === "continue" ? state === "part" : state !== "done";
  });
  if (!isConsistent) throw malformed("plan", "it does not match the answer");
}

function bytesHeld(step: PlanStep, size: number, { held }: Destination): number {
  if (step === "keep") return size;
  return step === "continue" && "length" in held ? held.length : 0;
}

function isSame(one: Manifest, other: Manifest): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** What to receive, and where to. */
interface ReceiveFileOptions {
  readonly files: FileSystem;
  /** The path of the incomplete file. */
  readonly part: string;
  readonly entry: ManifestEntry;
  /** How many bytes of it exist. */
  readonly offset: number;
  /** The hash of these bytes; none for 0 bytes. */
  readonly hash?: RunningHash;
  /** Called after every piece. */
  onPiece(length: number): void;
}

/**
 * Receives a file from `offset` on. The incomplete file is kept if the connection breaks, and removed if its bytes are
 * wrong.
 *
 * @throws {TransferError} `damaged` if the hash differs, `unacceptable` if there are more or fewer bytes than offered
 */
async function receiveFile(
  reader: TransferMessageReader,
  options: ReceiveFileOptions,
): Promise<void> {
  const { files, part, entry, offset } = options;
  try {
    using file = await files.openPart(part, offset);
    await receiveInto(file, reader, options);
  } catch (error) {
    if (isDistrusted(error)) await files.remove(part);
    throw error;
  }
  if (entry.isExecutable || entry.modifiedMs > 0) await files.setAttributes(part, entry);
}

async function receiveInto(
  file: WritableFile,
  reader: TransferMessageReader,
  { entry, offset, hash = new RunningHash("sha256"), onPiece }: ReceiveFileOptions,
): Promise<void> {
  let left = entry.size - offset;
  const next = () => reader.next({ data: MAX_DATA_BYTES, end: HASH_BYTES });
  for (let piece = await next();;) {
    if (!(piece instanceof Uint8Array)) {
      if (left > 0) throw wrong(entry, `${left} bytes are missing`, "unacceptable");
      if (piece.type === "end" && equalBytes(piece.hash, hash.digest())) return;
      throw wrong(entry, "its hash differs from the sender's", "damaged");
    }
    left -= piece.length;
    if (left < 0) throw wrong(entry, "it has more bytes than offered", "unacceptable");
    const data = piece;
    const hashPiece = () => {
      hash.update(data);
      onPiece(data.length);
    };
    // The piece is hashed while the system writes it, and before the next read, which then gets more at once.
    [, , piece] = await runAll([() => file.write(data), () => Promise.try(hashPiece), next]);
  }
}

function wrong(
  { path }: ManifestEntry,
  what: string,
  reason: "damaged" | "unacceptable",
): TransferError {
  return new TransferError(`Cannot receive ${printable(path)}: ${what}`, reason);
}

/** Whether the received bytes are wrong. They are kept if the connection broke or the sender gave up. */
function isDistrusted(error: unknown): boolean {
  return error instanceof MalformedMessageError ||
    error instanceof TransferError && DISTRUSTED.has(error.reason);
}

/** Chosen by us: more than a few round trips. */
const GOODBYE_MS = 10_000;

const NOTHING = { state: "nothing" } as const;

const DISTRUSTED: ReadonlySet<string> = new Set(["damaged", "unacceptable"]);
