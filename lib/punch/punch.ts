/**
 * TCP hole punching: two programs behind two NATs get one TCP connection between them.
 *
 * @module
 */

import { type ConnectionAttempt, UnreachableError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { PunchMethodName } from "../base/path_kind.ts";
import { Deadline } from "../base/timers.ts";
import type { FamilyReport } from "../nat/behavior.ts";
import { chooseServers } from "../nat/servers.ts";
import { parseHostPort, type TransportAddress } from "../net/address.ts";
import { type DenoConn, toDenoConn } from "../net/deno_conn.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { BaseSocket } from "./gathering.ts";
import { PUNCH_LIMITS } from "./limits.ts";
import { MANUAL_MS } from "./manual.ts";
import { MAX_ROUNDS, type PunchRole } from "./offer.ts";
import { DIRECT_PATH_KINDS, type DirectPathKind, methodOf, type PunchPlan } from "./plan_types.ts";
import { countSyns, type RoundResult, runRound } from "./round.ts";

/** What a punch port needs before there is a peer. */
export interface PreparePunchOptions {
  /** STUN servers that speak TCP, `HOST[:PORT]`; a few public ones by default, none for a punch within a LAN. */
  readonly servers?: readonly string[];
  /** What {@linkcode testNat} found over TCP: it knows of filters and resets, which make for better plans. */
  readonly report?: FamilyReport | null;
  /** External addresses that a router forwards to the punch port. */
  readonly mapped?: readonly TransportAddress[];
  /** The system's own unless given. */
  readonly network?: Network;
  /** Ends it. */
  readonly signal?: AbortSignal;
}

/** What {@linkcode punch} takes. */
export interface PunchOptions extends PreparePunchOptions {
  /** Carries the offers of both sides. */
  readonly channel: SignalChannel;
  /** The controlling side chooses the connection; one side is the one, the other the other. */
  readonly role: PunchRole;
  /** Prepared before, to spare the time; it is used up. One that is older than 25 s is prepared anew. */
  readonly base?: BaseSocket;
  /**
   * A key that both sides know and nobody else, not a password: then nobody but the peer can make an offer, or be met,
   * however the channel is to be trusted. Whoever carries the connection can still read and change what runs over it.
   */
  readonly sharedSecret?: Uint8Array;
  /** The kinds of path to try. Default: all of {@linkcode DIRECT_PATH_KINDS}. */
  readonly pathKinds?: ReadonlySet<DirectPathKind>;
  /** Hears of each plan as soon as both offers are known, also if it is that there is no way. */
  readonly onPlan?: (plan: PunchPlan) => void;
  /** For all of it, in milliseconds; 30 000 unless given, ten minutes on a channel that is `isManual`. */
  readonly timeoutMs?: number;
  /** Hears of plans and rounds. */
  readonly logger?: Logger;
}

/** The connection, and how it came about. */
export type PunchedConn = DenoConn & { readonly punch: PunchReport };

/** How a connection came about. */
export interface PunchReport {
  /** The kind of path that connects the two sides. */
  readonly kind: DirectPathKind;
  /** How it got through the filters of both sides; `null` unless `kind` is `"punch-tcp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp";
  /** What was planned, and what was expected of it. */
  readonly plan: PunchPlan;
  /** From the moment when this side knew both offers until the connection was established. */
  readonly connectMs: number;
  /** From the same moment until it was nominated. */
  readonly punchMs: number;
  /** From the call. */
  readonly elapsedMs: number;
  /** How many times both sides tried. */
  readonly rounds: number;
  /** Everything that was dialled and accepted. */
  readonly attempts: readonly ConnectionAttempt[];
  /**
   * 32 bytes that both ends of this connection have, and of no other: nobody else, if nobody else could read the
   * channel or knows the shared secret. For keys of what runs over it.
   */
  readonly channelBinding: Uint8Array;
}

/**
 * Gets the punch port ready: its external address, and how the NAT chooses ports.
 *
 * @throws {NetworkError} `not-permitted`
 */
export async function preparePunch(options: PreparePunchOptions = {}): Promise<BaseSocket> {
  const { network = systemNetwork, signal } = options;
  const hosts = (options.servers ?? chooseServers(Math.random)).map((server) =>
    parseHostPort(server, 3478)
  );
  const servers = await resolveAll(network, hosts, signal);
  return await BaseSocket.open({
    network,
    servers,
    family: 4,
    ipv6Hosts: hosts,
    ...options.report && { report: options.report },
    ...options.mapped && { mapped: options.mapped },
    ...signal && { signal },
  });
}

/**
 * Punches: both sides call it, and both get the same connection, or the same refusal.
 *
 * Should one side be aborted, run out of time, or vanish, after the controlling side has nominated the connection, the other may return
 * it all the same; it is reset then, so that the next write or read fails.
 *
 * What a peer says of itself decides where SYNs go, to other hosts too if it lies. Never to this host, nor into its
 * private networks but for the peer's own port. All sprays together stay within the SYNs that {@linkcode PUNCH_LIMITS}
 * allows, and there is no further attempt of any kind after four times as many.
 *
 * @throws {UnreachableError} if there is no way, none was found in time, or both sides have the same role
 * @throws {NetworkError} if the channel breaks, or `not-permitted`
 */
export async function punch(options: PunchOptions): Promise<PunchedConn> {
  const { network = systemNetwork, channel, role } = options;
  const { isManual } = channel;
  const { timeoutMs = isManual ? MANUAL_MS : DEFAULT_TIMEOUT_MS } = options;
  const maxRounds = isManual ? 1 : MAX_ROUNDS;
  const startedAtMs = performance.now();
  using deadline = new Deadline(timeoutMs, options.signal);
  const { signal } = deadline;
  const attempts: ConnectionAttempt[] = [];
  let reason = "the other side said nothing";
  let sprayedSyns = 0;
  try {
    for (let round = 1; round <= maxRounds && countSyns(attempts) < MAX_SYNS;) {
      await using base = round === 1 && options.base !== undefined
        ? await options.base.renew(signal)
        : await preparePunch({ ...options, signal });
      await base.refresh(signal);
      using _kept = isManual ? base.keepAlive() : undefined;
      const result = await runRound({
        network,
        channel,
        role,
        sharedSecret: options.sharedSecret ?? new Uint8Array(0),
        pathKinds: options.pathKinds ?? ALL_PATH_KINDS,
        ...options.onPlan && { onPlan: options.onPlan },
        round,
        base,
        maxSyns: MAX_SYNS - countSyns(attempts),
        signal,
      });
      if (result.kind === "connected") {
        return punched(result, attempts, { round, startedAtMs });
      }
      if (result.kind === "impossible") {
        throw new UnreachableError(`Cannot punch: ${result.plan.reason}`, attempts);
      }
      attempts.push(...result.attempts);
      reason = result.plan?.reason ?? reason;
      sprayedSyns += result.sprayedSyns;
      // Both sides count the same, so both stop here.
      const nextSyns = result.plan?.sprayedSyns ?? 0;
      if (nextSyns > 0 && sprayedSyns + nextSyns > PUNCH_LIMITS.maxSyns) break;
      options.logger?.debug(`punch: round ${round} ${result.kind}`);
      signal.throwIfAborted();
      round = result.kind === "superseded" ? result.round : round + 1;
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error !== signal.reason) throw error;
    const message = `Cannot punch: no connection within ${timeoutMs} ms (${reason})`;
    throw new UnreachableError(message, attempts, { cause: error });
  }
  throw new UnreachableError(`Cannot punch: all attempts failed (${reason})`, attempts);
}

function punched(
  result: Extract<RoundResult, { kind: "connected" }>,
  earlier: readonly ConnectionAttempt[],
  { round, startedAtMs }: { round: number; startedAtMs: number },
): PunchedConn {
  const now = performance.now();
  const punch: PunchReport = {
    kind: result.pathKind,
    method: methodOf(result.pathKind, result.plan.method),
    transport: "tcp",
    plan: result.plan,
    connectMs: result.met.establishedAtMs - result.startedAtMs,
    punchMs: now - result.startedAtMs,
    elapsedMs: now - startedAtMs,
    rounds: round,
    attempts: [...earlier, ...result.attempts],
    channelBinding: result.channelBinding,
  };
  return Object.assign(toDenoConn(result.met.connection), { punch });
}

async function resolveAll(
  network: Network,
  hosts: readonly { host: string; port: number }[],
  signal?: AbortSignal,
): Promise<TransportAddress[]> {
  const found = await Promise.allSettled(hosts.map(async ({ host, port }) => {
    const [ip] = await network.resolve(host, 4, signal && { signal });
    return { ip: ip!, port };
  }));
  signal?.throwIfAborted();
  return found.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
}

/**
 * Ours: all sprays, and three times as much for redialling after resets. What is under way when it is exceeded goes on to its end;
 * the system's repetitions are not counted.
 */
const MAX_SYNS = 4 * PUNCH_LIMITS.maxSyns;

const ALL_PATH_KINDS: ReadonlySet<DirectPathKind> = new Set(DIRECT_PATH_KINDS);

const DEFAULT_TIMEOUT_MS = 30_000;
