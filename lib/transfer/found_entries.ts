/**
 * Finds what of an accepted offer is there already, before anything is written.
 *
 * @module
 */

import {
  conflict,
  findDestination,
  findLinkDestination,
  freePath,
  isFolder,
  parentOf,
  type TargetFolder,
} from "./destination.ts";
import type { PartFile } from "./files.ts";
import { hashFile, type ManifestEntry } from "./manifest.ts";
import type { RefusalReason } from "./message.ts";
import type { AcceptedOffer, Found, ReceivePlan } from "./negotiation.ts";
import { findPart, type PartClaim } from "./parts.ts";

/** Where to look. */
export interface Finder {
  readonly target: TargetFolder;
  /** The incomplete files that are open, by the places of their entries; those that are found are added. */
  readonly parts: Map<number, PartFile>;
  /** The incomplete file of an entry. */
  claim(entry: ManifestEntry, path: string): PartClaim;
}

/** Finds what is there of everything, by the places of the entries. Writes nothing. */
export async function findEntries(
  offer: AcceptedOffer,
  refused: Map<number, RefusalReason>,
  finder: Finder,
): Promise<Map<number, Found>> {
  const { manifest, renamed, done, guarded } = offer;
  const { target } = finder;
  const found = new Map<number, Found>();
  const absent = new Set<string>(); // folders
  let refusedFolder: { readonly prefix: string; readonly reason: RefusalReason } | undefined;
  for (const [index, entry] of manifest.entries()) {
    const path = renamed.get(index) ?? entry.path;
    if (refusedFolder !== undefined && entry.path.startsWith(refusedFolder.prefix)) {
      refused.set(index, refusedFolder.reason);
      continue;
    }
    const isAbsent = absent.has(parentOf(entry.path));
    try {
      if (done.has(index)) found.set(index, { path, held: { index, state: "done" } });
      else if (guarded.has(entry.path) && (isAbsent || !await isThere(target, path))) {
        refused.set(index, "hidden"); // what stood for it has gone meanwhile
        if (entry.kind === "folder") absent.add(entry.path);
      } else if (entry.kind === "folder") {
        if (isAbsent || !await isFolder(target, path)) absent.add(entry.path);
      } else if (entry.kind === "link") {
        if (!isAbsent) await findLinkDestination(targetFor(offer, entry, target), entry, path);
      } else if (!isAbsent) {
        const has = await findFile(offer, index, path, finder);
        if (has !== undefined) found.set(index, has);
      }
    } catch (error) {
      const reason = conflict(error);
      if (reason === undefined) throw error;
      refused.set(index, reason === "exists" ? takenReason(offer, entry, target) : reason);
    }
    const reason = refused.get(index);
    if (reason !== undefined && entry.kind === "folder") {
      refusedFolder = { prefix: `${entry.path}/`, reason };
    }
  }
  return found;
}

/** Finds new paths, before anything is written, for files whose existing namesakes turned out to differ. */
export async function replaceMismatches(
  { offer: { manifest, renamed }, steps, found, refused }: ReceivePlan & {
    readonly found: Map<number, Found>;
  },
  target: TargetFolder,
): Promise<void> {
  for (const [index, { held }] of found) {
    if (held?.state !== "whole" || steps[index] !== "send") continue;
    try {
      const path = await freePath(target, renamed.get(index) ?? manifest[index]!.path);
      found.set(index, { path });
    } catch (error) {
      const reason = conflict(error);
      if (reason === undefined) throw error;
      refused.set(index, reason); // its bytes are on their way, and dropped
    }
  }
}

/** What is guarded stays as it is, whatever the policy. */
export function targetFor(
  { guarded }: AcceptedOffer,
  { path }: ManifestEntry,
  target: TargetFolder,
): TargetFolder {
  return guarded.has(path) ? { ...target, existing: "refuse" } : target;
}

/** `undefined` if nothing is there and nothing is in the way. */
async function findFile(
  offer: AcceptedOffer,
  index: number,
  path: string,
  { target: plain, parts, claim }: Finder,
): Promise<Found | undefined> {
  const entry = offer.manifest[index]!;
  const target = targetFor(offer, entry, plain);
  const { wholeHash, isCompared, path: free } = await findDestination(target, entry, path);
  if (isCompared) return { path, held: { index, state: "compare" } };
  if (wholeHash !== undefined) {
    const held = { index, state: "whole", length: entry.size, hash: wholeHash } as const;
    return { path, held };
  }
  const nothing = free === path ? undefined : { path: free };
  if (parts.size >= MAX_OPEN_PARTS && !parts.has(index)) return nothing;
  const part = parts.get(index) ?? await findPart(claim(entry, path));
  if (part === undefined) return nothing;
  parts.set(index, part);
  const { size } = await part.stat();
  if (size === 0 || size > entry.size) return nothing;
  await part.seek(0);
  const hash = await hashFile(part, size);
  if (hash === undefined) return nothing;
  return { path: free, hash, held: { index, state: "part", length: size, hash: hash.digest() } };
}

/** Why something different of this name stays: with another policy, only because of what it is. */
export function takenReason(
  { guarded }: AcceptedOffer,
  { path }: ManifestEntry,
  { existing }: TargetFolder,
): RefusalReason {
  return guarded.has(path) && existing !== "refuse" ? "hidden" : "exists";
}

async function isThere({ files, root }: TargetFolder, path: string): Promise<boolean> {
  return await files.stat(`${root}/${path}`) !== undefined;
}

/** Chosen by us: an interrupted run leaves one incomplete file, and a few more if hashes were wrong. */
const MAX_OPEN_PARTS = 16;
