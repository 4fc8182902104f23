/**
 * What happens to connections when the network below them changes.
 *
 * This host's own network is looked at twice a second, without a packet: its addresses and gateways, where the program may
 * know them, and whether the address that a path leaves from is still there. What happens further away shows when an answer
 * is overdue. The side with the ticket then searches for another path beside the present one; the other side asks it to, by
 * a message over signaling. Most connections never need that, so that it is loaded a moment after there is one.
 *
 * @module
 */

import { undefinedIfMalformed } from "../base/errors.ts";
import { withoutLogin } from "../base/login.ts";
import { idleDelay } from "../base/timers.ts";
import { isOwnAddress } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import type { PeerConnection, Recall } from "./connection.ts";
import type { PeerContext } from "./context.ts";
import { PathChoices } from "./path_choice.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import { decodeRecall, encodeRecall } from "./recall_message.ts";

/** What is seen of this host's network. */
export interface NetworkView {
  /** The addresses of this host, or those of them that paths leave from. */
  readonly ips: ReadonlySet<string>;
  /** The default gateways; `""` if they are not known. */
  readonly gateways: string;
}

/** Watches this host's network for the connections of one peer. */
export class Roaming {
  readonly #context: PeerContext;
  readonly #connections: ReadonlySet<PeerConnection>;
  readonly #choices: PathChoices;
  #isWatching = false;
  /** How many connections listen for recalls. */
  #listening = 0;

  /** @param connections the open ones */
  constructor(context: PeerContext, connections: ReadonlySet<PeerConnection>) {
    this.#context = context;
    this.#connections = connections;
    this.#choices = new PathChoices(context.udp !== undefined, context.logger);
  }

