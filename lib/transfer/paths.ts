/**
 * The rules for manifests. The sender may be hostile: no path may lead out of the target folder, and no link out of what is
 * sent. What a name means to one system or another is for `local_names.ts` to say.
 *
 * @module
 */

import { TransferError } from "./files.ts";
import type { ManifestEntry } from "./manifest.ts";

/** The limits for an offer. */
export interface OfferLimits {
  /** The most files, folders and links together. Default: 500,000. */
  readonly maxEntries?: number;
  /** The largest size of one file. Default: no limit. */
  readonly maxFileBytes?: number;
  /** The largest total size of all files. Default: no limit. */
  readonly maxTotalBytes?: number;
  /** The largest manifest itself, which is kept in memory. Default: 64 MiB. */
  readonly maxManifestBytes?: number;
}

/**
 * Checks a manifest while it arrives, one entry after the other. A folder precedes its content, which is not interrupted
 * by anything else, so only the names in the folders above the current entry are remembered.
 */
export class ManifestChecker {
  readonly #limits: Required<OfferLimits>;
  readonly #action: string;
  /** The folders above the next entry: their paths, each ending with `/`, and the names in them so far. */
  readonly #open: { readonly prefix: string; readonly names: Set<string> }[] = [
    { prefix: "", names: new Set() },
  ];
  #entries = 0;
  #totalBytes = 0;

  /** @param action completes "Cannot ..." in the error */
  constructor(limits: OfferLimits = {}, action = "accept the offer") {
    const { maxEntries = MAX_ENTRIES, maxManifestBytes = MAX_MANIFEST_BYTES } = limits;
    const { maxFileBytes = Infinity, maxTotalBytes = Infinity } = limits;
    this.#limits = { maxEntries, maxManifestBytes, maxFileBytes, maxTotalBytes };
    this.#action = action;
  }

  /**
   * Checks the next entry.
   *
   * @throws {TransferError} `unacceptable`, naming the violation
   */
  add(entry: ManifestEntry): void {
    this.#rules(() => {
      this.countEntry();
      checkPath(entry.path);
      this.#checkEntry(entry);
      this.#place(entry);
    });
  }

  /**
   * Checks the manifest as a whole, after its last entry.
   *
   * @param isEmptyAllowed whether something was skipped instead
   */
  end(isEmptyAllowed = false): void {
    this.#rules(() => {
      if (this.#entries === 0 && !isEmptyAllowed) throw new BrokenRule("it is empty");
    });
  }

  /** Counts an entry, or something that is listed beside them. */
  countEntry(): void {
    const { maxEntries } = this.#limits;
    if (++this.#entries <= maxEntries) return;
    this.#rules(() => {
      throw new BrokenRule(`it has more than the ${maxEntries} files and folders allowed`);
    });
  }

  #checkEntry({ kind, path, size, modifiedMs, target }: ManifestEntry): void {
    const { maxFileBytes, maxTotalBytes } = this.#limits;
    if (kind !== "file" && size !== 0) throw new BrokenRule(`the ${kind} ${name(path)} has a size`);
    if (modifiedMs > LAST_MODIFIED_MS) {
      throw new BrokenRule(`${name(path)} was modified after the year 9999`);
    }
    if (kind === "link" && (target === undefined || !isTarget(target))) {
      throw new BrokenRule(`the link ${name(path)} has no target that stays in its folder`);
    }
    if (size > maxFileBytes) {
      throw new BrokenRule(`${name(path)} has ${size} bytes, but ${maxFileBytes} are allowed`);
    }
    this.#totalBytes += size;
    if (this.#totalBytes > Math.min(maxTotalBytes, Number.MAX_SAFE_INTEGER)) {
      throw new BrokenRule(
        `it has ${this.#totalBytes} bytes in total, but ${maxTotalBytes} are allowed`,
      );
    }
  }

  #place({ kind, path }: ManifestEntry): void {
    while (!path.startsWith(this.#open.at(-1)!.prefix)) this.#open.pop();
    const { prefix, names } = this.#open.at(-1)!;
    const last = path.slice(prefix.length);
    if (last.includes("/")) throw new BrokenRule(`${name(path)} does not follow its folder`);
    if (names.has(last)) throw new BrokenRule(`${name(path)} occurs twice`);
    names.add(last);
    if (kind === "folder") this.#open.push({ prefix: `${path}/`, names: new Set() });
  }

  #rules(check: () => void): void {
    try {
      check();
    } catch (error) {
      if (!(error instanceof BrokenRule)) throw error;
      throw new TransferError(`Cannot ${this.#action}: ${error.message}`, "unacceptable");
    }
  }
}

