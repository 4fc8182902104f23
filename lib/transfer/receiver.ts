/**
 * The receiver's side of the protocol.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { RunningHash } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { TcpConnection } from "../net/network.ts";
import { writeAll } from "../base/reader.ts";
import {
  checkFolders,
  type Destination,
  type ExistingPolicy,
  findDestination,
  inTheWay,
  nameBeside,
  type Target,
} from "./destination.ts";
import { FileError, type FileSystem, TransferError, type WritableFile } from "./files.ts";
import {
  type Manifest,
  type ManifestEntry,
  type OfferSummary,
  partOf,
  summarize,
} from "./manifest.ts";
import { encodeMessage, HASH_BYTES, MAX_DATA_BYTES, type PlanStep } from "./message.ts";
import { MessageReader } from "./message_reader.ts";
import { checkManifest, folded, MAX_MANIFEST_BYTES, type OfferLimits, printable } from "./paths.ts";
import { type ProgressListeners, ProgressMeter, type TransferResult } from "./progress.ts";
import {
  type NextConnection,
  overConnections,
  type ReconnectOptions,
  type Run,
} from "./reconnect.ts";
import { refuse } from "./refuse.ts";
import { systemFiles } from "./system_files.ts";

/** What to receive. */
export interface ReceiveFileOptions {
  readonly files: FileSystem;
  /** The partial file. */
  readonly part: string;
  readonly entry: ManifestEntry;
  /** How much of it is there. */
  readonly offset: number;
  /** Of that. */
  readonly hash?: RunningHash;
  /** Told after every piece. */
  onPiece(length: number): void;
}

/**
 * Receives a file from `offset` on into its partial file, which stays if the connection breaks, and is removed if the
 * bytes are wrong. The next piece is read while one is written.
 *
 * @throws {TransferError} `damaged` if the hash is another one, `unacceptable` if the bytes are more or fewer than offered
 */
export async function receiveFile(
  reader: MessageReader,
  options: ReceiveFileOptions,
): Promise<void> {
  const { files, part, entry, offset } = options;
  try {
    using file = await files.openPart(part, offset);
    await receiveInto(file, reader, options);
  } catch (error) {
    if (isWrong(error)) await files.remove(part);
    throw error;
  }
  if (entry.isExecutable || entry.modifiedMs > 0) await files.setAttributes(part, entry);
}

async function receiveInto(
  file: WritableFile,
  reader: MessageReader,
  { entry, offset, hash = new RunningHash("sha256"), onPiece }: ReceiveFileOptions,
): Promise<void> {
  let left = entry.size - offset;
  let written = Promise.resolve();
  try {
    for (;;) {
      const piece = await reader.next({ data: MAX_DATA_BYTES, end: HASH_BYTES });
      await written; // so that its memory can be used again
      if (!(piece instanceof Uint8Array)) {
        if (left > 0) throw wrong(entry, `${left} bytes are missing`, "unacceptable");
        if (piece.type === "end" && equalBytes(piece.hash, hash.digest())) return;
        throw wrong(entry, "it has not the hash that it should have", "damaged");
      }
      left -= piece.length;
      if (left < 0) throw wrong(entry, "it has more bytes than were offered", "unacceptable");
      written = file.write(piece);
      written.catch(() => {}); // thrown by the next turn
      hash.update(piece);
      onPiece(piece.length);
    }
  } finally {
    await written.catch(() => {}); // the file is not closed under a write
  }
}

function wrong(
  { path }: ManifestEntry,
  what: string,
  reason: "damaged" | "unacceptable",
): TransferError {
  return new TransferError(`Cannot receive ${printable(path)}: ${what}`, reason);
}

/** Whether what has come is not to be trusted, unlike what came before a connection broke or the sender gave up. */
function isWrong(error: unknown): boolean {
  return error instanceof MalformedMessageError ||
    error instanceof TransferError && WRONG.has(error.reason);
}

const WRONG: ReadonlySet<string> = new Set(["damaged", "unacceptable"]);

