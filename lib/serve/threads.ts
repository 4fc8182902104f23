/**
 * `serve --workers N`: a rendezvous in several threads, which listen on one port. The system gives each connection to one
 * of them; topics, rooms and pairs of the relay work across all threads.
 *
 * @module
 */

import { NetworkError, type NetworkErrorReason } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { TransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import type { CertificateFiles } from "../net/system/tls_server.ts";
import {
  DEFAULT_RENDEZVOUS_LIMITS,
  type RendezvousCounters,
  type RendezvousLimits,
  type RendezvousServer,
} from "../signal/rendezvous/server.ts";
import { type HandedConnection, takeOver } from "./hand_over.ts";
import { createSharedCounts, type SharedCountsTable } from "./shared_counts.ts";

/** A rendezvous, in one thread or in several. */
export type RunningRendezvous = Omit<RendezvousServer, "adopt">;

/** What joins several nodes, and which of them this is. */
export interface NatsSettings {
  readonly urls: readonly string[];
  readonly key: string;
  /** Where clients reach this node alone. */
  readonly host: string | undefined;
  /** From 0. */
  readonly index: number;
  readonly count: number;
}

/** What each thread serves. */
export interface ThreadSettings {
  readonly local: TransportAddress;
  /**
   * Of all threads together: connections and relays of a source too. What a source may cost, and what is said of one client
   * or topic, holds in each of them.
   */
  readonly limits: Partial<RendezvousLimits>;
  readonly trustedProxies: readonly string[];
  readonly accessKey: string | undefined;
  /** The certificate, if there is TLS. */
  readonly files: Pick<CertificateFiles, "cert" | "key"> | undefined;
  /** Whether clients may speak STUN on the port. */
  readonly hasStun: boolean;
  /** The other nodes, if there are any. Then the threads meet there as well. */
  readonly nats: NatsSettings | undefined;
}

/** What a thread is told first. */
export interface ThreadStart {
  readonly kind: "start";
  readonly index: number;
  readonly ports: readonly (MessagePort | null)[];
  /** What each source has in all threads. */
  readonly counts: SharedCountsTable;
  readonly settings: ThreadSettings;
}

/** What a thread is told. */
export type ThreadCommand =
  | ThreadStart
  | { readonly kind: "drain"; readonly timeoutMs: number }
  | { readonly kind: "stop" };

/** What a thread counts. */
export interface ThreadFigures {
  readonly connections: number;
  readonly rooms: number;
  readonly topics: number;
  readonly relays: number;
  readonly relayedBytes: number;
  readonly counters: RendezvousCounters;
}

/** What a thread reports. */
export type ThreadReport =
  | { readonly kind: "listening"; readonly local: TransportAddress; readonly url: string }
  | { readonly kind: "figures"; readonly figures: ThreadFigures }
  | { readonly kind: "log"; readonly level: keyof Logger; readonly message: string }
  | { readonly kind: "stun"; readonly handed: HandedConnection }
  | { readonly kind: "drained" | "stopped" }
  | {
    readonly kind: "failed";
    readonly message: string;
    /** Of a {@linkcode NetworkError}. */
    readonly reason: NetworkErrorReason | undefined;
    readonly remedy: string | undefined;
  };

/** How to start threads. */
export interface StartThreadsOptions {
  /** The program of a thread. */
  readonly program: URL;
  readonly count: number;
  readonly settings: ThreadSettings;
  readonly logger: Logger;
  /** Makes a connection from a file descriptor. */
  readonly attach: (fd: number) => TcpConnection | undefined;
  /** Serves a client that speaks STUN. */
  readonly serveStun?: (connection: TcpConnection) => Promise<void>;
}

/**
 * Starts the threads.
 *
 * @throws {NetworkError} if one cannot listen
 * @throws {Error} if one cannot start, such as without the permission to read the program's own files
 */
export async function startThreads(options: StartThreadsOptions): Promise<RunningRendezvous> {
  const { program, count, settings } = options;
  const limits = shareOf({ ...DEFAULT_RENDEZVOUS_LIMITS, ...settings.limits }, count);
  const ports = meshPorts(count);
  const counts = createSharedCounts();
  const threads: Thread[] = [];
  let { local } = settings;
  try {
    for (let index = 0; index < count; index++) {
      const thread = new Thread(program, options);
      threads.push(thread);
      const { index: node, count: nodes } = settings.nats ?? { index: 0, count: 1 };
      const numberShare = { index: node * count + index, count: nodes * count };
      const share = { ...limits, numberShare };
      await thread.start({
        kind: "start",
        index,
        ports: ports[index]!,
        counts,
        settings: { ...settings, local, limits: share },
      });
      local = thread.local!; // with port 0, the first one chooses
    }
  } catch (error) {
    for (const thread of threads) thread.terminate();
    for (const port of ports.flat()) port?.close();
    throw error;
  }
  return new ServerThreads(threads);
}

/** What one of so many threads may take. */
function shareOf(limits: RendezvousLimits, count: number): RendezvousLimits {
  const share = (amount: number) => Math.ceil(amount / count);
  return {
    ...limits,
    maxConnections: share(limits.maxConnections),
    maxRooms: share(limits.maxRooms),
    maxTopics: share(limits.maxTopics),
    maxRelays: share(limits.maxRelays),
    maxRelayHalves: share(limits.maxRelayHalves),
    allRelaysBytesPerSecond: share(limits.allRelaysBytesPerSecond),
  };
}

/** For each thread, a port to each other one. */
function meshPorts(count: number): (MessagePort | null)[][] {
  const ports = Array.from(
    { length: count },
    () => Array.from({ length: count }, (): MessagePort | null => null),
  );
  for (let one = 0; one < count; one++) {
    for (let other = 0; other < one; other++) {
      const { port1, port2 } = new MessageChannel();
      ports[one]![other] = port1;
      ports[other]![one] = port2;
    }
  }
  return ports;
}

/** One thread, as the main one sees it. */
class Thread {
  readonly finished: Promise<void>;
  local: TransportAddress | undefined;
  url = "";
  figures: ThreadFigures = NO_FIGURES;
  readonly #worker: Worker;
  readonly #options: StartThreadsOptions;
  readonly #finished = Promise.withResolvers<void>();
  readonly #waiting = new Map<ThreadReport["kind"], () => void>();

  constructor(program: URL, options: StartThreadsOptions) {
    this.#options = options;
    this.finished = this.#finished.promise;
    this.finished.catch(() => {}); // it is awaited where it matters
    this.#worker = new Worker(program, { type: "module", name: "rendezvous" });
    this.#worker.onmessage = ({ data }: MessageEvent<ThreadReport>) => this.#accept(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#finished.reject(new Error(`Cannot run a thread: ${event.message}`));
    };
  }

  async start(start: ThreadStart): Promise<void> {
    const transfer = start.ports.filter((port) => port !== null);
    await this.#ask(start, "listening", transfer);
  }

  async drain(timeoutMs: number): Promise<void> {
    await this.#ask({ kind: "drain", timeoutMs }, "drained");
  }

  async stop(): Promise<void> {
    await this.#ask({ kind: "stop" }, "stopped");
    this.terminate();
    this.#finished.resolve();
  }

  terminate(): void {
    this.#worker.terminate();
  }

  /** Resolves with the report that answers; rejects if the thread fails first. */
  async #ask(
    command: ThreadCommand,
    answer: ThreadReport["kind"],
    transfer: MessagePort[] = [],
  ): Promise<void> {
    const answered = new Promise<void>((resolve) => this.#waiting.set(answer, resolve));
    this.#worker.postMessage(command, transfer);
    await Promise.race([answered, this.finished]);
  }

  #accept(report: ThreadReport): void {
    const { logger, attach, serveStun } = this.#options;
    switch (report.kind) {
      case "listening":
        this.local = report.local;
        this.url = report.url;
        break;
      case "figures":
        this.figures = report.figures;
        break;
      case "log":
        logger[report.level](report.message);
        break;
      case "stun": {
        const connection = takeOver(report.handed, attach);
        if (connection !== undefined) serveStun?.(connection);
        break;
      }
      case "failed": {
        const { message, reason, remedy } = report;
        this.#finished.reject(
          reason === undefined ? new Error(message) : new NetworkError(message, reason, { remedy }),
        );
      }
    }
    this.#waiting.get(report.kind)?.();
  }
}

