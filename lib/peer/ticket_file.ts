/**
 * The list of an identity's tickets, in a file beside its key file that only its owner can read: `KEY.tickets`. Several
 * programs may use it at once.
 *
 * @module
 */

import { MalformedMessageError, PunchlineError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { idleDelay, WakeableDelay } from "../base/timers.ts";
import { decodeTicketList, encodeTicketList } from "./ticket_list_message.ts";
import type { TicketSource } from "./tickets.ts";
import { EMPTY_TICKET_LIST, type TicketList, useTicket } from "./tickets_engine.ts";

/** The list beside a key file cannot be used. */
export class TicketFileError extends PunchlineError {
  /** `"TicketFileError"`. */
  override readonly name = "TicketFileError";
}

/** How to use a list. */
export interface TicketFileOptions {
  /** As in {@linkcode TicketSource}. */
  readonly onceMeans: TicketSource["onceMeans"];
  /** Receives warnings. */
  readonly logger?: Logger;
}

/** The tickets beside a key file, as a running program follows them. */
export class TicketFile implements TicketSource {
  readonly onceMeans: TicketSource["onceMeans"];
  readonly #keyPath: string;
  readonly #logger: Logger | undefined;
  #list: TicketList;

  private constructor(keyPath: string, list: TicketList, options: TicketFileOptions) {
    this.#keyPath = keyPath;
    this.#list = list;
    this.onceMeans = options.onceMeans;
    this.#logger = options.logger;
  }

  /**
   * Reads the list beside the key file. A file that does not exist is an empty list.
   *
   * @throws as {@linkcode readTicketList}
   */
  static async open(keyPath: string, options: TicketFileOptions): Promise<TicketFile> {
    return new TicketFile(keyPath, await readTicketList(keyPath), options);
  }

  /** The list as it was read last. */
  get list(): TicketList {
    return this.#list;
  }

  /** Looks at the file once a second. If it cannot be read, the list stays as it was. */
  async follow(signal: AbortSignal, onChange: () => void): Promise<void> {
    let problem: string | undefined;
    let text = encodeTicketList(this.#list);
    while (!signal.aborted) {
      await idleDelay(LOOK_MS, signal);
      if (signal.aborted) return;
      try {
        const list = await readTicketList(this.#keyPath);
        problem = undefined;
        const newText = encodeTicketList(list);
        if (newText === text) continue;
        text = newText;
        this.#list = list;
        onChange();
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        if (why !== problem) this.#logger?.warn(`the list of tickets stays as it was: ${why}`);
        problem = why;
      }
    }
  }

  /**
   * Notes that a ticket was used; `false` if it was used before, here or by another program, or was revoked.
   *
   * @throws as {@linkcode updateTicketList}
   */
  async use(number: number, signal?: AbortSignal): Promise<boolean> {
    let isFirst = false;
    const note = (list: TicketList) => {
      const used = useTicket(list, number, Date.now());
      isFirst = used !== undefined;
      return used ?? list;
    };
    this.#list = await updateTicketList(this.#keyPath, note, { signal });
    return isFirst;
  }
}

/**
 * Reads the list beside a key file. A file that does not exist is an empty list.
 *
 * @throws {TicketFileError} if the file holds something else
 * @throws an error of Deno's if it cannot be read
 */
export async function readTicketList(keyPath: string): Promise<TicketList> {
  const path = listPath(keyPath);
  // A program that may read the key alone has no list; asking for more would prompt.
  const { state } = await Deno.permissions.query({ name: "read", path });
  if (state !== "granted") return EMPTY_TICKET_LIST;
  try {
    const { isFile, size } = await Deno.stat(path);
    if (!isFile) throw unusable(path, "it is not a file"); // a pipe would never end
    if (size > MAX_FILE_BYTES) throw unusable(path, "it is too long");
    return decodeTicketList(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return EMPTY_TICKET_LIST;
    if (!(error instanceof MalformedMessageError)) throw error;
    throw unusable(path, error.message, error);
  }
}

/**
 * Changes the list beside a key file. A reader finds the old list or the new one, never a part of one; of two programs
 * that change it at once, one waits for the other, for five seconds at most.
 *
 * @returns the new list
 * @throws {TicketFileError} if the file holds something else, or another program does not let go of it
 * @throws an error of Deno's if a file cannot be read or written
 * @throws the signal's reason on abort, and what `change` throws; nothing is changed then
 */
export async function updateTicketList(
  keyPath: string,
  change: (list: TicketList) => TicketList,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<TicketList> {
  signal?.throwIfAborted();
  using file = await Deno.open(keyPath, { read: true });
  await lock(file, keyPath, signal); // released when the file is closed, however that happens
  const list = await readTicketList(keyPath);
  const changed = change(list);
  if (changed !== list) await replaceFile(listPath(keyPath), encodeTicketList(changed));
  return changed;
}

/**
 * Notes where the identity listens, for new tickets. Without the permission to write nothing is noted; it is not asked for.
 *
 * @throws as {@linkcode updateTicketList}
 */
export async function noteSignaling(
  keyPath: string,
  urls: readonly string[],
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const path = listPath(keyPath);
  for (const each of [path, newPathOf(path)]) {
    const { state } = await Deno.permissions.query({ name: "write", path: each });
    if (state !== "granted") return;
  }
  try {
    await updateTicketList(keyPath, (list) => ({ ...list, signaling: urls }), { signal });
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error; // a folder that cannot be written
  }
}

/** Tries again and again: the system's own wait has no end while another program is stopped, and cannot be aborted. */
async function lock(file: Deno.FsFile, keyPath: string, signal?: AbortSignal): Promise<void> {
  const retry = new WakeableDelay();
  const untilMs = performance.now() + LOCK_WAIT_MS;
  while (!await file.tryLock(true)) {
    if (performance.now() >= untilMs) {
      const why = "another program holds the list of tickets";
      const remedy = "End that program, and try again";
      throw new TicketFileError(`Cannot change ${listPath(keyPath)}: ${why}`, { remedy });
    }
    await retry.wait(LOCK_RETRY_MS, signal);
  }
}

function unusable(path: string, why: string, cause?: unknown): TicketFileError {
  return new TicketFileError(`Cannot use ${path}: ${why}`, {
    cause,
    remedy:
      "Restore it from a backup, or remove it, which revokes all further tickets of this key " +
      "and makes its first own ticket valid again",
  });
}

/** Writes a new file beside the old one, and gives it its name once everything is on the disk. */
async function replaceFile(path: string, text: string): Promise<void> {
  const newPath = newPathOf(path);
  try {
    await removeIfExists(newPath); // left by a program that was killed
    await Deno.writeTextFile(newPath, text, { createNew: true, mode: 0o600 });
    {
      using file = await Deno.open(newPath, { write: true });
      await file.sync();
    }
    await Deno.rename(newPath, path);
  } catch (error) {
    await removeIfExists(newPath).catch(() => {}); // the first error says what is wrong
    throw error;
  }
}

async function removeIfExists(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Written by one program at a time: the one that holds the lock. */
function newPathOf(path: string): string {
  return `${path}.new`;
}

function listPath(keyPath: string): string {
  return `${keyPath}.tickets`;
}

/** Chosen by us: a change is noticed within two seconds, for a file that is read in less than a millisecond. */
const LOOK_MS = 1000;

/** Chosen by us: a program holds the lock for some milliseconds, and a person waits this long for an answer. */
const LOCK_WAIT_MS = 5000;
const LOCK_RETRY_MS = 100;

/** Chosen by us: sixteen tickets with eight URLs each are shorter. */
const MAX_FILE_BYTES = 262_144;
