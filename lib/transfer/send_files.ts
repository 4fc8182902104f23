/**
 * Sends files and folders.
 *
 * @module
 */

import { collect, type SkippedFile } from "./collect.ts";
import type { FileSystem } from "./files.ts";
import { type OfferSummary, summarize } from "./manifest.ts";
import { checkManifest } from "./paths.ts";
import { type ProgressListeners, ProgressMeter, type TransferResult } from "./progress.ts";
import { type NextConnection, overConnections, type ReconnectOptions } from "./reconnect.ts";
import { Sending } from "./sender.ts";
import { systemFiles } from "./system_files.ts";

/** How to send. */
export interface SendFilesOptions extends ReconnectOptions, ProgressListeners {
  /** Told what will be offered, and what of the folders will not, before the first connection. */
  readonly onOffer?: (offer: OfferSummary, skipped: readonly SkippedFile[]) => void;
  /** The system's unless given. */
  readonly files?: FileSystem;
}

/**
 * Sends files and folders to whoever receives them with `receiveFiles()` at the other end. A connection that breaks is
 * followed by the next, and what has arrived is not sent again, also if either program was started anew meanwhile.
 *
 * Folders are sent with all that is in them, empty folders too, but for symbolic links, devices, sockets and pipes,
 * which are skipped. A source that is itself a symbolic link stands for what it points to. Times and whether a file is
 * executable are kept; owners and other permissions are not.
 *
 * ```ts ignore
 * import { sendFiles } from "@punchline/punchline/transfer";
 *
 * const incoming = peer[Symbol.asyncIterator]();
 * const next = async () => (await incoming.next()).value;
 * const { files, bytes } = await sendFiles(next, ["photos", "notes.txt"]);
 * ```
 *
 * @param next gets the first connection, and after a break the next; nothing is waited for longer than it takes
 * @param sources paths of files and folders, of which no two have one name
 * @throws {FileError} if something cannot be read
 * @throws {TransferError} if no receiver could take it, the receiver declines or fails, a file changes meanwhile, or no connection is to be had
 * @throws {MalformedMessageError} if the other end speaks something else
 * @throws the signal's reason on abort, and what `next` fails with before the first connection
 */
export async function sendFiles(
  next: NextConnection,
  sources: readonly string[],
  options: SendFilesOptions = {},
): Promise<TransferResult> {
  const { files = systemFiles, onOffer, signal } = options;
  if (sources.length === 0) throw new TypeError("Cannot send files: none are given");
  signal?.throwIfAborted();
  const collection = await collect(files, sources);
  checkManifest(collection.manifest, "posix", {}, "send");
  onOffer?.(summarize(collection.manifest), collection.skipped);
  const meter = new ProgressMeter(collection.manifest, options);
  const run = new Sending(files, collection, meter);
  const { elapsedMs, breaks } = await overConnections(next, run, options);
  return meter.result(elapsedMs, breaks);
}
