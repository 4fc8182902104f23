/**
 * `serve --workers N`: where the program of its threads is, and how they are started.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { readSmallFile } from "../net/system/private_input.ts";
import { attachTcp } from "../net/system/tcp.ts";
import type { CertificateFiles } from "../net/system/tls_server.ts";
import { type NatsSettings, type RunningRendezvous, startThreads } from "../serve/threads.ts";
import type { RendezvousOptions } from "../signal/rendezvous/server.ts";
import { UsageError } from "./io.ts";

/** What the threads serve. */
export interface WorkerOptions extends Omit<RendezvousOptions, "network" | "tls"> {
  readonly logger: Logger;
  /** The certificate, if there is TLS. */
  readonly files: Pick<CertificateFiles, "cert" | "key"> | undefined;
  /** The other nodes, if there are any. */
  readonly nats: NatsSettings | undefined;
}

/**
 * Starts the threads.
 *
 * @throws {UsageError} without the permission to read the program's own files
 * @throws {NetworkError} if they cannot listen
 */
export async function startWorkers(
  count: number,
  { local, limits = {}, trustedProxies = [], accessKey, files, nats, serveStun, logger }:
    WorkerOptions,
): Promise<RunningRendezvous> {
  await requireProgram();
  const hasStun = serveStun !== undefined;
  return await startThreads({
    ...{ program: PROGRAM, count, attach: attachTcp, serveStun },
    settings: { local, limits, trustedProxies, accessKey, files, hasStun, nats },
    logger,
  });
}

/**
 * From JSR, a thread is loaded as the program is. From files, Deno 2.9 wants a permission to read them, whichever way the
 * thread is started: by URL, from a `data:` or `blob:` URL that imports the file, at once or later, by `node:worker_threads`,
 * or when the main thread has loaded the same file. That leaves to have each file as text and to rewrite what it imports,
 * which would be a program that is not the one that was reviewed.
 */
async function requireProgram(): Promise<void> {
  if (PROGRAM.protocol !== "file:") return;
  try {
    await readSmallFile(decodeURIComponent(PROGRAM.pathname), MAX_PROGRAM_BYTES);
  } catch (error) {
    throw new UsageError("--workers: threads load the program's own files, and may not read them", {
      remedy: `Add --allow-read=${decodeURIComponent(FOLDER.pathname)}`,
      cause: error,
    });
  }
}

/** Chosen by us: a few lines, which load the rest. */
const MAX_PROGRAM_BYTES = 65_536;

const isSource = import.meta.url.endsWith(".ts");

/** Beside this file, or in the folder of an installed command, where all files are JavaScript. */
const PROGRAM = new URL(
  isSource ? "./serve_thread.ts" : "./lib/cli/serve_thread.js",
  import.meta.url,
);

/** The folder with all of the program's files. */
const FOLDER = new URL(isSource ? "../../" : "./", import.meta.url);
