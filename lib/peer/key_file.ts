/**
 * A secret key in a file that only its owner can read.
 *
 * @module
 */

import { fromBase64url, toBase64url } from "../base/bytes.ts";
import type { Logger } from "../base/logger.ts";
import { KEY_LENGTH } from "../noise/key_pair.ts";

/**
 * Reads the key in a file. If the file does not exist, it is created with a new key and readable by its owner only.
 *
 * @throws {TypeError} if the file holds something else
 * @throws {Deno.errors.NotCapable} without permission to read or write the file
 * @throws an error of Deno's if the file cannot be read or written
 */
export async function openKeyFile(path: string, logger?: Logger): Promise<Uint8Array> {
  const key = await readKeyFile(path, logger);
  if (key !== undefined) return key;
  const newKey = crypto.getRandomValues(new Uint8Array(KEY_LENGTH));
  try {
    await Deno.writeTextFile(path, `${toBase64url(newKey)}\n`, { createNew: true, mode: 0o600 });
    return newKey;
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    const otherKey = await readKeyFile(path, logger); // another program was faster: use its key
    if (otherKey === undefined) throw error;
    return otherKey;
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
    throw new TypeError(
      `Cannot use ${path}: a key file holds one line, ${KEY_LENGTH} bytes in base64url`,
    );
  }
  if (mode !== null && (mode & 0o077) !== 0) {
    logger?.warn(`other users can read the key in ${path}: run chmod 600 ${path}`);
  }
  return key;
}

/** Chosen by us: a key has 43 characters. */
const MAX_TEXT_LENGTH = 256;
