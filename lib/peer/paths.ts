/**
 * Finds ways to a peer who is on the line: the direct ones, all at once, and that by a relay, a little later. A relay
 * that was faster does not end the search for a direct way.
 *
 * @module
 */

import { type ConnectionAttempt, UnreachableError } from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { Deadline } from "../base/timers.ts";
import { ipScope } from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { type SecureConnection, secureConnectionFromKeys } from "../noise/secure_connection.ts";
import type { AttemptRecord } from "../punch/nomination.ts";
import {
  type BaseSocket,
  punch,
  type PunchOptions,
  type PunchPlan,
  type PunchRole,
} from "../punch/punch.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { pathKeys } from "./keys.ts";
import { openRelayPath, type RelayOpener } from "./relay_path.ts";
import { abortable } from "@std/async/abortable";

/** What the search needs. */
export interface PathFinderOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** Both sides' channels. */
  readonly punchChannel: SignalChannel;
  readonly relayChannel: SignalChannel;
  /** Resolves with what both sides have and nobody else, once they have heard each other. */
  readonly connectionKey: Promise<Uint8Array>;
  /** The other side's public key. */
  readonly remoteKey: Uint8Array;
  /** A punch port that is ready, or about to be; `undefined` if direct ways are out of the question. */
  readonly base: Promise<BaseSocket> | undefined;
  /** What else a punch may be told. */
  readonly punchOptions: Pick<PunchOptions, "servers" | "report" | "pathKinds" | "logger">;
  readonly relays: readonly RelayOpener[];
  /** Whether a relay may be used, this side's or the other's. */
  readonly mayRelay: boolean;
  /** Whether the other side shall not learn this one's addresses. */
  readonly isHidden: boolean;
  /** For each way. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Takes each way that is found, the best last. */
  readonly onPath: (path: FoundPath) => void;
}

/** A way to the peer. */
export interface FoundPath extends PathReport {
  /** Encrypted, and with nobody else at the other end; taken over. */
  readonly connection: SecureConnection;
}

/** How a way was found. */
export interface PathReport {
  /** The kind of path. */
  readonly kind: PathKind;
  /** How it got through the filters of both sides; `null` unless `kind` is `"punch-tcp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp";
  /** Whether a relay carries it. */
  readonly isRelayed: boolean;
  /** From the moment when both sides' addresses were known. */
  readonly punchMs: number;
  /** What was tried on the way to it. */
  readonly attempts: readonly ConnectionAttempt[];
}

/**
 * Searches until a direct way is found or nothing more is to be expected.
 *
 * @throws {UnreachableError} if there is no way, with all that was tried
 * @throws the signal's reason on abort
 */
export async function findPaths(options: PathFinderOptions): Promise<void> {
  await new PathFinder(options).run();
}

class PathFinder {
  readonly #options: PathFinderOptions;
  readonly #directFound = new AbortController();
  /** Resolves when the relay's turn has come. */
  readonly #relayTurn = Promise.withResolvers<void>();
  readonly #relayTraces: AttemptRecord[] = [];
  #punchAttempts: readonly ConnectionAttempt[] = [];
  #relayTimer: ReturnType<typeof setTimeout> | undefined;
  #hasFound = false;