/** All threads, as one server. */
class ServerThreads implements RunningRendezvous {
  readonly local: TransportAddress;
  readonly url: string;
  readonly finished: Promise<void>;
  readonly #threads: readonly Thread[];

  constructor(threads: readonly Thread[]) {
    this.#threads = threads;
    this.local = threads[0]!.local!;
    this.url = threads[0]!.url;
    this.finished = Promise.race(threads.map((thread) => thread.finished));
  }

  get connections(): number {
    return this.#sum((figures) => figures.connections);
  }

  get rooms(): number {
    return this.#sum((figures) => figures.rooms);
  }

  get topics(): number {
    return this.#sum((figures) => figures.topics);
  }

  get relays(): number {
    return this.#sum((figures) => figures.relays);
  }

  get relayedBytes(): number {
    return this.#sum((figures) => figures.relayedBytes);
  }

  get counters(): RendezvousCounters {
    const refusals: Record<string, number> = {};
    for (const { figures } of this.#threads) {
      for (const [reason, count] of Object.entries(figures.counters.refusals)) {
        refusals[reason] = (refusals[reason] ?? 0) + count;
      }
    }
    return {
      connections: this.#sum(({ counters }) => counters.connections),
      tlsConnections: this.#sum(({ counters }) => counters.tlsConnections),
      upgrades: this.#sum(({ counters }) => counters.upgrades),
      refusals,
    };
  }

  async drain(timeoutMs: number): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.drain(timeoutMs)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#threads.map((thread) => thread.stop()));
    for (const thread of this.#threads) thread.terminate();
  }

  #sum(read: (figures: ThreadFigures) => number): number {
    return this.#threads.reduce((sum, { figures }) => sum + read(figures), 0);
  }
}

const NO_FIGURES: ThreadFigures = {
  ...{ connections: 0, rooms: 0, topics: 0, relays: 0, relayedBytes: 0 },
  counters: { connections: 0, tlsConnections: 0, upgrades: 0, refusals: {} },
};
