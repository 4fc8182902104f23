/**
 * The receiver's side of a transfer: one offer, over as many connections as it takes.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { writeAll } from "../base/reader.ts";
import { Semaphore } from "../base/tasks.ts";
import type { TcpConnection } from "../net/network.ts";
import { decideOffer, describeOffer, type ReceiveFilesOptions } from "./consent.ts";
import {
  existingFolders,
  findDestination,
  findLinkDestination,
  freePath,
  inTheWay,
  isNameError,
  linkRefusal,
  localPaths,
  parentOf,
  statIfValid,
  type TargetFolder,
} from "./destination.ts";
import { FileError, type FolderTraits, type PartFile } from "./files.ts";
import { Finisher } from "./finisher.ts";
import { partName } from "./local_names.ts";
import { hashFile, type ManifestEntry, summarize } from "./manifest.ts";
import {
  encodeTransferMessage,
  type PlanMessage,
  type PlanStep,
  type RefusalReason,
} from "./message.ts";
import { TransferMessageReader } from "./message_reader.ts";
import {
  type AcceptedOffer,
  bytesHeld,
  checkPlan,
  type Found,
  type Offer,
  readOffer,
  type ReceivePlan,
  sendHeld,
} from "./negotiation.ts";
import { claimPart, findPart, type PartClaim, TransferRecord } from "./parts.ts";
import { folded } from "./paths.ts";
import { ProgressMeter } from "./progress.ts";
import type { ResumableJob } from "./reconnect.ts";
import { discardFile, isDistrusted, receiveInto } from "./received_file.ts";
import { FAILURE_TEXT, REFUSAL_TEXT, sayGoodbye, sendRefusal } from "./refuse.ts";

/** Receives one offer, over as many connections as it takes. */
export class ReceiveJob implements ResumableJob<ProgressMeter>, AsyncDisposable {
  readonly #target: TargetFolder;
  readonly #options: ReceiveFilesOptions;
  #offer: AcceptedOffer | undefined;
  #isComplete = false;
  /** The folders of an offer that did not exist before this transfer began, by their paths in the manifest. */
  readonly #begun = new Set<string>();
  #record: TransferRecord | undefined;
  /** Whether there is something that a later run can continue. */
  #hasBegun = false;
  /** The incomplete files that are open, by the places of their entries. They stay open, and locked, over a break. */
  readonly #parts = new Map<number, PartFile>();
  #traits: Promise<FolderTraits> | undefined;
  /** The paths of the manifest, folded; made when they are needed. */
  #taken: ReadonlySet<string> | undefined;
  /** What the sender says next: PLAN, or REFUSAL while the application decides. */
  #plan: Promise<PlanMessage> | undefined;
  #isDeciding = false;

  constructor(target: Omit<TargetFolder, "isTaken">, options: ReceiveFilesOptions) {
    this.#target = { ...target, isTaken: (path) => this.#isTaken(path) };
    this.#options = options;
  }

  get progress(): number {
    const { meter } = this.#offer ?? {};
    return meter === undefined ? 0 : meter.sentBytes + meter.files;
  }

  /** Known once everything has arrived, even if the sender does not know it yet. */
  get result(): ProgressMeter | undefined {
    return this.#isComplete ? this.#offer?.meter : undefined;
  }

  /** Whether an abort would end a question, which declines the offer. */
  get endsItself(): boolean {
    return this.#isDeciding;
  }

