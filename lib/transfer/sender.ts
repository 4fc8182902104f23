/**
 * The sender's side of the protocol.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import type { RunningHash } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { writeAll } from "../noise/byte_stream.ts";
import type { Collection } from "./collect.ts";
import type { FileSystem } from "./files.ts";
import { hashFile } from "./hash_file.ts";
import { encodeMessage, HASH_BYTES, type Held, type PlanStep } from "./message.ts";
import { MessageReader } from "./message_reader.ts";
import type { ProgressMeter } from "./progress.ts";
import type { Run } from "./reconnect.ts";
import { refuse } from "./refuse.ts";
import { sendFile } from "./send_file.ts";

/** Sends a collection, over as many connections as it takes. */
export class Sending implements Run<true> {
  readonly #files: FileSystem;
  readonly #collection: Collection;
  readonly #meter: ProgressMeter;
  #heldBytes = 0;

  /** @param meter for the manifest of the collection */
  constructor(files: FileSystem, collection: Collection, meter: ProgressMeter) {
    this.#files = files;
    this.#collection = collection;
    this.#meter = meter;
  }

  /** What the receiver has: that something was sent proves nothing. */
  get progress(): number {
    return this.#heldBytes;
  }

  /** Until the receiver says that it has it all, nobody knows. */
  get outcome(): undefined {
    return undefined;
  }

  async over(connection: TcpConnection): Promise<true> {
    const reader = new MessageReader(connection);
    const receiver = new Receiver(connection, reader);
    try {
      await this.#talk(connection, reader, receiver);
      return true;
    } catch (error) {
      const reason = receiver.failure ?? error;
      if (!reader.isRefused) await refuse(reason, connection, () => receiver.end());
      throw reason;
    }
  }

  async #talk(
    connection: TcpConnection,
    reader: MessageReader,
    receiver: Receiver,
  ): Promise<void> {
    const { manifest } = this.#collection;
    await writeAll(connection, encodeMessage({ type: "offer", manifest }));
    const { held } = await reader.expect("answer", 4 + manifest.length * MAX_HELD_BYTES);
    if (held.length !== manifest.length) {
      throw new MalformedMessageError(
        `Cannot read answer: ${held.length} entries, ${manifest.length} were offered`,
      );
    }
    const steps = await this.#plan(held);
    await writeAll(
      connection,
      encodeMessage({ type: "plan", steps: steps.map(({ step }) => step) }),
    );
    receiver.listen();
    this.#meter.begin(steps.map(({ offset }) => offset));
    this.#heldBytes = steps.reduce((sum, { offset }) => sum + offset, 0);
    for (const [index, planned] of steps.entries()) {
      if (planned.step !== "keep") await this.#send(connection, index, planned);
      this.#meter.finish(index);
    }
    await receiver.done;
    await connection.closeWrite().catch(() => {}); // the receiver may have gone already
  }

  async #plan(held: readonly Held[]): Promise<PlannedStep[]> {
    const steps: PlannedStep[] = [];
    for (const [index, each] of held.entries()) steps.push(await this.#planOne(index, each));
    return steps;
  }

  async #planOne(index: number, held: Held): Promise<PlannedStep> {
    const { kind, size } = this.#collection.manifest[index]!;
    if (kind === "folder") return { step: "keep", offset: 0 };
    if (held.state === "done") return { step: "keep", offset: size };
    if (!("hash" in held) || held.length > size) return { step: "send", offset: 0 };
    const { length, state } = held;
    const hash = await hashFile(this.#files, this.#collection.paths[index]!, length);
    if (hash === undefined || !equalBytes(hash.digest(), held.hash)) {
      return { step: "send", offset: 0 };
    }
    if (state === "part") return { step: "continue", offset: length, hash };
    return length === size ? { step: "keep", offset: size } : { step: "send", offset: 0 };
  }

  async #send(
    connection: TcpConnection,
    index: number,
    { offset, hash }: PlannedStep,
  ): Promise<void> {
    await sendFile(connection, {
      files: this.#files,
      path: this.#collection.paths[index]!,
      entry: this.#collection.manifest[index]!,
      offset,
      hash,
      onPiece: (length) => this.#meter.add(index, length),
    });
  }
}

/** What the receiver says while it is sent files: nothing but that it has them all, or that it cannot go on. */
class Receiver {
  readonly #connection: TcpConnection;
  readonly #reader: MessageReader;
  #done: Promise<unknown> | undefined;
  #failure: unknown;

  constructor(connection: TcpConnection, reader: MessageReader) {
    this.#connection = connection;
    this.#reader = reader;
  }

  /** Why nothing comes from the receiver any more: it has said so, or the connection broke. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Resolves once it has it all. */
  get done(): Promise<unknown> {
    return this.#done ?? Promise.resolve();
  }

  /** A failure ends the connection, and with it a write that nobody reads any more. */
  listen(): void {
    this.#done = this.#reader.expect("done", 0);
    this.#done.catch((error) => {
      this.#failure = error;
      this.#connection.reset();
    });
  }

  /** Settles once the receiver has ended the stream. */
  async end(): Promise<void> {
    if (this.#done !== undefined) await this.#done;
    else await this.#reader.drain();
  }
}

interface PlannedStep {
  readonly step: PlanStep;
  /** What the receiver has of it, once this is planned. */
  readonly offset: number;
  /** Of those bytes. */
  readonly hash?: RunningHash;
}

const MAX_HELD_BYTES = 9 + HASH_BYTES;
