/**
 * What the receiving application decides about an offer: the facts for it, and the rules that hold unless it says otherwise.
 *
 * @module
 */

import { type ExistingEntries, type ExistingPolicy, parentOf } from "./destination.ts";
import { type FileSystem, TransferError } from "./files.ts";
import { isExecutableName, isHidden } from "./local_names.ts";
import type { ManifestEntry, OfferSummary } from "./manifest.ts";
import { type OfferLimits, printable } from "./paths.ts";
import type { ProgressListeners } from "./progress.ts";
import type { ReconnectOptions } from "./reconnect.ts";
import { abortable } from "@std/async/abortable";

/** The options of `receiveFiles()`. */
export interface ReceiveFilesOptions extends ReconnectOptions, ProgressListeners, OfferPolicy {
  /**
   * Decides about the offer, before anything is written and before the sender learns anything about the target folder;
   * `true` is short for `{ accept: true }`. The paths in the offer are checked, but use {@linkcode printable} before
   * printing them. It is called again if the offer has changed after a break, and not if it is the same.
   *
   * `options.signal` is aborted when there is nothing left to decide: the sender has withdrawn the offer or is gone, or the
   * transfer is aborted, which declines the offer.
   */
  readonly onOffer: (
    offer: IncomingOffer,
    options: { readonly signal: AbortSignal },
  ) => boolean | OfferDecision | Promise<boolean | OfferDecision>;
  /**
   * What an interrupted transfer is found again by, besides the names and sizes of its files: the ticket, for example.
   * Default: the empty string.
   */
  readonly id?: string;
  /**
   * What to do if something different with an offered name exists: `"refuse"` the new file, the default; `"overwrite"`
   * the file that is there, but never a folder or a link; or `"rename"` the new file to `name (1)`. What is refused is in
   * `TransferResult.refused`, and the rest arrives.
   */
  readonly existing?: ExistingPolicy;
  /** Called at the end if there are incomplete files, which a later call with the same `id` continues. */
  readonly onKept?: (files: readonly KeptFile[]) => void;
  /** The largest offer to accept. */
  readonly limits?: OfferLimits;
  /** The file system. Default: the system's. */
  readonly files?: FileSystem;
}

/** An incomplete file that is kept. */
export interface KeptFile {
  /** Its path, as in the manifest. */
  readonly path: string;
  /** How much of it there is. */
  readonly bytes: number;
  /** The size that it will have. */
  readonly size: number;
}

/** An offer, with what it would mean for the target folder. */
export interface IncomingOffer extends OfferSummary {
  /** Everything with a leading dot in any part of its path. */
  readonly hidden: readonly ManifestEntry[];
  /** The files that this system would execute. */
  readonly executables: readonly ManifestEntry[];
  /**
   * The folders of the offer that existed before this transfer began, without those inside of others. Their content is
   * merged with what is offered, which takes {@linkcode OfferDecision.merge}.
   */
  readonly existingFolders: readonly string[];
  /**
   * The files and links of the offer of whose name something is there already. What is equal stays, and is not sent.
   * What differs stays too, unless `ReceiveFilesOptions.existing` says otherwise.
   */
  readonly existingEntries: readonly ManifestEntry[];
  /**
   * What is hidden or executable and would go into a folder that existed before this transfer began, which takes
   * {@linkcode OfferDecision.allowHidden}. The target folder itself is such a folder. What is there already is not among
   * it: without `allowHidden` it stays, and is refused if it differs.
   */
  readonly needAllowHidden: readonly ManifestEntry[];
  /** Whether an earlier run has begun this offer here, and was interrupted. */
  readonly isResumed: boolean;
  /** Whether the application is asked again, because the offer has changed after a break. */
  readonly isChanged: boolean;
}

/** What the application decides. */
export interface OfferDecision extends OfferPolicy {
  /** Whether to receive the offer. */
  readonly accept: boolean;
}

/** What an offer may do. */
export interface OfferPolicy {
  /** Whether its folders may be merged into existing folders of the same name. Default: `false`. */
  readonly merge?: boolean;
  /** Whether hidden files and executable files may go into folders that existed before. Default: `false`. */
  readonly allowHidden?: boolean;
}

