/**
 * A secret key in a file that only its owner can read.
 *
 * @module
 */

import { fromBase64url, toBase64url } from "../base/bytes.ts";
import type { Logger } from "../base/logger.ts";
import { KEY_LENGTH } from "../noise/key_pair.ts";

/**
 * The key in a file, which is made with a new one, for its owner alone, unless it is there.
 *
 * @throws {TypeError} if there is something else in the file
 * @throws {Deno.errors.NotCapable} if the permission to read or to write it was not granted
 * @throws an error of Deno's if the file cannot be read or written
 */
export async function openKeyFile(path: string, logger?: Logger): Promise<Uint8Array> {
  const key = await readKeyFile(path, logger);
  if (key !== undefined) return key;
  const fresh = crypto.getRandomValues(new Uint8Array(KEY_LENGTH));
  try {
    await Deno.writeTextFile(path, `${toBase64url(fresh)}\n`, { createNew: true, mode: 0o600 });
    return fresh;
  } catch (error) {
    // Another program was faster: its key is the one.
    const other = error instanceof Deno.errors.AlreadyExists
      ? await readKeyFile(path, logger)
      : undefined;
    if (other === undefined) throw error;
    return other;
  }
}

async function readKeyFile(path: string, logger?: Logger): Promise<Uint8Array | undefined> {
  let text: string, mode: number | null;
  try {
    text = await Deno.readTextFile(path);
    ({ mode } = await Deno.stat(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const key = text.length <= MAX_TEXT_LENGTH ? fromBase64url(text.trim()) : undefined;
  if (key?.length !== KEY_LENGTH) {
    throw new TypeError(`Cannot use ${path}: a key is ${KEY_LENGTH} bytes in base64url, one line`);
  }
  if (mode !== null && (mode & 0o077) !== 0) {
    logger?.warn(`others can read the key in ${path}: chmod 600 ${path}`);
  }
  return key;
}

/** Ours: a key has 43 characters. */
const MAX_TEXT_LENGTH = 256;