/** How to receive. */
export interface ReceivingOptions extends ProgressListeners {
  readonly limits?: OfferLimits;
  /** Sees what is offered before anything is written; `false` declines it. */
  readonly onOffer?: (offer: OfferSummary) => boolean | Promise<boolean>;
}

/** Receives what one sender offers, over as many connections as it takes. */
export class Receiving implements Run<ProgressMeter> {
  readonly #target: Target;
  readonly #options: ReceivingOptions;
  readonly #done = new Set<number>();
  #manifest: Manifest | undefined;
  #taken: ReadonlySet<string> = new Set();
  #meter: ProgressMeter | undefined;
  #isComplete = false;

  constructor(target: Omit<Target, "isTaken">, options: ReceivingOptions) {
    this.#target = { ...target, isTaken: (path) => this.#taken.has(folded(path)) };
    this.#options = options;
  }

  get progress(): number {
    return this.#meter === undefined ? 0 : this.#meter.sentBytes + this.#meter.files;
  }

  /** Once everything is there, all that can be missing is that the sender knows. */
  get outcome(): ProgressMeter | undefined {
    return this.#isComplete ? this.#meter : undefined;
  }

  async over(connection: TcpConnection): Promise<ProgressMeter> {
    const reader = new MessageReader(connection);
    try {
      return await this.#talk(connection, reader);
    } catch (error) {
      if (!reader.isRefused) await refuse(error, connection, () => reader.drain());
      throw error;
    }
  }

