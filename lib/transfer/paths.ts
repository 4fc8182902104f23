/**
 * Which manifests are acceptable. Whoever sends one may be hostile: no name may lead out of the target folder, stand
 * for something else than a file on any system, or meet another name there.
 *
 * @module
 */

import { TransferError } from "./files.ts";
import { type Manifest, type ManifestEntry, PART_SUFFIX } from "./manifest.ts";

/**
 * The text with a `?` in place of everything that has no glyph: control characters, which a terminal obeys, and those
 * that change the direction of writing, with which `exe.txt` can look like `txt.exe`.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, "?");
}

/** How much may be offered. */
export interface OfferLimits {
  /** Files and folders together; 100,000 unless given. */
  readonly maxEntries?: number;
  /** Of one file; any unless given. */
  readonly maxFileBytes?: number;
  /** Of all files; any unless given. */
  readonly maxTotalBytes?: number;
  /** Of the manifest itself, which is held in memory; 16 MiB unless given. */
  readonly maxManifestBytes?: number;
}

/**
 * Checks a manifest as a whole: before anything of it is written, and before it is sent.
 *
 * @param naming which names the system takes
 * @param action what cannot be done otherwise, for the error
 * @throws {TransferError} `unacceptable`, naming the first thing that breaks a rule
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
  if (manifest.length === 0) throw brokenRule("there is nothing in it");
  if (manifest.length > maxEntries) {
    throw brokenRule(`${manifest.length} files and folders, ${maxEntries} are allowed`);
  }
  let totalBytes = 0;
  const tree = new NameTree();
  for (const entry of manifest) {
    checkPath(entry.path, naming);
    checkEntry(entry);
    totalBytes += entry.size;
    if (entry.size > maxFileBytes) {
      throw brokenRule(
        `${name(entry.path)} has ${entry.size} bytes, ${maxFileBytes} are allowed`,
      );
    }
    tree.add(entry);
  }
  if (totalBytes > Math.min(maxTotalBytes, Number.MAX_SAFE_INTEGER)) {
    throw brokenRule(`${totalBytes} bytes in all, ${maxTotalBytes} are allowed`);
  }
}

function checkEntry({ kind, path, size, modifiedMs }: ManifestEntry): void {
  if (kind === "folder" && size !== 0) throw brokenRule(`the folder ${name(path)} has a size`);
  if (modifiedMs > LAST_MODIFIED_MS) {
    throw brokenRule(`${name(path)} was changed after the year 9999`);
  }
}

/** The rules for one path. */
function checkPath(path: string, naming: "posix" | "windows"): void {
  const refuse = (rule: string) => brokenRule(`the name ${name(path)} ${rule}`);
  if (path === "") throw refuse("is empty");
  if (byteLength(path) > MAX_PATH_BYTES) throw refuse(`is longer than ${MAX_PATH_BYTES} bytes`);
  if (path.startsWith("/")) throw refuse("is absolute");
  if (/^[A-Za-z]:/.test(path)) throw refuse("begins with a drive letter");
  if (path.includes("\\")) throw refuse("has a backslash");
  if (CONTROL.test(path)) throw refuse("has control characters");
  if (!path.isWellFormed()) throw refuse("is not Unicode");
  const names = path.split("/");
  if (names.length > MAX_DEPTH) throw refuse(`is deeper than ${MAX_DEPTH} folders`);
  for (const part of names) {
    if (part === "") throw refuse("has an empty part");
    if (part === "." || part === "..") throw refuse(`has the part ${part}`);
    if (byteLength(part) > MAX_NAME_BYTES) {
      throw refuse(`has a part of more than ${MAX_NAME_BYTES} bytes`);
    }
    if (/[. ]$/.test(part)) throw refuse("has a part that ends with a dot or a space");
    if (RESERVED.test(part)) throw refuse("has a part that is a device on Windows");
    if (part.toLowerCase().endsWith(PART_SUFFIX)) throw refuse(`ends with ${PART_SUFFIX}`);
    if (naming === "windows" && /[<>:"|?*]/.test(part)) {
      throw refuse('has one of the characters <>:"|?*, which this system cannot have in names');
    }
  }
}

/** All names so far, as a system sees them that does not tell capitals from small letters. */
class NameTree {
  /** How a name was spelled, and what it is; `"implied"` is a folder that was named as a part of a path only. */
  readonly #known = new Map<string, { path: string; kind: ManifestEntry["kind"] | "implied" }>();

  add({ path, kind }: ManifestEntry): void {
    const known = this.#known.get(folded(path));
    const isNamedNow = known?.kind === "implied" && kind === "folder" && known.path === path;
    if (known !== undefined && !isNamedNow) throw meet(path, known.path);
    this.#known.set(folded(path), { path, kind });
    this.#addParents(path);
  }

  #addParents(path: string): void {
    for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
      const parent = path.slice(0, end);
      const key = folded(parent);
      const known = this.#known.get(key);
      if (known !== undefined) {
        if (known.path !== parent || known.kind === "file") throw meet(path, known.path);
        return; // and so are its parents
      }
      this.#known.set(key, { path: parent, kind: "implied" });
    }
  }
}

/** What is equal for two paths that some system takes for one. */
export function folded(path: string): string {
  return path.normalize("NFC").toUpperCase().toLowerCase().normalize("NFC");
}

function meet(path: string, other: string): BrokenRule {
  return brokenRule(`${name(path)} and ${name(other)} would be one file on some systems`);
}

function brokenRule(what: string): BrokenRule {
  return new BrokenRule(what);
}

/** Only on its way to {@linkcode checkManifest}. */
class BrokenRule extends Error {}

function name(path: string): string {
  const shown = printable(path);
  return JSON.stringify(shown.length > SHOWN_LENGTH ? `${shown.slice(0, SHOWN_LENGTH)}…` : shown);
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Ours: what a home folder with its caches may have. */
const MAX_ENTRIES = 100_000;

/** Ours: paths of 150 bytes for as many entries. */
export const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;

/** Ours: PATH_MAX of Linux, less what the target folder takes. */
const MAX_PATH_BYTES = 3072;

/** Ours. */
const MAX_DEPTH = 64;

/** NAME_MAX of nearly all systems, less the suffix of partial files. */
const MAX_NAME_BYTES = 255 - PART_SUFFIX.length;

/** Ours: beyond the year 9999, systems differ in what they can keep. */
const LAST_MODIFIED_MS = 253_402_300_799_999;

const SHOWN_LENGTH = 100;

/** C0, DEL, C1, and the separators that some programs take for ends of lines. */
// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** With any extension: Windows opens a device whatever folder the name is in. */
const RESERVED = /^(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\.|$)/i;
