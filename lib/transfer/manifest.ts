/**
 * What a sender offers.
 *
 * @module
 */

import type { FileAttributes } from "./files.ts";

/** All that is offered, in the order in which it is sent. */
export type Manifest = readonly ManifestEntry[];

/** A file or a folder of a manifest. */
export interface ManifestEntry extends FileAttributes {
  /** Folders are named for those that are empty; the others follow from what is in them. */
  readonly kind: "file" | "folder";
  /** Below the target folder, with `/` between names. */
  readonly path: string;
  /** In bytes; 0 for folders. */
  readonly size: number;
}

/** What somebody is asked about before anything is written. */
export interface OfferSummary {
  /** How many files there are. */
  readonly files: number;
  /** How many folders are named; others follow from the paths of files. */
  readonly folders: number;
  /** The sizes of all files. */
  readonly bytes: number;
  /** Everything by name. The names come from the other side, and obey the rules for them. */
  readonly manifest: Manifest;
}

/** The manifest in numbers. */
export function summarize(manifest: Manifest): OfferSummary {
  const files = manifest.filter(({ kind }) => kind === "file");
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  return { files: files.length, folders: manifest.length - files.length, bytes, manifest };
}

/** What a file is called until it is whole; in the same folder. */
export function partOf(path: string): string {
  return path + PART_SUFFIX;
}

/** Ours. */
export const PART_SUFFIX = ".punchline-part";