  async run(connection: TcpConnection): Promise<ProgressMeter> {
    const reader = new TransferMessageReader(connection);
    this.#plan = undefined;
    try {
      return await this.#receiveAll(connection, reader);
    } catch (error) {
      const drain = async () => {
        await Promise.allSettled([this.#plan]); // it may be reading
        await reader.drain();
      };
      if (!reader.isRefused) await sendRefusal(error, connection, drain);
      throw error;
    }
  }

  /** Closes what is open. What a later run can continue stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closeParts();
    if (this.#hasBegun) this.#record?.close();
    else await this.#record?.discard();
    this.#record = undefined;
  }

  #closeParts(): void {
    for (const part of this.#parts.values()) part.close();
    this.#parts.clear();
  }

  async #receiveAll(
    connection: TcpConnection,
    reader: TransferMessageReader,
  ): Promise<ProgressMeter> {
    const offered = await readOffer(reader, this.#options.limits);
    const plan = this.#plan = reader.expect("plan", 4 + offered.manifest.length);
    plan.catch(() => {}); // it is awaited below
    const offer = await this.#accept(offered, plan);
    const { manifest, meter } = offer;
    const refused = new Map<number, RefusalReason>();
    const found = await this.#findAll(offer, refused);
    await sendHeld(connection, [...found.values()], refused);
    const { steps } = await plan;
    checkPlan(steps, manifest, found);
    await this.#replaceMismatches(offer, steps, found);
    meter.begin(
      manifest.map((entry, index) => bytesHeld(steps[index]!, entry.size, found.get(index))),
    );
    for (const [index, reason] of refused) meter.refuse(index, "receiver", REFUSAL_TEXT[reason]);
    await this.#receiveFiles(reader, { offer, steps, found, refused });
    await this.#makeLinks(offer, refused);
    await this.#syncFolders(offer, refused);
    this.#isComplete = true;
    await this.#record?.discard();
    this.#record = undefined;
    const entries = [...refused].map(([index, reason]) => ({ index, reason }));
    await writeAll(connection, encodeTransferMessage({ type: "done", refused: entries }));
    await sayGoodbye(connection, reader);
    return meter;
  }

  /** Asks about the first offer, and about a later one if it differs. */
  async #accept(offer: Offer, plan: Promise<unknown>): Promise<AcceptedOffer> {
    const { files, root } = this.#target;
    const { id = "" } = this.#options;
    const known = this.#offer;
    if (known !== undefined && equalBytes(known.digest, offer.digest)) return known;
    const identity = ["transfer", id, offer.digest.toHex()];
    const claim = { files, root, owner: () => this.#owner(), identity };
    const record = await TransferRecord.find(claim);
    let existed: ReadonlySet<string>;
    try {
      existed = record?.existed ?? await existingFolders(this.#target, offer.manifest, this.#begun);
      const described = describeOffer(
        summarize(offer.manifest, offer.skipped),
        existed,
        { naming: files.naming, isResumed: record !== undefined, isChanged: known !== undefined },
      );
      this.#isDeciding = true;
      await decideOffer(described, plan, this.#options);
    } catch (error) {
      record?.close();
      throw error;
    } finally {
      this.#isDeciding = false;
    }
    this.#closeParts(); // of the offer before
    await this.#record?.discard();
    const folders = offer.manifest.filter(({ kind }) => kind === "folder");
    for (const { path } of folders) if (!existed.has(path)) this.#begun.add(path);
    this.#record = record ??
      (folders.length > 0 ? await TransferRecord.create(claim, existed) : undefined);
    this.#hasBegun = record !== undefined;
    this.#taken = undefined;
    const renamed = await localPaths(
      offer.manifest,
      files.naming,
      (folder) => this.#isCaseSensitive(folder),
    );
    const meter = new ProgressMeter(offer, this.#options);
    this.#offer = { ...offer, renamed, meter, done: new Set() };
    return this.#offer;
  }

  /** Finds what is there of everything, by the places of the entries. Writes nothing. */
  async #findAll(
    { manifest, renamed, done }: AcceptedOffer,
    refused: Map<number, RefusalReason>,
  ): Promise<Map<number, Found>> {
    const found = new Map<number, Found>();
    const absent = new Set<string>(); // folders
    let refusedFolder: string | undefined;
    for (const [index, entry] of manifest.entries()) {
      const path = renamed.get(index) ?? entry.path;
      if (refusedFolder !== undefined && entry.path.startsWith(refusedFolder)) {
        refused.set(index, "name");
        continue;
      }
      const isAbsent = absent.has(parentOf(entry.path));
      try {
        if (done.has(index)) found.set(index, { path, held: { index, state: "done" } });
        else if (entry.kind === "folder") {
          if (isAbsent || !await this.#isFolder(path)) absent.add(entry.path);
        } else if (entry.kind === "link") {
          if (!isAbsent) await findLinkDestination(this.#target, entry, path);
        } else if (!isAbsent) {
          const has = await this.#findFile(index, entry, path);
          if (has !== undefined) found.set(index, has);
        }
      } catch (error) {
        if (!isNameError(error)) throw error;
        refused.set(index, "name");
        if (entry.kind === "folder") refusedFolder = `${entry.path}/`;
      }
    }
    return found;
  }

  /** `undefined` if nothing is there and nothing is in the way. */
  async #findFile(index: number, entry: ManifestEntry, path: string): Promise<Found | undefined> {
    const { wholeHash, path: free } = await findDestination(this.#target, entry, path);
    if (wholeHash !== undefined) {
      const held = { index, state: "whole", length: entry.size, hash: wholeHash } as const;
      return { path, held };
    }
    const nothing = free === path ? undefined : { path: free };
    if (this.#parts.size >= MAX_OPEN_PARTS && !this.#parts.has(index)) return nothing;
    const part = this.#parts.get(index) ?? await findPart(this.#claim(entry, path));
    if (part === undefined) return nothing;
    this.#parts.set(index, part);
    const { size } = await part.stat();
    if (size === 0 || size > entry.size) return nothing;
    await part.seek(0);
    const hash = await hashFile(part, size);
    if (hash === undefined) return nothing;
    return { path: free, hash, held: { index, state: "part", length: size, hash: hash.digest() } };
  }

  /** @throws {TransferError} `exists` if something else is there */
  async #isFolder(path: string): Promise<boolean> {
    const info = await this.#target.files.stat(`${this.#target.root}/${path}`);
    if (info === undefined) return false;
    if (info.kind !== "folder") throw inTheWay(path, info.kind);
    return true;
  }

  /** Finds new paths, before anything is written, for files whose existing namesakes turned out to differ. */
  async #replaceMismatches(
    { manifest, renamed }: AcceptedOffer,
    steps: readonly PlanStep[],
    found: Map<number, Found>,
  ): Promise<void> {
    for (const [index, { held }] of found) {
      if (held?.state !== "whole" || steps[index] !== "send") continue;
      const path = await freePath(this.#target, renamed.get(index) ?? manifest[index]!.path);
      found.set(index, { path });
    }
  }

  async #receiveFiles(reader: TransferMessageReader, plan: ReceivePlan): Promise<void> {
    const { offer, steps, found, refused } = plan;
    await using finisher = new Finisher(MAX_FINISHING);
    let refusedFolder: string | undefined;
    for (const [index, entry] of offer.manifest.entries()) {
      const path = found.get(index)?.path ?? offer.renamed.get(index) ?? entry.path;
      if (refused.has(index) || entry.kind === "link") continue;
      const isRefused = refusedFolder !== undefined && entry.path.startsWith(refusedFolder);
      if (isRefused) this.#refuse(offer, refused, index, "name");
      if (entry.kind === "folder") {
        if (isRefused || await this.#makeFolder(path)) continue;
        this.#refuse(offer, refused, index, "name");
        refusedFolder = `${entry.path}/`;
      } else if (steps[index] === "keep") {
        await finisher.add(() => Promise.resolve(), () => this.#finish(offer, index, path));
      } else if (isRefused) await discardFile(reader);
      else {
        const has = steps[index] === "continue" ? found.get(index) : undefined;
        await this.#receiveFile(reader, finisher, { offer, refused, index, path, has });
      }
    }
    await finisher.end();
  }

  async #receiveFile(
    reader: TransferMessageReader,
    finisher: Finisher,
    { offer, refused, index, path, has }: {
      readonly offer: AcceptedOffer;
      readonly refused: Map<number, RefusalReason>;
      readonly index: number;
      readonly path: string;
      readonly has: Found | undefined;
    },
  ): Promise<void> {
    const { manifest, meter, renamed } = offer;
    const entry = manifest[index]!;
    let part = this.#parts.get(index);
    try {
      part ??= await claimPart(this.#claim(entry, renamed.get(index) ?? entry.path));
    } catch (error) {
      if (!isNameError(error)) throw error;
      this.#refuse(offer, refused, index, "name");
      return await discardFile(reader);
    }
    this.#parts.set(index, part);
    this.#hasBegun = true;
    const offset = bytesHeld("continue", entry.size, has);
    await part.truncate(offset);
    try {
      const failure = await receiveInto(part, reader, {
        entry,
        offset,
        hash: has?.hash,
        onPiece: (length) => {
          finisher.throwIfFailed();
          meter.add(index, length);
        },
      });
      if (failure !== undefined) {
        this.#parts.delete(index);
        await part.discard();
        return meter.refuse(index, "sender", FAILURE_TEXT[failure]);
      }
    } catch (error) {
      if (isDistrusted(error)) {
        this.#parts.delete(index);
        await part.discard();
      }
      throw error;
    }
    const complete = part;
    let savedAs: string | undefined;
    await finisher.add(
      async () => {
        savedAs = await this.#publish(complete, entry, path);
        this.#parts.delete(index);
        if (savedAs === undefined) this.#refuse(offer, refused, index, "name");
      },
      () => savedAs === undefined ? undefined : this.#finish(offer, index, savedAs),
    );
  }

  /** Gives a complete file its final name, and returns that; `undefined` if the system cannot hold it. */
  async #publish(
    part: PartFile,
    entry: ManifestEntry,
    wanted: string,
  ): Promise<string | undefined> {
    const { root, existing } = this.#target;
    await part.finish(entry.modifiedMs);
    for (let path = wanted;;) {
      try {
        await part.publish(`${root}/${path}`, { overwrite: existing === "overwrite" });
        return path;
      } catch (error) {
        if (isNameError(error)) {
          await part.discard();
          return undefined;
        }
        if (!(error instanceof FileError && error.reason === "exists")) throw error;
        if (existing !== "rename") throw inTheWay(path, "file");
        path = await freePath(this.#target, wanted); // it was free when the file began
      }
    }
  }

  #finish({ done, meter }: AcceptedOffer, index: number, path: string): void {
    done.add(index);
    meter.finish(index, path);
  }

  #refuse(
    { meter }: AcceptedOffer,
    refused: Map<number, RefusalReason>,
    index: number,
    reason: RefusalReason,
  ): void {
    refused.set(index, reason);
    meter.refuse(index, "receiver", REFUSAL_TEXT[reason]);
  }

  /** Creates a folder, if it does not exist. `false` if the system cannot hold it. */
  async #makeFolder(path: string): Promise<boolean> {
    const { files, root } = this.#target;
    if (await this.#isFolder(path)) return true;
    this.#hasBegun = true;
    try {
      await files.makeFolder(`${root}/${path}`);
      return true;
    } catch (error) {
      if (isNameError(error)) return false;
      throw error;
    }
  }

  /** Made last, so that nothing is written through them. */
  async #makeLinks(offer: AcceptedOffer, refused: Map<number, RefusalReason>): Promise<void> {
    const { files, root } = this.#target;
    for (const [index, entry] of offer.manifest.entries()) {
      if (entry.kind !== "link" || refused.has(index)) continue;
      const local = offer.renamed.get(index) ?? entry.path;
      try {
        const parent = parentOf(local);
        const real = await files.resolve(parent === "" ? root : `${root}/${parent}`);
        if (real !== (parent === "" ? root : `${root}/${parent}`)) throw inTheWay(parent, "link");
        const { path, isThere } = await findLinkDestination(this.#target, entry, local);
        if (!isThere) await files.makeLink(`${root}/${path}`, entry.target!);
        this.#finish(offer, index, path);
      } catch (error) {
        const reason = linkRefusal(error);
        if (reason === undefined) throw error;
        this.#refuse(offer, refused, index, reason);
      }
    }
  }

  /** Makes the names durable, those in folders that an earlier run has filled included. */
  async #syncFolders(
    { manifest, renamed }: AcceptedOffer,
    refused: ReadonlyMap<number, RefusalReason>,
  ): Promise<void> {
    const { files, root } = this.#target;
    const limit = new Semaphore(MAX_FINISHING);
    const synced = [files.syncFolder(root)];
    for (const [index, { kind, path }] of manifest.entries()) {
      if (kind !== "folder" || refused.has(index)) continue;
      const folder = `${root}/${renamed.get(index) ?? path}`;
      synced.push(limit.through(() => files.syncFolder(folder)));
    }
    for (const result of await Promise.allSettled(synced)) {
      if (result.status === "rejected") throw result.reason;
    }
  }

  /** @param path where it should go: that another file is there does not change which part belongs to it */
  #claim(entry: ManifestEntry, path: string): PartClaim {
    const { files, root } = this.#target;
    const { size, isExecutable } = entry;
    const name = path.slice(path.lastIndexOf("/") + 1);
    const parent = parentOf(path);
    return {
      files,
      root,
      isExecutable,
      owner: () => this.#owner(),
      folder: parent === "" ? root : `${root}/${parent}`,
      identity: ["part", this.#options.id ?? "", entry.path, size, isExecutable],
      nameFor: (key) => partName(name, key),
    };
  }

  async #owner(): Promise<FolderTraits["owner"]> {
    this.#traits ??= this.#target.files.probe(this.#target.root);
    return (await this.#traits).owner;
  }

  /** @param folder need not exist yet: it will be like the folder above it */
  async #isCaseSensitive(folder: string): Promise<boolean> {
    const { files, root } = this.#target;
    for (let path = folder; path !== ""; path = parentOf(path)) {
      const info = await statIfValid(files, `${root}/${path}`);
      if (info?.kind === "folder") return (await files.probe(`${root}/${path}`)).isCaseSensitive;
    }
    this.#traits ??= files.probe(root);
    return (await this.#traits).isCaseSensitive;
  }

  #isTaken(path: string): boolean {
    const { manifest = [], renamed } = this.#offer ?? {};
    this.#taken ??= new Set(
      manifest.map(({ path }, index) => folded(renamed?.get(index) ?? path)),
    );
    return this.#taken.has(folded(path));
  }
}

/** Chosen by us: an interrupted run leaves one incomplete file, and a few more if hashes were wrong. */
const MAX_OPEN_PARTS = 16;

/** Chosen by us: how many complete files wait for the disk at a time; more are not faster on an SSD. */
const MAX_FINISHING = 16;
