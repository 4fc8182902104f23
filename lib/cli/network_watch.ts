/**
 * Watches whether any server can be reached through which to meet the peer, and finds out what stands in the way if none
 * can, while the command goes on.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { WakeableDelay } from "../base/timers.ts";
import type { gatherEvidence } from "../nat/examination.ts";
import type { explainNetwork } from "../nat/findings.ts";
import type { Finding } from "../nat/behavior.ts";
import { ipScope, isIp, whyNotPublic } from "../net/address.ts";
import { isOwnAddress, type NamedHost } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { chooseServers } from "../nat/servers.ts";
import type { PeerOptions, PeerProgress } from "../peer/options.ts";
import type { ConnectionEvents } from "./peer_events.ts";

interface WatchOptions {
  readonly network?: Network;
  readonly isProxied?: boolean;
  readonly servers?: readonly string[];
}

/** What examines a network. */
export interface Examiners {
  readonly gatherEvidence: typeof gatherEvidence;
  readonly explainNetwork: typeof explainNetwork;
}

/** Loads what examines a network; few commands need it. A command whose port may be flooded loads it before. */
export async function loadExaminers(): Promise<Examiners> {
  const { gatherEvidence } = await import("../nat/examination.ts");
  const { explainNetwork } = await import("../nat/findings.ts");
  return { gatherEvidence, explainNetwork };
}

/** Reports at most once, and nothing once a server was reached. */
export class NetworkWatch implements AsyncDisposable {
  readonly #events: ConnectionEvents;
  readonly #network: Network;
  readonly #tasks: TaskGroup;
  readonly #delay = new WakeableDelay();
  /** The servers, and why they failed; `undefined` while that is not known. */
  readonly #servers = new Map<string, { readonly host: NamedHost; error?: unknown }>();
  #done: Promise<void> | undefined;
  #isReached = false;
  readonly #isProxied: boolean;
  readonly #stunServers: readonly string[] | undefined;

  /** The hosts that the user has named, and those of the defaults. */
  readonly #own: ReadonlySet<string>;

  /**
   * @param named the ways to meet that the user has named, or the defaults: only these may lead into a private network
   * @param options.network Default: the system's
   * @param options.servers the STUN servers of the peer. Default: public ones; none are asked if the list is empty
   * @param options.isProxied whether a proxy reaches the servers: then nothing is found out by dialling them
   */
  constructor(
    events: ConnectionEvents,
    named: PeerOptions["signaling"] = [],
    { network = systemNetwork, isProxied = false, servers }: WatchOptions = {},
  ) {
    this.#isProxied = isProxied;
    this.#stunServers = servers;
    this.#events = events;
    this.#network = network;
    this.#own = new Set(
      named.flatMap((way) => hostOf(typeof way === "string" ? way : way.url)?.host ?? []),
    );
    this.#tasks = new TaskGroup((error) => {
      if (!(error instanceof NetworkError)) throw error; // what is not found out is not said
    });
  }

  /** Takes the progress of a peer, and reports it. */
  readonly onProgress = (progress: PeerProgress): void => {
    this.#events.onProgress(progress);
    if (progress.event === "answered") return this.#reached();
    if (progress.event === "finding") return;
    const { url, state, error } = progress;
    const host = hostOf(url);
    if (host === undefined) return;
    if (state === "open" || state === "lost") return this.#reached();
    if (state !== "opening" && state !== "failed") return;
    const known = this.#servers.get(url) ?? { host };
    this.#servers.set(url, state === "failed" ? { host, error } : known);
    this.#begin();
    const servers = [...this.#servers.values()];
    if (servers.every((server) => server.error !== undefined)) this.#delay.wake();
  };

  /** Does something that needs the servers; if it fails, waits until it is known what stands in the way. */
  async explaining<T>(job: () => Promise<T>): Promise<T> {
    try {
      return await job();
    } catch (error) {
      await this.explain();
      throw error;
    }
  }

  /** Waits until it is known what stands in the way, if that is being found out. */
  async explain(): Promise<void> {
    this.#delay.wake();
    await this.#done;
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks.stop();
  }

  #reached(): void {
    this.#isReached = true;
    this.#tasks.stop();
  }

  #begin(): void {
    if (this.#done !== undefined || this.#isReached || this.#isProxied) return;
    const done = Promise.withResolvers<void>();
    this.#done = done.promise;
    this.#tasks.run(async (signal) => {
      try {
        await this.#delay.wait(EXAMINE_AFTER_MS, signal);
        await this.#examine(signal);
      } finally {
        done.resolve();
      }
    });
  }

  async #examine(signal: AbortSignal): Promise<void> {
    const { gatherEvidence, explainNetwork } = await loadExaminers();
    const servers = [...this.#servers.values()].filter(({ error }) => !isForbidden(error));
    if (servers.length === 0) return;
    const evidence = await gatherEvidence({
      network: this.#network,
      hosts: servers.map(({ host }) => host),
      mayDial: this.#mayDial,
      stunServers: this.#stunServers?.length === 0
        ? undefined
        : this.#stunServers ?? chooseServers(Math.random),
      signal,
    });
    signal.throwIfAborted();
    const { sending, names, dials } = evidence;
    const isUntried = sending === "sends" && dials.length === 0;
    if (isUntried && (names.asked === 0 || names.found > 0)) return; // there is nothing to judge by
    const errors = servers.map(({ error }) => error);
    const hasWrongAnswer = errors.some(isWrongAnswer);
    for (const finding of explainNetwork({ ...evidence, hasWrongAnswer })) this.#report(finding);
  }

  /** A ticket must not direct this host at its own network, or at itself. */
  readonly #mayDial = async (host: string, ip: string): Promise<boolean> =>
    this.#own.has(host) || whyNotPublic(ip) === null && !await isOwnAddress(this.#network, ip);

  #report(finding: Finding): void {
    // What a server says itself is told with the way that failed.
    if (finding.kind === "silent-server" || finding.kind === "refused") return;
    this.#events.finding(finding);
  }
}

/** Whether the user has to name the server first. */
function isForbidden(error: unknown): boolean {
  return error instanceof NetworkError && error.reason === "not-allowed";
}

/** Whether something else than the server answered, as far as the error tells. */
function isWrongAnswer(error: unknown): boolean {
  return error instanceof MalformedMessageError || error instanceof RefusedError ||
    error instanceof NetworkError && error.reason === "tls";
}

/** The server that a URL names; `undefined` if it names no host, or this one. */
function hostOf(url: string): NamedHost | undefined {
  const [, scheme] = /^([a-z+]+):\/\//.exec(url) ?? [];
  const plain = `http://${url.slice((scheme ?? "").length + 3)}`;
  if (scheme === undefined || !(scheme in PORTS) || !URL.canParse(plain)) return undefined;
  const { hostname, port } = new URL(plain);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  const isHere = host === "localhost" || isIp(host) && ipScope(host) === "loopback";
  // `URL` leaves out port 80, as it is that of http.
  const isPlainWeb = /:80(?:[/?#]|$)/.test(plain);
  const given = port !== "" ? Number(port) : isPlainWeb ? 80 : PORTS[scheme]!;
  return isHere ? undefined : { host, port: given };
}

const PORTS: Readonly<Record<string, number>> = {
  ...{ ws: 80, "mqtt+ws": 80, wss: 443, "mqtt+wss": 443 },
  ...{ mqtt: 1883, mqtts: 8883 },
};

/** Chosen by us: longer than most servers take to answer, and short enough to name the cause within five seconds. */
const EXAMINE_AFTER_MS = 1000;
