/**
 * Incomplete files: found again by what they belong to, and never used by two transfers at once.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { FileError, type FileSystem, type FolderTraits, type PartFile } from "./files.ts";

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
  const { files, root, isExecutable } = claim;
  for (let number = 0;; number++) {
    const path = pathOf(claim, number);
    try {
      return await files.createPart(path, { root, isExecutable });
    } catch (error) {
      const isTaken = error instanceof FileError && error.reason === "exists";
      if (!isTaken || number >= MAX_PARTS) throw error;
    }
    const part = await files.openPart(path, await claim.owner());
    if (part !== undefined) return part;
  }
}

function pathOf({ folder, identity, nameFor }: PartClaim, number: number): string {
  const text = JSON.stringify([...identity, number]);
  const key = toHex(hash("sha256", new TextEncoder().encode(text)).subarray(0, KEY_BYTES));
  return `${folder}/${nameFor(key)}`;
}

/** Chosen by us: enough not to meet another file of the same name by chance. */
const KEY_BYTES = 5;

/** Chosen by us: how many transfers of one name into one folder may run, or have left something. */
const MAX_PARTS = 20;
