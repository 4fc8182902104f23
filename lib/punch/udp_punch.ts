/**
 * The punch by UDP that runs beside a punch by TCP, with the same offers, plans, limits and budget. Loaded only where UDP is
 * wanted.
 *
 * @module
 */

import type { ConnectionAttempt } from "../base/errors.ts";
import type { PunchMethodName } from "../base/path_kind.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { Network } from "../net/network.ts";
import { DATAGRAM_OVERHEAD, DatagramCipher } from "../udp/datagram_cipher.ts";
import type { UdpConnection } from "../udp/udp_connection.ts";
import type { DialFacts, PunchDescription } from "./candidates.ts";
import { planPunch } from "./check_list.ts";
import type { BaseSocket } from "./base_socket.ts";
import { type DialBudget, UDP_LIMITS } from "./limits.ts";
import { carryingMs, manualLimits } from "./manual.ts";
import { punchSecret } from "./nomination.ts";
import type { BothOffers, PunchRole } from "./offer.ts";
import {
  asTcpKinds,
  type DirectPathKind,
  methodOf,
  type PathContext,
  planWithPathKinds,
} from "./path_kinds.ts";
import type { PunchPlan } from "./plan_types.ts";
import type { UdpRival } from "./round.ts";
import { UdpBaseSocket } from "./udp_base_socket.ts";
import { UdpChecks, type UdpPath } from "./udp_checks.ts";

/** What prepares and runs punches by UDP. */
export interface UdpPunching {
  /** Whether the user has asked for UDP: then it is prepared even without STUN servers, for paths within a LAN. */
  readonly isWanted: boolean;
  readonly open: typeof UdpBaseSocket.open;
  readonly race: (options: UdpRaceOptions) => UdpRace;
  /** The application's datagrams over a path. The keys must be used for nothing else. */
  readonly datagrams: (connection: UdpConnection, keys: DatagramKeys) => DatagramPath;
  /** Waits until a path needs its socket no more. Once the peer is closed, that does not take long. */
  readonly releasedSoon: (connection: UdpConnection, closed: AbortSignal) => Promise<void>;
}

/** The keys of a {@linkcode DatagramPath}; 32 bytes each. */
export interface DatagramKeys {
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
}

/** Encrypted messages that may be lost, and arrive in any order. */
export interface DatagramPath {
  /** The longest message. */
  readonly maxBytes: number;
  /**
   * Sends a message.
   *
   * @returns `false` if it was dropped because the path cannot keep up
   * @throws {NetworkError} if the path has ended
   */
  send(message: Uint8Array): boolean;
  /**
   * The next authentic message.
   *
   * @throws {NetworkError} if the path has ended
   */
  receive(): Promise<Uint8Array>;
}

/** Punches by UDP. */
export function udpPunching(isWanted: boolean): UdpPunching {
  return {
    isWanted,
    open: (options) => UdpBaseSocket.open(options),
    race: (options) => new UdpRace(options),
    datagrams: securedDatagrams,
    releasedSoon,
  };
}

async function releasedSoon(connection: UdpConnection, closed: AbortSignal): Promise<void> {
  const timer = new ResettableTimer(() => connection.reset());
  const onClosed = () => timer.set(LINGER_MS);
  closed.addEventListener("abort", onClosed, { once: true });
  if (closed.aborted) onClosed();
  await connection.released;
  closed.removeEventListener("abort", onClosed);
  timer.clear();
}

function securedDatagrams(connection: UdpConnection, keys: DatagramKeys): DatagramPath {
  const cipher = new DatagramCipher(keys.sendKey, keys.receiveKey);
  return {
    get maxBytes() {
      return connection.maxDatagramBytes - DATAGRAM_OVERHEAD;
    },
    send: (message) => connection.sendDatagram(cipher.seal(message)),
    receive: async () => {
      for (;;) {
        const message = cipher.open(await connection.receiveDatagram());
        if (message !== undefined) return message;
      }
    },
  };
}

/** What a race needs. */
export interface UdpRaceOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** Whether people carry the offers. Default: `false`. */
  readonly isManual?: boolean;
  /** The kinds of path to try. */
  readonly pathKinds: ReadonlySet<DirectPathKind>;
  /** The one of the search, which the punch by TCP uses, too. */
  readonly budget: DialBudget;
  /** Called with each path that is found. One that the other side does not confirm is reset. */
  readonly onPath: (path: FoundUdpPath) => void;
  /** Called once both sides know the path. */
  readonly onConfirmed: () => void;
}

/** A path, and how it was found. */
export interface FoundUdpPath {
  readonly connection: UdpConnection;
  readonly kind: DirectPathKind;
  readonly method: PunchMethodName | null;
  readonly channelBinding: Uint8Array;
  readonly rttMs: number;
  /** From the moment when both offers were known, in milliseconds. */
  readonly punchMs: number;
}

/** The attempts by UDP of one search, one for each attempt by TCP. */
export class UdpRace implements UdpRival {
  readonly #options: UdpRaceOptions;
  readonly #all: UdpChecks[] = [];
  #plan: PunchPlan | undefined;
  #isStopped = false;

  constructor(options: UdpRaceOptions) {
    this.#options = options;
  }

  /** As {@linkcode UdpRival.plan}. */
  get plan(): PunchPlan | undefined {
    return this.#plan;
  }

  /** The chance of the latest attempt, 0 to 1. */
  get successEstimate(): number {
    return this.#plan?.successEstimate ?? 0;
  }

