/**
 * Receives files and folders.
 *
 * @module
 */

import type { ExistingPolicy } from "./destination.ts";
import { FileError, type FileSystem } from "./files.ts";
import type { OfferSummary } from "./manifest.ts";
import type { OfferLimits } from "./paths.ts";
import type { ProgressListeners, TransferResult } from "./progress.ts";
import { Receiving } from "./receiver.ts";
import { type NextConnection, overConnections, type ReconnectOptions } from "./reconnect.ts";
import { systemFiles } from "./system_files.ts";

/** How to receive. */
export interface ReceiveFilesOptions extends ReconnectOptions, ProgressListeners {
  /**
   * Sees what is offered before anything is written; `false` declines it. Its names obey the rules for them, and may
   * still hold characters that do not print. Everything is accepted unless given.
   */
  readonly onOffer?: (offer: OfferSummary) => boolean | Promise<boolean>;
  /**
   * What to do where another file has a name that is offered: `"refuse"` the whole offer, which is what happens unless
   * given; `"overwrite"` files, never folders or links; or `"rename"` what arrives to `name (1)`.
   */
  readonly existing?: ExistingPolicy;
  /** How much may be offered. */
  readonly limits?: OfferLimits;
  /** The system's unless given. */
  readonly files?: FileSystem;
}

/**
 * Receives what somebody sends with `sendFiles()` at the other end, into a folder and never out of it. A connection that
 * breaks is followed by the next.
 *
 * A file is written beside its name, as `name.punchline-part`, until it is whole and has the hash it should have. Such
 * a part is continued by a later call, if it fits. A file that is there already, the same byte by byte, is not sent
 * again: for that the sender is told the hash of a file that has a name and a size as offered.
 *
 * ```ts ignore
 * import { receiveFiles } from "@punchline/punchline/transfer";
 *
 * const next = ({ signal }) => peer.connect(ticket, { signal });
 * const { files, bytes } = await receiveFiles(next, "downloads", {
 *   onOffer: ({ files, bytes }) => confirm(`${files} files, ${bytes} bytes?`),
 * });
 * ```
 *
 * @param next gets the first connection, and after a break the next
 * @param folder that is there
 * @throws {TransferError} if the offer is not acceptable, would overwrite something, a hash is wrong, the sender gives
 *   up, or no connection is to be had
 * @throws {FileError} if something cannot be written
 * @throws {MalformedMessageError} if the other end speaks something else
 * @throws the signal's reason on abort, and what `next` fails with before the first connection
 */
export async function receiveFiles(
  next: NextConnection,
  folder: string,
  options: ReceiveFilesOptions = {},
): Promise<TransferResult> {
  const { files = systemFiles, existing = "refuse", signal } = options;
  signal?.throwIfAborted();
  const root = await files.resolve(folder);
  if ((await files.stat(root))?.kind !== "folder") {
    throw new FileError(`Cannot receive into ${folder}: it is not a folder`, "other");
  }
  const run = new Receiving({ files, root, existing }, options);
  const { outcome: meter, elapsedMs, breaks } = await overConnections(next, run, options);
  return meter.result(elapsedMs, breaks);
}
