/**
 * The rules for manifests. The sender may be hostile: no path may lead out of the target folder, name anything but a
 * file on any system, or collide with another path.
 *
 * @module
 */

import { TransferError } from "./files.ts";
import { type Manifest, type ManifestEntry, PART_SUFFIX } from "./manifest.ts";

/** The limits for an offer. */
export interface OfferLimits {
  /** The most files and folders together. Default: 100,000. */
  readonly maxEntries?: number;
  /** The largest size of one file. Default: no limit. */
  readonly maxFileBytes?: number;
  /** The largest total size of all files. Default: no limit. */
  readonly maxTotalBytes?: number;
  /** The largest manifest itself, which is kept in memory. Default: 16 MiB. */
  readonly maxManifestBytes?: number;
}

/**
 * Checks a whole manifest, before it is sent and before anything of it is written.
 *
 * @param naming which names are valid on this system
 * @param action completes "Cannot ..." in the error
 * @throws {TransferError} `unacceptable`, naming the first violation
 */
export function checkManifest(
  manifest: Manifest,
  naming: "posix" | "windows",
  limits: OfferLimits = {},
  action = "accept the offer",
): void {
  try {
    checkRules(manifest, naming, limits);
  } catch (error) {
    if (!(error instanceof BrokenRule)) throw error;
    throw new TransferError(`Cannot ${action}: ${error.message}`, "unacceptable");
  }
}

function checkRules(manifest: Manifest, naming: "posix" | "windows", limits: OfferLimits): void {
  const { maxEntries = MAX_ENTRIES, maxFileBytes = Infinity, maxTotalBytes = Infinity } = limits;
  if (manifest.length === 0) throw brokenRule("it is empty");
  if (manifest.length > maxEntries) {
    throw brokenRule(`it has ${manifest.length} files and folders, but ${maxEntries} are allowed`);
  }
  let totalBytes = 0;
  const tree = new NameTree();
  for (const entry of manifest) {
    checkPath(entry.path, naming);
    checkEntry(entry);
    totalBytes += entry.size;
    if (entry.size > maxFileBytes) {
      throw brokenRule(
        `${name(entry.path)} has ${entry.size} bytes, but ${maxFileBytes} are allowed`,
      );
    }
    tree.add(entry);
  }
  if (totalBytes > Math.min(maxTotalBytes, Number.MAX_SAFE_INTEGER)) {
    throw brokenRule(`it has ${totalBytes} bytes in total, but ${maxTotalBytes} are allowed`);
  }
}

function checkEntry({ kind, path, size, modifiedMs }: ManifestEntry): void {
  if (kind === "folder" && size !== 0) throw brokenRule(`the folder ${name(path)} has a size`);
  if (modifiedMs > LAST_MODIFIED_MS) {
    throw brokenRule(`${name(path)} was modified after the year 9999`);
  }
}

/** Checks one path. */
function checkPath(path: string, naming: "posix" | "windows"): void {
  const violation = (rule: string) => brokenRule(`the name ${name(path)} ${rule}`);
  if (path === "") throw violation("is empty");
  if (byteLength(path) > MAX_PATH_BYTES) throw violation(`is longer than ${MAX_PATH_BYTES} bytes`);
  if (path.startsWith("/")) throw violation("is absolute");
  if (/^[A-Za-z]:/.test(path)) throw violation("begins with a drive letter");
  if (path.includes("\\")) throw violation("has a backslash");
  if (CONTROL.test(path)) throw violation("has control characters");
  if (!path.isWellFormed()) throw violation("is not Unicode");
  const names = path.split("/");
  if (names.length > MAX_DEPTH) throw violation(`is deeper than ${MAX_DEPTH} folders`);
  for (const part of names) {
    if (part === "") throw violation("has an empty part");
    if (part === "." || part === "..") throw violation(`has the part ${part}`);
    if (byteLength(part) > MAX_NAME_BYTES) {
      throw violation(`has a part of more than ${MAX_NAME_BYTES} bytes`);
    }
    if (/[. ]$/.test(part)) throw violation("has a part that ends with a dot or a space");
    if (RESERVED.test(part)) throw violation("has a part that is a device on Windows");
    if (part.toLowerCase().endsWith(PART_SUFFIX)) throw violation(`ends with ${PART_SUFFIX}`);
    if (naming === "windows" && /[<>:"|?*]/.test(part)) {
      throw violation(
        'has one of the characters <>:"|?*, which this system does not allow in names',
      );
    }
  }
}

/** All names so far, compared as a system would that ignores case. */
class NameTree {
  /** The spelling and kind of each name; `"implied"` is a folder that only occurred within a longer path. */
  readonly #known = new Map<string, { path: string; kind: ManifestEntry["kind"] | "implied" }>();

  add({ path, kind }: ManifestEntry): void {
    const known = this.#known.get(folded(path));
    const isNamedNow = known?.kind === "implied" && kind === "folder" && known.path === path;
    if (known !== undefined && !isNamedNow) throw collision(path, known.path);
    this.#known.set(folded(path), { path, kind });
    this.#addParents(path);
  }

  #addParents(path: string): void {
    for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
      const parent = path.slice(0, end);
      const key = folded(parent);
      const known = this.#known.get(key);
      if (known !== undefined) {
        if (known.path !== parent || known.kind === "file") throw collision(path, known.path);
        return; // its parents are known too
      }
      this.#known.set(key, { path: parent, kind: "implied" });
    }
  }
}

/** Maps paths that any system would treat as the same to the same string. */
export function folded(path: string): string {
  return path.normalize("NFC").toUpperCase().toLowerCase().normalize("NFC");
}

function collision(path: string, other: string): BrokenRule {
  return brokenRule(`${name(path)} and ${name(other)} would be the same file on some systems`);
}

function brokenRule(what: string): BrokenRule {
  return new BrokenRule(what);
}

/** Caught by {@linkcode checkManifest}. */
class BrokenRule extends Error {}

/**
 * Makes text from the other side safe to print, by replacing every character without a glyph with `?`: control
 * characters, which a terminal would obey, and those that change the writing direction, which can make `exe.txt` look
 * like `txt.exe`.
 *
 * @example
 * ```ts
 * import { printable } from "./paths.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(printable("photo\u001b[2J.jpg"), "photo?[2J.jpg");
 * ```
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, "?");
}

function name(path: string): string {
  const shown = printable(path);
  return JSON.stringify(shown.length > SHOWN_LENGTH ? `${shown.slice(0, SHOWN_LENGTH)}…` : shown);
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Chosen by us: about as many as a home folder with its caches has. */
const MAX_ENTRIES = 100_000;

/** Chosen by us: {@linkcode OfferLimits.maxEntries} entries with paths of 150 bytes. */
export const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;

/** Chosen by us: PATH_MAX of Linux, less room for the path of the target folder. */
const MAX_PATH_BYTES = 3072;

/** Chosen by us: far deeper than real folders. */
const MAX_DEPTH = 64;

/** NAME_MAX of nearly all systems, less the suffix of incomplete files. */
const MAX_NAME_BYTES = 255 - PART_SUFFIX.length;

/** Chosen by us: systems differ in whether they support dates after the year 9999. */
const LAST_MODIFIED_MS = 253_402_300_799_999;

const SHOWN_LENGTH = 100;

/** C0, DEL, C1, and the separators that some programs treat as line breaks. */
// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** Also with an extension: Windows opens the device whatever the folder. */
const RESERVED = /^(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\.|$)/i;