  /** How long after its start the latest attempt was answered first, in milliseconds; `undefined` before. */
  get answeredMs(): number | undefined {
    return this.#all.at(-1)?.answeredMs;
  }

  /** The round trip over UDP in the latest attempt, though TCP may have won; `undefined` if it is not known here. */
  get rttMs(): number | undefined {
    return this.#all.at(-1)?.rttMs;
  }

  /** Everything that was tried so far. */
  get attempts(): ConnectionAttempt[] {
    return this.#all.flatMap(({ attempts }) => attempts);
  }

  /** As {@linkcode UdpRival.begin}. */
  begin(
    tcp: PunchPlan,
    facts: DialFacts,
    offers: BothOffers,
    base: BaseSocket,
    beforeSpray: () => Promise<void> = () => Promise.resolve(),
  ): PunchPlan {
    const { network, role, isManual, pathKinds, budget, onPath, onConfirmed } = this.#options;
    const { udp } = base;
    const { local: { udp: own }, remote: { udp: other } } = offers;
    if (this.#isStopped || udp === undefined || own === undefined || other === undefined) {
      return tcp;
    }
    const [local, remote] = pathKinds.has("direct")
      ? [own, other]
      : [asPunched(own), asPunched(other)];
    const planned = planUdp(local, remote, facts, offers.headStartMs, this.#options);
    const isSpray = planned.method === "birthday" && tcp.method === "birthday";
    const isFirst = planned.successEstimate >= tcp.successEstimate;
    const context: PathContext = { local, remote, method: planned.method, facts };
    const plan = planWithPathKinds(
      isSpray && !isFirst ? withoutSpray(planned) : planned,
      context,
      asTcpKinds(pathKinds),
    );
    const startedAtMs = performance.now();
    this.#plan = plan;
    this.#all.at(-1)?.stop();
    const found = ({ connection, kind, channelBinding, rttMs }: UdpPath) =>
      onPath({
        connection,
        kind,
        method: methodOf(kind, plan.method),
        channelBinding,
        rttMs,
        punchMs: performance.now() - startedAtMs,
      });
    const checks = new UdpChecks(plan, {
      network,
      role,
      base: udp,
      secret: punchSecret(offers.local, offers.remote, NO_SECRET),
      context,
      budget,
      hasRival: isLikely(tcp, pathKinds),
      carryingMs: isManual ? carryingMs(role) : 0,
      onPath: found,
      onConfirmed,
    });
    this.#all.push(checks);
    if (plan.method === "birthday") void beforeSpray().then(() => checks.start());
    else checks.start();
    return isSpray && isFirst ? withoutSpray(tcp) : tcp;
  }

  /** As {@linkcode UdpRival.onTcpConnected}. */
  onTcpConnected(): void {
    this.#all.at(-1)?.onRival();
  }

  /** No attempt begins any more; resolves once the one under way has ended. */
  async end(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#all.map(({ finished }) => finished));
  }

  /** Ends the attempt under way for a path by TCP; another one may follow. A path that was found is not touched. */
  yield(): void {
    this.#all.at(-1)?.stop("abandoned");
  }

  /** Ends the attempt under way, and lets none follow. */
  stop(): void {
    this.#isStopped = true;
    this.#all.at(-1)?.stop();
  }
}

/** Without direct paths, a NAT that lets everyone in is punched like one that lets in the addresses that it has sent to. */
function asPunched(description: PunchDescription): PunchDescription {
  const { profile } = description;
  if (profile.filtering !== "endpoint-independent") return description;
  return { ...description, profile: { ...profile, filtering: "address-dependent" } };
}

/** What a punch by TCP would do, if SYNs were datagrams. */
function planUdp(
  local: PathContext["local"],
  remote: PathContext["remote"],
  facts: DialFacts,
  headStartMs: number,
  { role, isManual }: Pick<UdpRaceOptions, "role" | "isManual">,
): PunchPlan {
  const plan = planPunch(local, remote, {
    role,
    isSecond: headStartMs > 0,
    signalRttMs: 2 * headStartMs,
    isUdp: true,
    facts,
    limits: isManual ? manualLimits(role, UDP_LIMITS) : UDP_LIMITS,
  });
  if (plan.method !== "one-sided-open") return plan;
  // A SYN that is lost is repeated after a second, so that TCP dials again from other ports. Probes are repeated anyway.
  return { ...plan, dials: plan.dials.filter(({ from }) => from === "punch") };
}

/** Only the addresses of interfaces, and forwarded ports. */
function withoutSpray(plan: PunchPlan): PunchPlan {
  return { ...plan, dials: plan.dials.filter(({ maxTries }) => maxTries > 1), birthdaySyns: 0 };
}

/** Whether TCP needs no more than a round trip, as far as can be known. */
function isLikely(
  { method, successEstimate }: PunchPlan,
  pathKinds: ReadonlySet<DirectPathKind>,
): boolean {
  const hasTcp = [...pathKinds].some((kind) => kind !== "punch-udp");
  return hasTcp && method !== "impossible" && method !== "birthday" && successEstimate >= LIKELY;
}

/** The offers travel over a channel that authenticates them. */
const NO_SECRET = new Uint8Array(0);

/** How long a closed peer delivers over UDP what was written. Chosen by us: a few losses. TCP leaves that to the system. */
const LINGER_MS = 2000;

/** Chosen by us: below it, waiting for TCP costs more than it gains. */
const LIKELY = 0.5;