  constructor(options: PathFinderOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { base, mayRelay, signal } = this.#options;
    const searches: Promise<void>[] = [];
    if (base === undefined) this.#relayTurn.resolve();
    else searches.push(this.#findDirect(base));
    if (mayRelay) searches.push(this.#findRelayed());
    const results = await Promise.allSettled(searches);
    clearTimeout(this.#relayTimer);
    signal.throwIfAborted();
    if (this.#hasFound) return;
    const reasons = results.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
    const unexpected = reasons.find((reason) => !(reason instanceof UnreachableError));
    if (unexpected !== undefined) throw unexpected;
    const why = reasons.map((reason) => (reason as Error).message.replace(/^Cannot \w+: /, ""));
    throw new UnreachableError(`Cannot connect: ${why.join("; ")}`, this.#attempts, {
      cause: reasons[0],
    });
  }

  get #attempts(): ConnectionAttempt[] {
    return [...this.#punchAttempts, ...this.#relayTraces.map((trace) => trace.toAttempt())];
  }

  async #findDirect(base: Promise<BaseSocket>): Promise<void> {
    const { network, role, punchChannel, punchOptions, timeoutMs, signal } = this.#options;
    try {
      const connection = await punch({
        ...punchOptions,
        ...{ network, role, timeoutMs, signal },
        channel: punchChannel,
        base: await base,
        onPlan: (plan) => this.#onPlan(plan),
      });
      const { kind, method, transport, punchMs, channelBinding, attempts } = connection.punch;
      this.#punchAttempts = attempts;
      this.#directFound.abort(); // before the first await: a relay that comes now comes too late
      const found = { kind, method, transport, punchMs, isRelayed: false };
      await this.#hand(connection, channelBinding, found);
    } catch (error) {
      if (error instanceof UnreachableError) this.#punchAttempts = error.attempts;
      throw error;
    } finally {
      this.#relayTurn.resolve();
    }
  }

  /** Where a plan promises little, nobody waits for its failure. */
  #onPlan({ method, successEstimate }: PunchPlan): void {
    if (method === "impossible" || successEstimate < LIKELY) return this.#relayTurn.resolve();
    this.#relayTimer ??= setTimeout(() => this.#relayTurn.resolve(), RELAY_AFTER_MS);
  }

  async #findRelayed(): Promise<void> {
    const { network, role, relayChannel, relays, isHidden, timeoutMs } = this.#options;
    const signal = AbortSignal.any([this.#options.signal, this.#directFound.signal]);
    try {
      const connectionKey = await abortable(this.#options.connectionKey, signal);
      await abortable(this.#relayTurn.promise, signal);
      const startedAtMs = performance.now();
      using deadline = new Deadline(timeoutMs, signal);
      const { connection, channelBinding } = await openRelayPath({
        ...{ network, role, connectionKey, relays, isHidden },
        channel: relayChannel,
        ips: await this.#externalIps(),
        onTrace: (trace) => this.#relayTraces.push(trace),
        signal: deadline.signal,
      });
      if (signal.aborted) return connection.reset(); // a direct way was found at the same moment
      const punchMs = performance.now() - startedAtMs;
      await this.#hand(connection, channelBinding, {
        kind: "relay",
        method: null,
        transport: "tcp",
        punchMs,
        isRelayed: true,
      });
    } catch (error) {
      this.#options.signal.throwIfAborted();
      if (signal.aborted) return; // a direct way was found
      if (!(error instanceof DOMException && error.name === "TimeoutError")) throw error;
      throw new UnreachableError(
        "Cannot relay: no connection by a relay came about in time",
        this.#attempts,
        {
          cause: error,
        },
      );
    }
  }

  /** Hands over a connection, with the keys that are its own. */
  async #hand(
    connection: TcpConnection,
    channelBinding: Uint8Array,
    found: Omit<PathReport, "attempts">,
  ): Promise<void> {
    const { role, remoteKey, connectionKey, onPath } = this.#options;
    const keys = pathKeys(await connectionKey, channelBinding, role);
    const secured = secureConnectionFromKeys(connection, { ...keys, remoteStaticKey: remoteKey });
    this.#hasFound = true;
    onPath({ ...found, connection: secured, attempts: this.#attempts });
  }

  /** Where this side's dials come from, as far as it knows. */
  async #externalIps(): Promise<string[]> {
    const base = await this.#options.base?.catch(() => undefined);
    if (base === undefined) return [];
    const { profile, candidates } = base.description;
    const ips = [profile.externalIp, ...candidates.map(({ address }) => address.ip)];
    return [...new Set(ips)].filter((ip) => ip !== null && isRoutable(ip)) as string[];
  }
}

/** Whether a relay on the internet can see it. */
function isRoutable(ip: string): boolean {
  const scope = ipScope(ip);
  return scope === "global" || scope === "documentation";
}

/** Ours: below, a relay is as likely to be needed as not. */
const LIKELY = 0.5;

/**
 * How long the direct ways have for themselves, from the moment when there is a plan. Ours: a punch takes one round
 * trip, which is seldom longer, and two if a SYN is lost; a relay costs its owner something.
 */
const RELAY_AFTER_MS = 1000;
