/**
 * `id`: who this is to others.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { KeyPair } from "../noise/key_pair.ts";
import { readArguments } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { readKey } from "./peer_options.ts";

/** One line of help. */
export const ID_USAGE = "id --key FILE [--json]";

/** Runs the command; its exit code. */
export async function id(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values } = readArguments(args, { flags: ["json"], values: ["key"] });
  const path = values.get("key");
  if (path === undefined) {
    throw new UsageError("--key says in which file the secret key is, or shall be; it is missing");
  }
  using keyPair = new KeyPair(await readKey(path, io));
  const text = toBase64url(keyPair.publicKey);
  io.out(flags.has("json") ? JSON.stringify({ id: text }) : text);
  return EXIT.ok;
}
