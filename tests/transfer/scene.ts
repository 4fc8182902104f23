/**
 * A sender and a receiver in memory.
 *
 * @module
 */

import type { ReceiveFilesOptions } from "../../lib/transfer/consent.ts";
import type { NextConnection } from "../../lib/transfer/reconnect.ts";
import { receiveFiles } from "../../lib/transfer/receiver.ts";
import { sendFiles, type SendFilesOptions } from "../../lib/transfer/sender.ts";
import type { TransferResult } from "../../lib/transfer/progress.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { MemoryFiles } from "./memory_files.ts";
import { connectionSources } from "./pipe.ts";

/** The setup of a transfer. */
export interface Scene {
  /** The sender's files. */
  readonly here: MemoryFiles;
  /** What is sent. Default: `/data`. */
  readonly sources?: readonly string[];
  /** The receiver's files; it receives into `/in`. */
  readonly there?: MemoryFiles;
  /** As for {@linkcode connectionSources}. */
  readonly cuts?: readonly number[];
  readonly send?: SendFilesOptions;
  /** Sees everything that the receiver sends. */
  readonly onReply?: (bytes: Uint8Array) => void;
  /** By default, offers are accepted. */
  readonly receive?: Partial<ReceiveFilesOptions>;
}

/** The result on both sides. */
export interface Played {
  readonly sent: PromiseSettledResult<TransferResult>;
  readonly received: PromiseSettledResult<TransferResult>;
  readonly there: MemoryFiles;
  readonly connections: number;
}

/** Runs the transfer in virtual time. */
export async function play(scene: Scene): Promise<Played> {
  const { here, sources = ["/data"], there = inbox(), cuts = [], onReply = () => {} } = scene;
  const { sender, receiver, count } = connectionSources(cuts);
  const quick = { reconnectWithinMs: 1000 };
  using time = new VirtualTime();
  const [sent, received] = await time.run(() =>
    Promise.allSettled([
      sendFiles(sender, sources, { ...quick, files: here, ...scene.send }),
      receiveFiles(observed(receiver, onReply), "/in", {
        ...quick,
        files: there,
        onOffer: () => true,
        ...scene.receive,
      }),
    ])
  );
  return { sent, received, there, connections: count() };
}

function observed(next: NextConnection, onWrite: (bytes: Uint8Array) => void): NextConnection {
  return async (options) => {
    const connection = await next(options);
    const write = connection.write.bind(connection);
    connection.write = (bytes) => {
      onWrite(bytes.slice());
      return write(bytes);
    };
    return connection;
  };
}

/** An empty folder to receive into. */
export function inbox(): MemoryFiles {
  return new MemoryFiles().folder("/in");
}

/** The result of a side; throws its failure. */
export function valueOf<T>(settled: PromiseSettledResult<T>): T {
  if (settled.status === "rejected") throw settled.reason;
  return settled.value;
}

/** The failure of a side, as `Name reason: message`. */
export function failureOf(settled: PromiseSettledResult<unknown>): string {
  if (settled.status === "fulfilled") return "none";
  const { name, reason, message } = settled.reason;
  return `${name} ${reason}: ${message}`;
}
