/**
 * The receiver's side of a transfer: one offer, over as many connections as it takes.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { writeAll } from "../base/reader.ts";
import { Semaphore } from "../base/tasks.ts";
import type { TcpConnection } from "../net/network.ts";
import {
  decideOffer,
  describeOffer,
  guardedPaths,
  type KeptFile,
  type ReceiveFilesOptions,
} from "./consent.ts";
import {
  conflict,
  type ExistingPolicy,
  findExisting,
  findLinkDestination,
  freePath,
  hashIfReadable,
  inTheWay,
  isFolder,
  linkRefusal,
  localPaths,
  parentOf,
  statIfValid,
  type TargetFolder,
} from "./destination.ts";
import type { FolderTraits, PartFile } from "./files.ts";
import { Finisher } from "./finisher.ts";
import {
  findEntries,
  type Finder,
  replaceMismatches,
  takenReason,
  targetFor,
} from "./found_entries.ts";
import { partName } from "./local_names.ts";
import { type ManifestEntry, summarize } from "./manifest.ts";
import { encodeTransferMessage, type PlanMessage, type RefusalReason } from "./message.ts";
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
import { claimPart, type PartClaim, TransferRecord } from "./parts.ts";
import { folded } from "./paths.ts";
import { ProgressMeter } from "./progress.ts";
import type { ResumableJob } from "./reconnect.ts";
import { discardFile, isDistrusted, receiveHash, receiveInto } from "./received_file.ts";
import { endRefused, FAILURE_TEXT, REFUSAL_TEXT, sayGoodbye } from "./refuse.ts";

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
      await endRefused(error, { connection, reader }, drain);
      throw error;
    }
  }

  /** Closes what is open. What a later run can continue stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    const kept = await this.#closeParts();
    if (kept.length > 0) this.#options.onKept?.(kept);
    const hasFiles = kept.length > 0 || (this.#offer?.done.size ?? 0) > 0;
    if (this.#hasBegun || hasFiles) this.#record?.close();
    else await this.#record?.discard();
    this.#record = undefined;
  }

  get #finder(): Finder {
    const claim = (entry: ManifestEntry, path: string) => this.#claim(entry, path);
    return { target: this.#target, parts: this.#parts, claim };
  }

  /** Removes those that are empty; returns the others. */
  async #closeParts(): Promise<KeptFile[]> {
    const kept: KeptFile[] = [];
    for (const [index, part] of this.#parts) {
      const { path, size } = this.#offer!.manifest[index]!;
      const { size: bytes } = await part.stat();
      if (bytes === 0) await part.discard();
      else {
        if (await part.isThere()) kept.push({ path, bytes, size });
        part.close();
      }
    }
    this.#parts.clear();
    return kept;
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
    const found = await findEntries(offer, refused, this.#finder);
    await sendHeld(connection, [...found.values()], refused);
    const { steps } = await plan;
    checkPlan(steps, manifest, { found, refused });
    await replaceMismatches({ offer, steps, found, refused }, this.#target);
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
    let guarded: ReadonlySet<string>;
    try {
      const { naming } = files;
      const before = { begun: this.#begun, folders: record?.existed };
      const existing = await findExisting(this.#target, offer.manifest, before);
      existed = existing.folders;
      const described = describeOffer(
        summarize(offer.manifest, offer.skipped),
        existing,
        { naming, isResumed: record !== undefined, isChanged: known !== undefined },
      );
      this.#isDeciding = true;
      const { allowHidden } = await decideOffer(described, plan, this.#options);
      guarded = allowHidden ? new Set() : guardedPaths(offer, existing, naming);
    } catch (error) {
      record?.close();
      throw error;
    } finally {
      this.#isDeciding = false;
    }
    await this.#closeParts(); // of the offer before
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
    this.#offer = { ...offer, renamed, meter, done: new Set(), guarded };
    return this.#offer;
  }

  async #receiveFiles(reader: TransferMessageReader, plan: ReceivePlan): Promise<void> {
    const { offer, steps, found, refused } = plan;
    await using finisher = new Finisher(MAX_FINISHING);
    let refusedFolder: { readonly prefix: string; readonly reason: RefusalReason } | undefined;
    for (const [index, entry] of offer.manifest.entries()) {
      const path = found.get(index)?.path ?? offer.renamed.get(index) ?? entry.path;
      const step = steps[index]!;
      if (refusedFolder !== undefined && entry.path.startsWith(refusedFolder.prefix)) {
        this.#refuse(offer, refused, index, refusedFolder.reason);
      }
      if (refused.has(index)) {
        if (step !== "keep") await discardFile(reader);
      } else if (entry.kind === "link") continue; // made last
      else if (entry.kind === "folder") {
        const reason = await this.#makeFolder(path);
        if (reason === undefined) continue;
        this.#refuse(offer, refused, index, reason);
        refusedFolder = { prefix: `${entry.path}/`, reason };
      } else if (step === "keep") {
        await finisher.add(() => Promise.resolve(), () => this.#finish(offer, index, path));
      } else if (step === "compare") {
        await this.#compareFile(reader, finisher, { offer, refused, index, path });
      } else {
        const has = steps[index] === "continue" ? found.get(index) : undefined;
        await this.#receiveFile(reader, finisher, { offer, refused, index, path, has });
      }
    }
    await finisher.end();
  }

  /** The file that is there stays. It counts as received if it is equal. */
  async #compareFile(
    reader: TransferMessageReader,
    finisher: Finisher,
    { offer, refused, index, path }: {
      readonly offer: AcceptedOffer;
      readonly refused: Map<number, RefusalReason>;
      readonly index: number;
      readonly path: string;
    },
  ): Promise<void> {
    const entry = offer.manifest[index]!;
    const hash = await receiveHash(reader);
    if (!(hash instanceof Uint8Array)) {
      return offer.meter.refuse(index, "sender", FAILURE_TEXT[hash]);
    }
    const { files, root } = this.#target;
    let isEqual = false;
    await finisher.add(
      async () => {
        const own = await hashIfReadable(files, `${root}/${path}`, entry.size);
        isEqual = own !== undefined && equalBytes(own, hash);
      },
      () =>
        isEqual
          ? this.#finish(offer, index, path)
          : this.#refuse(offer, refused, index, takenReason(offer, entry, this.#target)),
    );
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
      const reason = conflict(error);
      if (reason === undefined) throw error;
      this.#refuse(offer, refused, index, reason);
      return await discardFile(reader);
    }
    this.#parts.set(index, part);
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
    let published: { readonly path: string } | { readonly reason: RefusalReason };
    await finisher.add(
      async () => {
        published = await this.#publish(complete, entry, path);
        this.#parts.delete(index);
      },
      () =>
        "path" in published
          ? this.#finish(offer, index, published.path)
          : this.#refuse(offer, refused, index, published.reason),
    );
  }

  /** Gives a complete file its final name, and returns that; or why it cannot have it. Then it is removed. */
  async #publish(
    part: PartFile,
    entry: ManifestEntry,
    wanted: string,
  ): Promise<{ readonly path: string } | { readonly reason: RefusalReason }> {
    const { root, existing } = this.#target;
    await part.finish(entry.modifiedMs);
    for (let path = wanted;;) {
      try {
        await part.publish(`${root}/${path}`, { overwrite: existing === "overwrite" });
        return { path };
      } catch (error) {
        const reason = conflict(error);
        if (reason === undefined) throw error;
        const free = reason === "exists" ? await this.#freeAfterAll(wanted, existing) : undefined;
        if (free === undefined) {
          await part.discard();
          return { reason };
        }
        path = free;
      }
    }
  }

  /** Another path, for a file whose own was free when it began. */
  async #freeAfterAll(wanted: string, existing: ExistingPolicy): Promise<string | undefined> {
    try {
      return existing === "rename" ? await freePath(this.#target, wanted) : undefined;
    } catch (error) {
      if (conflict(error) === undefined) throw error;
      return undefined;
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

  /** Creates a folder, if it does not exist; returns why it cannot, if so. */
  async #makeFolder(path: string): Promise<RefusalReason | undefined> {
    const { files, root } = this.#target;
    try {
      if (await isFolder(this.#target, path)) return undefined;
      await files.makeFolder(`${root}/${path}`);
      this.#hasBegun = true;
      return undefined;
    } catch (error) {
      const reason = conflict(error);
      if (reason === undefined) throw error;
      return reason;
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
        const target = targetFor(offer, entry, this.#target);
        const { path, isThere } = await findLinkDestination(target, entry, local);
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

/** Chosen by us: how many complete files wait for the disk at a time; more are not faster on an SSD. */
const MAX_FINISHING = 16;