  async #talk(connection: TcpConnection, reader: MessageReader): Promise<ProgressMeter> {
    const { maxManifestBytes = MAX_MANIFEST_BYTES } = this.#options.limits ?? {};
    const offer = await reader.expect("offer", maxManifestBytes);
    const { manifest, meter } = await this.#accept(offer.manifest);
    const found = await this.#findAll(manifest);
    const held = found.map(({ held }) => held);
    await writeAll(connection, encodeMessage({ type: "answer", held }));
    const { steps } = await reader.expect("plan", 4 + manifest.length);
    checkPlan(steps, manifest, found);
    const destinations = await this.#settle(manifest, steps, found);
    meter.begin(steps.map((step, index) => bytesHeld(step, manifest[index]!.size, found[index]!)));
    for (const [index, destination] of destinations.entries()) {
      await this.#receive(reader, index, steps[index]!, destination);
    }
    this.#isComplete = true;
    await writeAll(connection, encodeMessage({ type: "done" }));
    await this.#part(connection, reader);
    return meter;
  }

  /** The sender ends the stream once it knows that this side has it all, or is not waited for any longer. */
  async #part(connection: TcpConnection, reader: MessageReader): Promise<void> {
    using deadline = new Deadline(GOODBYE_MS);
    deadline.signal.addEventListener("abort", () => connection.reset(), { once: true });
    try {
      await reader.drain();
      await connection.closeWrite();
    } catch (error) {
      if (!deadline.signal.aborted) throw error;
    }
  }

  /** The first offer is looked at; the later ones are the same. */
  async #accept(manifest: Manifest): Promise<{ manifest: Manifest; meter: ProgressMeter }> {
    if (this.#manifest !== undefined && this.#meter !== undefined) {
      if (isSame(this.#manifest, manifest)) return { manifest, meter: this.#meter };
      throw new TransferError("Cannot go on: the other side offers something else now", "changed");
    }
    const { limits, onOffer } = this.#options;
    checkManifest(manifest, this.#target.files.naming, limits);
    if (onOffer !== undefined && !await onOffer(summarize(manifest))) {
      throw new TransferError("Cannot receive: the offer was declined", "declined");
    }
    this.#manifest = manifest;
    this.#taken = new Set(manifest.map(({ path }) => folded(path)));
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

  /** Names for files that are sent although one of that name and size is there: before anything is written. */
  async #settle(
    manifest: Manifest,
    steps: readonly PlanStep[],
    found: readonly Destination[],
  ): Promise<Destination[]> {
    const settled: Destination[] = [];
    for (const [index, destination] of found.entries()) {
      const isOther = destination.held.state === "whole" && steps[index] === "send";
      settled.push(
        isOther
          ? { path: await nameBeside(this.#target, manifest[index]!.path), held: NOTHING }
          : destination,
      );
    }
    return settled;
  }

  async #receive(
    reader: MessageReader,
    index: number,
    step: PlanStep,
    destination: Destination,
  ): Promise<void> {
    const entry = this.#manifest![index]!;
    const { files, root } = this.#target;
    if (entry.kind === "folder") return await this.#makeFolder(entry.path);
    if (step !== "keep") {
      await this.#makeFolder(entry.path.slice(0, Math.max(entry.path.lastIndexOf("/"), 0)));
      const part = partOf(`${root}/${destination.path}`);
      const { held, hash } = destination;
      const continued = step === "continue" && "length" in held
        ? { offset: held.length, hash }
        : { offset: 0 };
      const onPiece = (length: number) => this.#meter!.add(index, length);
      await receiveFile(reader, { files, part, entry, ...continued, onPiece });
      await this.#publish(part, destination.path);
    }
    this.#done.add(index);
    this.#meter!.finish(index, destination.path);
  }

  /** Makes a folder and those above it, as far as they are missing. */
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

/** Nothing is kept or continued that is not there. */
function checkPlan(
  steps: readonly PlanStep[],
  manifest: Manifest,
  found: readonly Destination[],
): void {
  const isFitting = steps.length === found.length && steps.every((step, index) => {
    const { state } = found[index]!.held;
    if (manifest[index]!.kind === "folder") return step === "keep";
    if (step === "keep") return state === "done" || state === "whole";
    return step === "continue" ? state === "part" : state !== "done";
  });
  if (!isFitting) throw new MalformedMessageError("Cannot read plan: it does not fit the answer");
}

function bytesHeld(step: PlanStep, size: number, { held }: Destination): number {
  if (step === "keep") return size;
  return step === "continue" && "length" in held ? held.length : 0;
}

function isSame(one: Manifest, other: Manifest): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** Ours: some round trips. */
const GOODBYE_MS = 10_000;

const NOTHING = { state: "nothing" } as const;

/** How to receive. */
export interface ReceiveFilesOptions extends ReconnectOptions, ProgressListeners {
  /**
   * Sees what is offered before anything is written; `false` declines it. Its names obey the rules for them, and may
   * still hold characters that do not print. Everything is accepted unless given.
   */
  readonly onOffer?: (offer: OfferSummary) => boolean | Promise<boolean>;
  /**
   * What to do where another file has a name that is offered: `"refuse"` the whole offer, which is what happens unless
   * given; `"overwrite"` files, never folders or links; or `"rename"` what arrives to `name (1)`.
   */
  readonly existing?: ExistingPolicy;
  /** How much may be offered. */
  readonly limits?: OfferLimits;
  /** The system's unless given. */
  readonly files?: FileSystem;
}

/**
 * Receives what somebody sends with `sendFiles()` at the other end, into a folder and never out of it. A connection that
 * breaks is followed by the next.
 *
 * A file is written beside its name, as `name.punchline-part`, until it is whole and has the hash it should have. Such
 * a part is continued by a later call, if it fits. A file that is there already, the same byte by byte, is not sent
 * again: for that the sender is told the hash of a file that has a name and a size as offered.
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
 * @param next gets the first connection, and after a break the next
 * @param folder that is there
 * @throws {TransferError} if the offer is not acceptable, would overwrite something, a hash is wrong, the sender gives
 *   up, or no connection is to be had
 * @throws {FileError} if something cannot be written
 * @throws {MalformedMessageError} if the other end speaks something else
 * @throws the signal's reason on abort, and what `next` fails with before the first connection
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
  const run = new Receiving({ files, root, existing }, options);
  const { outcome: meter, elapsedMs, breaks } = await overConnections(next, run, options);
  return meter.result(elapsedMs, breaks);
}
