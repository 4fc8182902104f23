/**
 * A file of the user's own, such as the one with the settings: where it is, and how to write it. Never prompts for a
 * permission.
 *
 * @module
 */

import { WakeableDelay } from "../../base/timers.ts";
import { readSmallFile, readVariable } from "./private_input.ts";

/**
 * The folder for a program's settings: below `$XDG_CONFIG_HOME` or `~/.config`, on macOS `~/Library/Application Support`,
 * on Windows `%APPDATA%`.
 *
 * @returns `undefined` if the variables that say where are not set, or may not be read
 */
export async function configFolder(
  program: string,
  os: typeof Deno.build.os = Deno.build.os,
): Promise<string | undefined> {
  if (os === "windows") {
    const folder = await readVariable("APPDATA");
    return folder === undefined ? undefined : `${folder}\\${program}`;
  }
  const folder = await readVariable("XDG_CONFIG_HOME");
  if (folder?.startsWith("/")) return `${folder}/${program}`; // others are to be ignored
  const home = await readVariable("HOME");
  if (home === undefined) return undefined;
  return os === "darwin"
    ? `${home}/Library/Application Support/${program}`
    : `${home}/.config/${program}`;
}

/**
 * The text of a small file; `undefined` if it does not exist, or may not be read.
 *
 * @throws {RangeError} if it is too large
 * @throws an error of Deno's if it cannot be read
 */
export async function readPrivateFile(path: string, maxBytes: number): Promise<string | undefined> {
  try {
    return (await readSmallFile(path, maxBytes)).text;
  } catch (error) {
    const isAbsent = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotCapable;
    if (isAbsent) return undefined;
    throw error;
  }
}

/**
 * Keeps other programs that ask for the same file from changing it, until the result is disposed of; makes its folder if
 * that does not exist. It waits five seconds at most for another program.
 *
 * @throws {Deno.errors.NotCapable} if the permission to write the file was not granted
 * @throws {Deno.errors.Busy} if another program does not let go of it
 * @throws an error of Deno's if its lock cannot be opened
 */
export async function lockPrivateFile(path: string): Promise<Disposable> {
  await makeFolder(path);
  // A file of its own: the file itself is replaced by each change.
  const file = await Deno.open(`${path}.lock`, { write: true, create: true, mode: 0o600 });
  const retry = new WakeableDelay();
  const untilMs = performance.now() + LOCK_WAIT_MS;
  while (!await file.tryLock(true)) {
    if (performance.now() >= untilMs) {
      file.close();
      throw new Deno.errors.Busy(`Cannot change ${path}: another program is changing it`);
    }
    await retry.wait(LOCK_RETRY_MS);
  }
  return file;
}

/**
 * Writes a file that only its owner can read, and its folder if that does not exist. A reader finds the old text or the
 * new one, never a part of one.
 *
 * @throws {Deno.errors.NotCapable} if the permission to write it was not granted
 * @throws an error of Deno's if it cannot be written
 */
export async function writePrivateFile(path: string, text: string): Promise<void> {
  await makeFolder(path);
  const newPath = `${path}.${crypto.randomUUID()}`;
  try {
    await Deno.writeTextFile(newPath, text, { createNew: true, mode: 0o600 });
    {
      using file = await Deno.open(newPath, { write: true });
      await file.sync();
    }
    await Deno.rename(newPath, path);
  } catch (error) {
    try {
      await Deno.remove(newPath);
    } catch { /* it was renamed, or never created */ }
    throw error;
  }
}

async function makeFolder(path: string): Promise<void> {
  const folder = path.slice(0, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")));
  for (const each of [folder, path]) {
    const { state } = await Deno.permissions.query({ name: "write", path: each });
    if (state === "granted") continue;
    throw new Deno.errors.NotCapable(`Cannot write ${each}: --allow-write is not granted for it`);
  }
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
}

/** Chosen by us: a program holds the lock for some milliseconds, and a person waits this long for an answer. */
const LOCK_WAIT_MS = 5000;
const LOCK_RETRY_MS = 20;
