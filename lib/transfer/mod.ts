/**
 * Sends files and folders over a connection: resumes after a break, verifies hashes, and never writes outside of the
 * target folder or over existing files.
 *
 * ```ts ignore
 * import { receiveFiles, sendFiles } from "@punchline/punchline/transfer";
 *
 * await sendFiles(next, ["photos"]); // here
 * await receiveFiles(next, "downloads", { onOffer: ({ files }) => confirm(`${files} files?`) }); // there
 * ```
 *
 * `next` is a function that opens a connection, and another one after every break: see {@linkcode NextConnection}.
 * Neither end authenticates the other: use connections that do.
 *
 * @module
 */

export { sendFiles, type SendFilesOptions } from "./sender.ts";
export { receiveFiles } from "./receiver.ts";
export type { NextConnection, ReconnectOptions } from "./reconnect.ts";
export type { SkippedFile } from "./collect.ts";
export type {
  IncomingOffer,
  KeptFile,
  OfferDecision,
  OfferPolicy,
  ReceiveFilesOptions,
} from "./consent.ts";
export type { ExistingPolicy } from "./destination.ts";
export type {
  Manifest,
  ManifestEntry,
  OfferSummary,
  SkippedEntry,
  SkipReason,
} from "./manifest.ts";
export { type OfferLimits, printable } from "./paths.ts";
export type {
  FinishedFile,
  ProgressListeners,
  RefusedFile,
  RenamedFile,
  TransferProgress,
  TransferResult,
} from "./progress.ts";
export {
  type CreatePartOptions,
  type FileAttributes,
  FileError,
  type FileErrorReason,
  type FileInfo,
  type FileSystem,
  type FolderTraits,
  type PartFile,
  type ReadableFile,
  TransferError,
  type TransferErrorReason,
} from "./files.ts";
export { systemFiles } from "./system_files.ts";
export {
  MalformedMessageError,
  PunchlineError,
  type PunchlineErrorOptions,
} from "../base/errors.ts";
export type { TransportAddress } from "../net/address.ts";
export type { DetachedConnection, TcpConnection } from "../net/network.ts";