/**
 * Checks a whole manifest.
 *
 * @throws {TransferError} `unacceptable`, naming the first violation
 */
export function checkManifest(
  manifest: readonly ManifestEntry[],
  limits: OfferLimits = {},
  action?: string,
): void {
  const checker = new ManifestChecker(limits, action);
  for (const entry of manifest) checker.add(entry);
  checker.end();
  checkLinks(manifest, action);
}

/**
 * Checks that all links stay inside of what is sent.
 *
 * @throws {TransferError} `unacceptable`, naming the first that does not
 */
export function checkLinks(
  manifest: readonly ManifestEntry[],
  action = "accept the offer",
): void {
  let folders: ReadonlySet<string> | undefined;
  for (const { kind, path, target } of manifest) {
    if (kind !== "link") continue;
    folders ??= new Set(manifest.filter(({ kind }) => kind === "folder").map(({ path }) => path));
    const isFolder = (path: string) => folders!.has(path);
    if (staysInside(path, target!, isFolder)) continue;
    throw new TransferError(
      `Cannot ${action}: the link ${name(path)} leads out of what is sent`,
      "unacceptable",
    );
  }
}

/**
 * Whether a link leads to something below the first folder of its path. A name that is not a folder may be another link,
 * which leads elsewhere, so `..` may not follow it.
 *
 * @param isFolder whether a path of the manifest is a folder, and not a link to one
 */
export function staysInside(
  path: string,
  target: string,
  isFolder: (path: string) => boolean,
): boolean {
  if (!isTarget(target)) return false;
  const at = path.split("/").slice(0, -1);
  for (const step of target.split("/")) {
    if (step === "" || step === ".") continue;
    if (step !== "..") at.push(step);
    else if (at.length < 2 || !isFolder(at.join("/"))) return false;
    else at.pop();
  }
  return at.length > 0;
}

function isTarget(target: string): boolean {
  return target !== "" && !target.startsWith("/") && !target.includes("\0") &&
    byteLength(target) <= MAX_PATH_BYTES && target.isWellFormed();
}

/** Checks one path. */
function checkPath(path: string): void {
  const violation = (rule: string) => new BrokenRule(`the name ${name(path)} ${rule}`);
  if (path === "") throw violation("is empty");
  if (byteLength(path) > MAX_PATH_BYTES) throw violation(`is longer than ${MAX_PATH_BYTES} bytes`);
  if (path.startsWith("/")) throw violation("is absolute");
  if (path.includes("\0")) throw violation("has a zero byte");
  if (!path.isWellFormed()) throw violation("is not Unicode");
  for (const part of path.split("/")) {
    if (part === "") throw violation("has an empty part");
    if (part === "." || part === "..") throw violation(`has the part ${part}`);
  }
}

/** Maps names that any system would treat as the same to the same string. */
export function folded(path: string): string {
  return path.normalize("NFC").toUpperCase().toLowerCase().normalize("NFC");
}

/** Becomes a {@linkcode TransferError}. */
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

/** Chosen by us: three times the largest tree that others have tried, and some 100 MB of memory. */
const MAX_ENTRIES = 500_000;

/** Chosen by us: {@linkcode OfferLimits.maxEntries} entries with paths of 110 bytes. */
export const MAX_MANIFEST_BYTES = 64 * 1024 * 1024;

/** PATH_MAX of Linux, less the zero at its end. */
const MAX_PATH_BYTES = 4095;

/** Chosen by us: systems differ in whether they support dates after the year 9999. */
const LAST_MODIFIED_MS = 253_402_300_799_999;

const SHOWN_LENGTH = 100;
