/**
 * The program of one thread of `serve --workers N`. It is told what to serve by the main one.
 *
 * @module
 */

import { messageOf, NetworkError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { TcpConnection } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { attachTcp } from "../net/system/tcp.ts";
import { handOver } from "../serve/hand_over.ts";
import { SharedCounts } from "../serve/shared_counts.ts";
import { ThreadMesh } from "../serve/thread_mesh.ts";
import type { ThreadCommand, ThreadReport, ThreadStart } from "../serve/threads.ts";
import { type RendezvousServer, serveRendezvous } from "../signal/rendezvous/server.ts";

/** The part of a worker's global scope that this needs. */
interface ThreadScope {
  onmessage: (event: MessageEvent<ThreadCommand>) => void;
  postMessage(report: ThreadReport, transfer?: MessagePort[]): void;
}

const scope = globalThis as typeof globalThis & ThreadScope;

/** Serves as long as the main thread wants. */
async function serve(
  { index, ports, counts, settings }: ThreadStart,
): Promise<AsyncDisposableStack> {
  const stack = new AsyncDisposableStack();
  const { local, limits, trustedProxies, accessKey, files, hasStun, nats } = settings;
  const logger = reportingLogger();
  const { promise: serving, resolve } = Promise.withResolvers<RendezvousServer>();
  const mesh = new ThreadMesh({ index, ports }, {
    attach: attachTcp,
    onClient: async (connection, client) => (await serving).adopt(connection, client),
  });
  const tls = files && (await import("../net/system/tls_server.ts"));
  const bus = nats && (await import("../signal/nats/bus.ts"));
  const server = await serveRendezvous({
    ...{ network: systemNetwork, local, limits, trustedProxies, accessKey, logger },
    tls: tls && stack.use(await tls.openTlsAcceptor({ ...files!, logger })),
    serveStun: hasStun ? serveStun : undefined,
    bus: bus && stack.use(await bus.openNatsBus({ ...nats!, network: systemNetwork, logger })) ||
      mesh,
    relayPlaces: mesh,
    sourceCounts: new SharedCounts(counts),
    nodeHost: nats?.host,
    sharesPort: ports.length > 1,
  });
  stack.use(server);
  stack.defer(() => mesh.close());
  resolve(server);
  const timer = setInterval(() => reportFigures(server), FIGURES_MS);
  stack.defer(() => clearInterval(timer));
  server.finished.catch(reportFailure);
  scope.postMessage({ kind: "listening", local: server.local, url: server.url });
  current = server;
  return stack;
}

/** The main thread has the STUN server. */
async function serveStun(connection: TcpConnection): Promise<void> {
  await handOver({ connection, unread: new Uint8Array(0) }, (handed, transfer) => {
    scope.postMessage({ kind: "stun", handed }, transfer);
  });
}

function reportFigures(server: RendezvousServer): void {
  const { connections, rooms, topics, relays, relayedBytes, counters } = server;
  const figures = { connections, rooms, topics, relays, relayedBytes, counters };
  scope.postMessage({ kind: "figures", figures });
}

function reportingLogger(): Logger {
  const log = (level: keyof Logger) => (message: string) => {
    scope.postMessage({ kind: "log", level, message });
  };
  return { debug: log("debug"), info: log("info"), warn: log("warn") };
}

function reportFailure(error: unknown): void {
  const { reason, remedy } = error instanceof NetworkError ? error : {};
  scope.postMessage({ kind: "failed", message: messageOf(error), reason, remedy });
}

let current: RendezvousServer | undefined;
let running: AsyncDisposableStack | undefined;

scope.onmessage = async ({ data }) => {
  try {
    if (data.kind === "start") running = await serve(data);
    if (data.kind === "drain") {
      await current?.drain(data.timeoutMs);
      scope.postMessage({ kind: "drained" });
    }
    if (data.kind === "stop") {
      await running?.disposeAsync();
      scope.postMessage({ kind: "stopped" });
    }
  } catch (error) {
    reportFailure(error);
  }
};

/** Chosen by us: metrics are scraped every few seconds. */
const FIGURES_MS = 500;
