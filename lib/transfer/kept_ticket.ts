/**
 * The ticket that a receiver got for a code. The code is spent then, so the ticket is kept in the target folder, readable
 * by this user only, until the transfer is over: the same command, run again after a crash, finds it there.
 *
 * @module
 */

import type { FileSystem, PartFile } from "./files.ts";
import { ticketName } from "./local_names.ts";
import { claimPart, findPart, type PartClaim, readPart } from "./parts.ts";

/** A ticket in a file, which is locked while this is open. */
export class KeptTicket implements Disposable {
  /** The ticket's text. */
  readonly ticket: string;
  readonly #file: PartFile;

  private constructor(file: PartFile, ticket: string) {
    this.ticket = ticket;
    this.#file = file;
  }

  /** Finds the ticket that an earlier run has left for the code. One that is older than a day is removed. */
  static async find(
    files: FileSystem,
    root: string,
    code: string,
    nowMs: number,
  ): Promise<KeptTicket | undefined> {
    const file = await findPart(claimOf(files, root, code));
    if (file === undefined) return undefined;
    const { modifiedMs } = await file.stat();
    const text = (await readPart(file, MAX_BYTES))?.trim();
    if (text && Math.abs(nowMs - modifiedMs) < MAX_AGE_MS) return new KeptTicket(file, text);
    await file.discard();
    return undefined;
  }

  /**
   * Keeps a ticket.
   *
   * @throws {FileError} if the file cannot be written
   */
  static async keep(
    files: FileSystem,
    root: string,
    code: string,
    ticket: string,
  ): Promise<KeptTicket> {
    const file = await claimPart(claimOf(files, root, code));
    try {
      await file.truncate(0);
      await file.write(new TextEncoder().encode(`${ticket}\n`));
      await file.finish(0);
      return new KeptTicket(file, ticket);
    } catch (error) {
      await file.discard();
      throw error;
    }
  }

  /** Removes it: nothing is left to resume. */
  discard(): Promise<void> {
    return this.#file.discard();
  }

  /** Closes it, for a later run. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

function claimOf(files: FileSystem, root: string, code: string): PartClaim {
  return {
    files,
    root,
    folder: root,
    identity: ["ticket", code],
    isExecutable: false,
    isPrivate: true,
    nameFor: ticketName,
    owner: async () => (await files.probe(root)).owner,
  };
}

/** The longest ticket is shorter. */
const MAX_BYTES = 8192;

/** Chosen by us: after a day the sender has gone, and the number belongs to others. */
const MAX_AGE_MS = 86_400_000;
