/**
 * The receiving side of a transfer.
 *
 * @module
 */

import type { ReceiveFilesOptions } from "./consent.ts";
import { FileError } from "./files.ts";
import type { TransferResult } from "./progress.ts";
import { type NextConnection, runOverConnections } from "./reconnect.ts";
import { ReceiveJob } from "./receive_job.ts";
import { systemFiles } from "./system_files.ts";

/**
 * Receives files and folders from {@linkcode sendFiles} at the other end, into a folder and never outside of it. If a
 * connection breaks, it continues over the next one.
 *
 * An offer may not add to folders that existed before, nor put hidden or executable files into them, unless `onOffer` or
 * the options say so; see `OfferPolicy`. What an earlier run began, and did not finish, is not such a folder.
 *
 * Until a file is complete and its hash is verified, it is named `name.KEY.punchline-part`. It is locked, so that no other
 * transfer writes to it, and a later call with the same `id` continues it. A file that exists with the same content is not
 * sent again: for this, the sender gets the hash of every file whose name and size match the offer, once the offer has
 * been accepted. When the call returns, the files would survive a power failure.
 *
 * Names that this system cannot hold are changed, as `TransferResult.renamed` says; what it cannot hold at all is in
 * `TransferResult.refused`, and the rest arrives.
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
 * @param next opens the first connection, and another one after every break
 * @param folder an existing folder
 * @throws {TypeError} if there is no `onOffer`
 * @throws {TransferError} if the offer breaks a rule, was declined or collides with existing files, if a hash is wrong,
 *   if the sender gives up, or if the connection breaks for good
 * @throws {FileError} if a file or folder cannot be read or written
 * @throws {MalformedMessageError} if the other end breaks the protocol
 * @throws the signal's reason on abort, and the failure of `next` for the first connection
 */
export async function receiveFiles(
  next: NextConnection,
  folder: string,
  options: ReceiveFilesOptions,
): Promise<TransferResult> {
  if (typeof options?.onOffer !== "function") {
    throw new TypeError("Cannot receive files: onOffer must decide which offers to accept");
  }
  const { files = systemFiles, existing = "refuse", signal } = options;
  signal?.throwIfAborted();
  const root = await files.resolve(folder);
  if ((await files.stat(root))?.kind !== "folder") {
    throw new FileError(`Cannot receive into ${folder}: it is not a folder`, "other", {
      remedy: "Choose a folder",
    });
  }
  await using job = new ReceiveJob({ files, root, existing }, options);
  const { result: meter, elapsedMs, breaks } = await runOverConnections(next, job, options);
  return meter.result(elapsedMs, breaks);
}
