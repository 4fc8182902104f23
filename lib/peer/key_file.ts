/**
 * A secret key in a file that only its owner can read.
 *
 * @module
 */

import { fromBase64url, toBase64url } from "../base/bytes.ts";
import type { Logger } from "../base/logger.ts";
import { readSmallFile, type SmallFile } from "../net/system/private_input.ts";
import { KEY_LENGTH } from "../noise/handshake.ts";

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

/**
 * As {@linkcode openKeyFile}, but does not create one.
 *
 * @returns `undefined` if there is no such file
 */
export async function readKeyFile(path: string, logger?: Logger): Promise<Uint8Array | undefined> {
  const notAKey = `Cannot use ${path}: a key file holds one line, ${KEY_LENGTH} bytes in base64url`;
  let file: SmallFile;
  try {
    file = await readSmallFile(path, MAX_BYTES);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error instanceof RangeError ? new TypeError(notAKey, { cause: error }) : error;
  }
  const { text, mode } = file;
  const key = fromBase64url(text.trim());
  if (key?.length !== KEY_LENGTH) throw new TypeError(notAKey);
  if (mode !== null && (mode & 0o077) !== 0) {
    logger?.warn(`other users can read the key in ${path}: run chmod 600 ${path}`);
  }
  return key;
}

/** Chosen by us: a key has 43 characters. */
const MAX_BYTES = 256;
