/**
 * Files and folders over a connection: resumed after a break, checked by their hashes, never written outside of the
 * folder that was given, nor over anything that is there.
 *
 * ```ts ignore
 * import { receiveFiles, sendFiles } from "@punchline/punchline/transfer";
 *
 * await sendFiles(next, ["photos"]); // here
 * await receiveFiles(next, "downloads"); // there
 * ```
 *
 * `next` is a function that gets a connection, and the next one where that breaks: see {@linkcode NextConnection}.
 * Neither end checks who is at the other: that is for the connection to do.
 *
 * @module
 */

export { sendFiles, type SendFilesOptions } from "./sender.ts";
export { receiveFiles, type ReceiveFilesOptions } from "./receiver.ts";
export type { NextConnection, ReconnectOptions } from "./reconnect.ts";
export type { ExistingPolicy } from "./destination.ts";
export type { Manifest, ManifestEntry, OfferSummary } from "./manifest.ts";
export type { OfferLimits } from "./paths.ts";
export type { SkippedFile } from "./manifest.ts";
export type {
  FinishedFile,
  ProgressListeners,
  TransferProgress,
  TransferResult,
} from "./progress.ts";
export { TransferError, type TransferErrorReason } from "./files.ts";
export {
  type FileAttributes,
  FileError,
  type FileErrorReason,
  type FileInfo,
  type FileSystem,
  type ReadableFile,
  type WritableFile,
} from "./files.ts";
export { systemFiles } from "./system_files.ts";
export { printable } from "./paths.ts";
export type { TransportAddress } from "../net/address.ts";
export type { TcpConnection } from "../net/network.ts";