/** Adds to an offer what it would mean for the target folder. */
export function describeOffer(
  summary: OfferSummary,
  before: ExistingEntries,
  options: {
    readonly naming: FileSystem["naming"];
    readonly isResumed: boolean;
    readonly isChanged: boolean;
  },
): IncomingOffer {
  const { naming, isResumed, isChanged } = options;
  const hidden: ManifestEntry[] = [];
  const executables: ManifestEntry[] = [];
  const existingFolders: string[] = [];
  const existingEntries: ManifestEntry[] = [];
  const needAllowHidden: ManifestEntry[] = [];
  for (const entry of summary.manifest) {
    const { kind, path } = entry;
    const folder = parentOf(path);
    const isThere = before.others.has(path);
    if (isHidden(path)) hidden.push(entry);
    if (isExecutable(entry, naming)) executables.push(entry);
    if (kind === "folder" && folder === "" && before.folders.has(path)) existingFolders.push(path);
    if (isThere) existingEntries.push(entry);
    if (!isThere && needsAllowHidden(entry, before, naming)) needAllowHidden.push(entry);
  }
  return {
    ...summary,
    hidden,
    executables,
    existingFolders,
    existingEntries,
    needAllowHidden,
    isResumed,
    isChanged,
  };
}

/** The paths of what is hidden or executable and was not allowed, but of whose name something is there already. */
export function guardedPaths(
  { manifest }: Pick<OfferSummary, "manifest">,
  before: ExistingEntries,
  naming: FileSystem["naming"],
): ReadonlySet<string> {
  const guarded = manifest.filter((entry) =>
    before.others.has(entry.path) && needsAllowHidden(entry, before, naming)
  );
  return new Set(guarded.map(({ path }) => path));
}

/**
 * Lets the application decide about an offer, and checks that it may do what it would do. An abort declines the offer.
 *
 * @returns what was allowed
 * @param withdrawn rejects if the sender withdraws the offer or is gone
 * @throws {TransferError} `declined`, `merge` or `hidden`
 * @throws what `withdrawn` rejects with
 */
export async function decideOffer(
  offer: IncomingOffer,
  withdrawn: Promise<unknown>,
  options: ReceiveFilesOptions,
): Promise<Required<OfferPolicy>> {
  const over = new AbortController(); // there is nothing left to decide
  const { signal } = over;
  const onAbort = () => over.abort(declined());
  withdrawn.catch((error) => over.abort(error));
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const decision = Promise.resolve(options.onOffer(offer, { signal }));
    return checkDecision(offer, await abortable(decision, signal), options);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/** @throws {TransferError} `declined`, `merge` or `hidden` */
function checkDecision(
  offer: IncomingOffer,
  answer: boolean | OfferDecision,
  policy: OfferPolicy,
): Required<OfferPolicy> {
  const decision = typeof answer === "boolean" ? { accept: answer } : answer;
  if (decision.accept !== true) throw declined();
  const { merge = policy.merge, allowHidden = policy.allowHidden } = decision;
  const { existingFolders, needAllowHidden } = offer;
  if (existingFolders.length > 0 && merge !== true) {
    throw new TransferError(
      `Cannot receive: ${listed(existingFolders)} exists already, and merging was not allowed`,
      "merge",
    );
  }
  if (needAllowHidden.length > 0 && allowHidden !== true) {
    const paths = needAllowHidden.map(({ path }) => path);
    throw new TransferError(
      `Cannot receive: ${listed(paths)} would put hidden or executable files ` +
        "into a folder that existed before, which was not allowed",
      "hidden",
    );
  }
  return { merge: merge === true, allowHidden: allowHidden === true };
}

/** Whether it is hidden or executable, and would go into a folder that existed before. */
function needsAllowHidden(
  entry: ManifestEntry,
  { folders }: ExistingEntries,
  naming: FileSystem["naming"],
): boolean {
  const { kind, path } = entry;
  const folder = parentOf(path);
  const isOpen = folder === "" || folders.has(folder);
  const isKnown = kind === "folder" && folders.has(path);
  return isOpen && !isKnown && (isHidden(path) || isExecutable(entry, naming));
}

function isExecutable(entry: ManifestEntry, naming: FileSystem["naming"]): boolean {
  return entry.kind === "file" && (entry.isExecutable || isExecutableName(entry.path, naming));
}

function declined(): TransferError {
  return new TransferError("Cannot receive: the offer was declined", "declined");
}

function listed(paths: readonly string[]): string {
  const shown = printable(paths[0]!);
  return paths.length === 1 ? shown : `${shown} (and ${paths.length - 1} more)`;
}