  /** Follows a connection until it or the peer has ended. */
  async follow(connection: PeerConnection, signal: AbortSignal): Promise<void> {
    if (!connection.mayMove || !this.#connections.has(connection)) return;
    if (connection.isControlling) this.#choices.watch(connection);
    const listening = connection.isControlling ? this.#listen(connection) : null;
    if (!this.#isWatching) {
      this.#isWatching = true;
      await this.#watch(signal).finally(() => this.#isWatching = false);
    }
    await listening;
  }

  /** The further ones notice by themselves: a server takes only so many topics of one client. */
  async #listen(connection: PeerConnection): Promise<void> {
    if (this.#listening >= MAX_LISTENING) return;
    this.#listening++;
    await listenForRecalls(this.#context, connection);
    this.#listening--;
  }

  async #watch(signal: AbortSignal): Promise<void> {
    let before: NetworkView | undefined;
    while (this.#connections.size > 0 && !signal.aborted) {
      const view = await viewOf(this.#context.network, this.#ips());
      if (before !== undefined) this.#compare(before, view);
      before = view;
      await idleDelay(WATCH_MS, signal);
    }
  }

  /** Those that paths leave from. */
  #ips(): Set<string> {
    return new Set(Array.from(this.#connections, ({ localIp }) => localIp ?? []).flat());
  }

  #compare(before: NetworkView, view: NetworkView): void {
    const gone = new Set([...before.ips].filter((ip) => !view.ips.has(ip)));
    const isRerouted = before.gateways !== view.gateways;
    const isConcerned = ({ localIp }: PeerConnection) =>
      gone.size > 0 && (localIp === undefined || gone.has(localIp));
    const isLost = [...this.#connections].some(isConcerned);
    if (!isLost && !isRerouted) return;
    const { baseSockets, signaling, logger } = this.#context;
    logger?.debug(`connect: ${isLost ? "an address of this host is gone" : "routes have changed"}`);
    baseSockets?.discard();
    signaling.check({ isLost });
    for (const connection of this.#connections) {
      const isChanged = connection.hasPath && (isRerouted || isConcerned(connection));
      if (isChanged) connection.probe({ hasChanged: true });
    }
  }
}

/**
 * Asks the dialer of a connection to search for another path, for as long as it needs one: a few times at first, then as
 * soon as a rendezvous server that is away can be reached again, for two minutes at most.
 */
export async function recall(context: PeerContext, connection: PeerConnection): Promise<void> {
  const { closed, baseSockets, signaling } = context;
  const { recall } = connection;
  if (!recall?.rate.take(performance.now())) return;
  baseSockets?.discard(); // a NAT may have forgotten what it has learned
  signaling.check();
  const isNeeded = () => !closed.aborted && connection.needsPath;
  for (const waitMs of RECALLS_MS) {
    await idleDelay(waitMs, closed);
    if (!isNeeded()) return;
    publishRecall(context, recall, () => true);
  }
  if (recall.isRepeated) return;
  recall.isRepeated = true;
  for (let left = MAX_LATE_RECALLS; left > 0; left--) {
    await idleDelay(LATE_RECALL_MS, closed);
    if (!isNeeded()) break;
    publishRecall(context, recall, isAway);
  }
  recall.isRepeated = false;
}

/** By the servers that are chosen. What is published by one that is away waits for it, and makes it open sooner. */
function publishRecall(
  { signaling, logger }: PeerContext,
  { urls, topic, key }: Recall,
  isChosen: (signaling: SignalingConnection) => boolean,
): void {
  for (const url of urls) {
    const lease = signaling.lease(url);
    lease.signaling
      .then(async (signaling) => {
        if (isChosen(signaling)) await signaling.publish(topic, encodeRecall(Date.now(), key));
      })
      .catch((error) => logger?.debug(`connect: ${withoutLogin(url)}: ${error}`))
      .finally(() => lease[Symbol.asyncDispose]());
  }
}

/** The round trip is that of the connection that is open. */
function isAway({ url, rttMs }: SignalingConnection): boolean {
  return /^wss?:/.test(url) && rttMs === undefined;
}

/** What this host's network looks like, as far as it may be known. */
export async function viewOf(network: Network, ips: ReadonlySet<string>): Promise<NetworkView> {
  const [listed, gateways] = await Promise.all([
    network.localAddresses(),
    network.defaultGateways(),
  ]);
  const own: string[] = listed?.map(({ ip }) => ip) ?? [];
  if (listed === undefined) {
    for (const ip of ips) if (await isOwnAddress(network, ip)) own.push(ip);
  }
  const routes = gateways?.map(({ ip, interfaceName }) => `${ip} ${interfaceName}`) ?? [];
  return { ips: new Set(own), gateways: routes.join(", ") };
}

/** Until the connection has ended, or the program may end before it. */
async function listenForRecalls(context: PeerContext, connection: PeerConnection): Promise<void> {
  const { closed, logger } = context;
  const { recall } = connection;
  if (recall === undefined || closed.aborted) return;
  const { topic, key, urls, rate } = recall;
  let latestMs = -Infinity;
  const onMessage = (message: Uint8Array) => {
    const timeMs = undefinedIfMalformed(() => decodeRecall(message, key));
    if (timeMs === undefined || timeMs <= latestMs || !rate.take(performance.now())) return;
    latestMs = timeMs;
    connection.recalled();
  };
  const ended = Promise.withResolvers<void>();
  connection.onUnref = ended.resolve;
  connection.finished.then(ended.resolve, ended.resolve);
  const onClosed = () => ended.resolve();
  closed.addEventListener("abort", onClosed, { once: true });
  const listening = urls.filter((url) => isFree(url, context)).map(async (url) => {
    await using lease = context.signaling.lease(url);
    try {
      const signaling = await lease.signaling;
      await using _subscription = await signaling.subscribe(topic, onMessage, { signal: closed });
      await ended.promise;
    } catch (error) {
      logger?.debug(`connect: ${withoutLogin(url)}: ${error}`);
    }
  });
  await Promise.all(listening);
  closed.removeEventListener("abort", onClosed);
}

/**
 * Whether listening there costs others nothing to speak of: a rendezvous server is run for its peers, and in the LAN nothing
 * is sent. The brokers of others are left alone once there is a connection, unless this peer listens there anyway.
 */
function isFree(url: string, { signalingUrls }: PeerContext): boolean {
  return /^(?:wss?|lan):/.test(url) || signalingUrls.includes(url);
}

/** From one look at this host's network to the next. Chosen by us: a change is to be noticed within a second. */
const WATCH_MS = 500;

/** Chosen by us: a quarter of the topics that a rendezvous takes of a client. */
const MAX_LISTENING = 16;

/** The waits before each request. Chosen by us: signaling may be opening again at first. */
const RECALLS_MS: readonly number[] = [0, 300, 700, 1500];

/**
 * From one request to the next after that, and how many there are. Chosen by us: as long as publishing waits, and as a
 * connection waits for a path.
 */
const [LATE_RECALL_MS, MAX_LATE_RECALLS] = [2000, 60];
