/**
 * What a transfer keeps in the target folder while it runs: incomplete files, and a record of which of the offered folders
 * existed before. A later run finds both again by what they belong to, and so knows what this transfer began itself. Two
 * transfers never use one of them at once.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { FileError, type FileSystem, type FolderTraits, type PartFile } from "./files.ts";
import { recordName } from "./local_names.ts";

/** Which incomplete file; see {@linkcode claimPart}. */
export interface PartClaim {
  readonly files: FileSystem;
  /** The target folder of the transfer. */
  readonly root: string;
  /** The folder of the file. */
  readonly folder: string;
  /** What the file belongs to: the same on every run. */
  readonly identity: readonly (string | number | boolean)[];
  readonly isExecutable: boolean;
  /** As in {@linkcode CreatePartOptions}. */
  readonly isPrivate?: boolean;
  /** The name of the file, in which the key must occur. */
  nameFor(key: string): string;
  /** Whom the file must belong to. */
  owner(): Promise<FolderTraits["owner"]>;
}

/**
 * Opens the incomplete file that an earlier run has left, and locks it. A file that is locked, or that is not a plain file
 * of this user, is left alone: the claim moves on to another name.
 *
 * @returns `undefined` if no part is left
 */
export async function findPart(claim: PartClaim): Promise<PartFile | undefined> {
  for (let number = 0; number < MAX_PARTS; number++) {
    const path = pathOf(claim, number);
    if (await claim.files.stat(path) === undefined) return undefined;
    const part = await claim.files.openPart(path, await claim.owner());
    if (part !== undefined) return part;
  }
  return undefined;
}

/**
 * As {@linkcode findPart}, and creates the file if no part is left.
 *
 * @throws {FileError} if it cannot be created
 */
export async function claimPart(claim: PartClaim): Promise<PartFile> {
  const { files, root, isExecutable, isPrivate } = claim;
  for (let number = 0;; number++) {
    const path = pathOf(claim, number);
    try {
      return await files.createPart(path, { root, isExecutable, isPrivate });
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      if (error.reason === "not-permitted") throw notPermitted(claim.folder, error); // whatever its name
      if (error.reason !== "exists" || number >= MAX_PARTS) throw error;
    }
    const part = await files.openPart(path, await claim.owner());
    if (part !== undefined) return part;
  }
}

/** An open record. No other process can open it meanwhile. */
export class TransferRecord {
  readonly #file: PartFile;
  /** The offered folders that existed before the transfer began. */
  readonly existed: ReadonlySet<string>;

  private constructor(file: PartFile, existed: ReadonlySet<string>) {
    this.#file = file;
    this.existed = existed;
  }

  /** Opens the record that an earlier run has left; `undefined` if it left no record. */
  static async find(claim: RecordClaim): Promise<TransferRecord | undefined> {
    const file = await findPart(toPart(claim));
    if (file === undefined) return undefined;
    const existed = await readRecord(file);
    if (existed !== undefined) return new TransferRecord(file, existed);
    file.close();
    return undefined;
  }

  /** Creates a record. */
  static async create(claim: RecordClaim, existed: ReadonlySet<string>): Promise<TransferRecord> {
    const file = await claimPart(toPart(claim));
    try {
      await file.truncate(0);
      const text = JSON.stringify({ version: RECORD_VERSION, existed: [...existed] });
      await file.write(new TextEncoder().encode(text));
    } catch (error) {
      file.close();
      throw error;
    }
    return new TransferRecord(file, existed);
  }

  /** Removes the record: nothing is left to resume. */
  discard(): Promise<void> {
    return this.#file.discard();
  }

  /** Closes the record, for a later run. */
  close(): void {
    this.#file.close();
  }
}

/** Which record. */
export type RecordClaim = Omit<PartClaim, "folder" | "isExecutable" | "nameFor">;

function notPermitted(folder: string, cause: FileError): FileError {
  return new FileError(`Cannot write into ${folder}: not permitted`, "not-permitted", { cause });
}

function pathOf({ folder, identity, nameFor }: PartClaim, number: number): string {
  const text = JSON.stringify([...identity, number]);
  const key = toHex(hash("sha256", new TextEncoder().encode(text)).subarray(0, KEY_BYTES));
  return `${folder}/${nameFor(key)}`;
}

function toPart(claim: RecordClaim): PartClaim {
  return { ...claim, folder: claim.root, isExecutable: false, nameFor: recordName };
}

/** All of the text in a file; `undefined` if there is more than allowed, or it shrinks meanwhile. */
export async function readPart(file: PartFile, maxBytes: number): Promise<string | undefined> {
  const { size } = await file.stat();
  if (size > maxBytes) return undefined;
  const bytes = new Uint8Array(size);
  await file.seek(0);
  for (let filled = 0; filled < size;) {
    const count = await file.read(bytes.subarray(filled));
    if (count === null) return undefined;
    filled += count;
  }
  return new TextDecoder().decode(bytes);
}

/** `undefined` if it is incomplete or of another version. */
async function readRecord(file: PartFile): Promise<ReadonlySet<string> | undefined> {
  const text = await readPart(file, MAX_RECORD_BYTES);
  if (text === undefined) return undefined;
  try {
    const record = JSON.parse(text);
    return record.version === RECORD_VERSION ? new Set<string>(record.existed) : undefined;
  } catch {
    return undefined;
  }
}

/** Chosen by us: enough not to meet another file of the same name by chance. */
const KEY_BYTES = 5;

/** Chosen by us: how many transfers of one name into one folder may run, or have left something. */
const MAX_PARTS = 20;

const RECORD_VERSION = 1;

/** Chosen by us: the paths of as many folders as a manifest can have. */
const MAX_RECORD_BYTES = 64 * 1024 * 1024;
