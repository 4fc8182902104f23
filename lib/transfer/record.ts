/**
 * The record of a transfer, in the target folder while the transfer runs: which of the offered folders existed before. A
 * later run finds it, and so knows what this transfer began itself.
 *
 * @module
 */

import type { PartFile } from "./files.ts";
import { recordName } from "./local_names.ts";
import { claimPart, findPart, type PartClaim } from "./parts.ts";

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
      const text = JSON.stringify({ version: VERSION, existed: [...existed] });
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

function toPart(claim: RecordClaim): PartClaim {
  return { ...claim, folder: claim.root, isExecutable: false, nameFor: recordName };
}

/** `undefined` if it is incomplete or of another version. */
async function readRecord(file: PartFile): Promise<ReadonlySet<string> | undefined> {
  const { size } = await file.stat();
  if (size > MAX_RECORD_BYTES) return undefined;
  const bytes = new Uint8Array(size);
  await file.seek(0);
  for (let filled = 0; filled < size;) {
    const count = await file.read(bytes.subarray(filled));
    if (count === null) return undefined;
    filled += count;
  }
  try {
    const record = JSON.parse(new TextDecoder().decode(bytes));
    return record.version === VERSION ? new Set<string>(record.existed) : undefined;
  } catch {
    return undefined;
  }
}

const VERSION = 1;

/** Chosen by us: the paths of as many folders as a manifest can have. */
const MAX_RECORD_BYTES = 64 * 1024 * 1024;
