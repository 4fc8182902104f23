/**
 * Probes: the STUN requests that a NAT test sends, their replies, and when to retransmit them, all as plain data that
 * the plans in this folder and the sockets that carry them out share; `probe_message.ts` has their bytes. Times are
 * milliseconds on one clock.
 *
 * @module
 */

import { backoff } from "../base/backoff.ts";
import { sameTransportAddress, type TransportAddress } from "../net/address.ts";

/** What a probe asks the server to do. */
export type ProbeTest =
  | "binding" // answer from the address and port that received the request
  | "change-address-and-port" // answer from the alternate address and port
  | "change-port"; // answer from the alternate port

/** A probe to send. Equal specifications are tries of the same probe. */
export interface ProbeSpec {
  /** The local socket that sends it, by name: `"mapping"`, `"filtering 0"`, `"burst 3"`. */
  readonly socket: string;
  /** Index of the server in the test's list. */
  readonly server: number;
  readonly test: ProbeTest;
  readonly to: TransportAddress;
  /** Where the answer goes if not to the sender: another mapping of the same socket. */
  readonly respondTo?: TransportAddress;
}

/** A probe that was sent, and its reply once there is one. */
export interface Probe extends ProbeSpec {
  readonly localPort: number;
  readonly sentAtMs: number;
  readonly reply?: Reply;
  /** The socket that received the reply; not the sender's if the answer was directed elsewhere. */
  readonly repliedOn?: string;
}

/** A probe that can still receive its reply. */
export type OpenProbe = { -readonly [Key in keyof Probe]: Probe[Key] };

/** An answer with a matching transaction ID. */
export type Reply = SuccessReply | ErrorReply;

/** A success response. */
export interface SuccessReply {
  readonly kind: "success";
  readonly atMs: number;
  readonly from: TransportAddress;
  readonly mapped: TransportAddress;
  /** OTHER-ADDRESS, or CHANGED-ADDRESS of RFC 3489. */
  readonly other?: TransportAddress;
  /** MAPPED-ADDRESS if it differs from XOR-MAPPED-ADDRESS: a device on the path rewrote it. */
  readonly rewritten?: TransportAddress;
  /** Whether the server speaks only RFC 3489: it knows RESPONSE-ADDRESS but not RESPONSE-PORT. */
  readonly isRfc3489: boolean;
}

/** An error response. */
export interface ErrorReply {
  readonly kind: "error";
  readonly atMs: number;
  readonly from: TransportAddress;
  readonly code: number;
}

/** Whether two specifications are tries of the same probe. */
export function isSameProbe(a: ProbeSpec, b: ProbeSpec): boolean {
  return a.socket === b.socket && a.test === b.test && sameTransportAddress(a.to, b.to) &&
    (a.respondTo === undefined) === (b.respondTo === undefined);
}

/** The success reply to a plain binding request, sent from the address that was asked; otherwise `undefined`. */
export function bindingReply(probe: Probe): SuccessReply | undefined {
  if (probe.test !== "binding" || probe.reply?.kind !== "success") return undefined;
  return sameTransportAddress(probe.reply.from, probe.to) ? probe.reply : undefined;
}

/** The code of the first error response to a plain binding request. */
export function firstErrorCode(probes: readonly Probe[]): number | undefined {
  for (const { test, reply } of probes) {
    if (test === "binding" && reply?.kind === "error") return reply.code;
  }
  return undefined;
}

/** The external address that one destination sees. All samples of a test share one local address and port. */
export interface MappingSample {
  readonly to: TransportAddress;
  readonly mapped: TransportAddress;
}

/** What each destination of the mapping socket sees. */
export function mappingSamples(probes: readonly Probe[]): MappingSample[] {
  return probes.flatMap((probe) => {
    const reply = probe.socket === "mapping" ? bindingReply(probe) : undefined;
    return reply ? [{ to: probe.to, mapped: reply.mapped }] : [];
  });
}

/** A new mapping: its local port and its external port. */
export interface PortSample {
  readonly localPort: number;
  /** `null` if no answer arrived; the NAT has probably used up a port for it anyway. */
  readonly externalPort: number | null;
}

/** The mappings created by the first packets to one destination, each from its own local port. */
export function portSamples(probes: readonly Probe[], to: TransportAddress): PortSample[] {
  const bySocket = new Map<string, PortSample>();
  for (const probe of probes) {
    if (!sameTransportAddress(probe.to, to)) continue;
    const known = bySocket.get(probe.socket)?.externalPort;
    const externalPort = known ?? bindingReply(probe)?.mapped.port ?? null;
    bySocket.set(probe.socket, { localPort: probe.localPort, externalPort });
  }
  return [...bySocket.values()];
}

/** When to send probes again, and when to give up, judged from the probes so far at one moment. */
export class RetransmissionTiming {
  /** Since the start of the test. */
  readonly nowMs: number;
  readonly #probes: readonly Probe[];

  /** @param probes in the order they were sent */
  constructor(probes: readonly Probe[], nowMs: number) {
    this.#probes = probes;
    this.nowMs = nowMs;
  }

  /** All tries of a probe. */
  tries(spec: ProbeSpec): Probe[] {
    return this.#probes.filter((probe) => isSameProbe(probe, spec));
  }

  /** Whether any try was answered, even with an error. */
  isAnswered(spec: ProbeSpec): boolean {
    return this.tries(spec).some(({ reply }) => reply !== undefined);
  }

  /** Whether the last allowed try of a probe has timed out. */
  isGivenUp(spec: ProbeSpec): boolean {
    const tries = this.tries(spec);
    return tries.length >= MAX_TRIES && !this.isAnswered(spec) &&
      this.nowMs >= tries.at(-1)!.sentAtMs + this.#intervalMs(spec.server, tries.length);
  }

  /** Whether enough tries went unanswered to prefer another server. */
  isDoubtful(spec: ProbeSpec): boolean {
    return this.tries(spec).length > DOUBTFUL_TRIES && !this.isAnswered(spec);
  }

  /** When to send the probe next; now if it was never sent. */
  nextTryMs(spec: ProbeSpec): number {
    const tries = this.tries(spec);
    return tries.length === 0
      ? this.nowMs
      : tries.at(-1)!.sentAtMs + this.#intervalMs(spec.server, tries.length);
  }

  /** When the server's first answer arrived; `Infinity` if none has. */
  firstReplyMs(server: number): number {
    return Math.min(...this.#answered(server).map(({ reply }) => reply!.atMs));
  }

  /** Round trips to the server in milliseconds, shortest first. */
  roundTripsMs(server: number): number[] {
    return this.#answered(server)
      .map(({ reply, sentAtMs }) => reply!.atMs - sentAtMs)
      .sort((a, b) => a - b);
  }

  /** The longest an answer from this server is expected to take; `undefined` before its first answer. */
  retransmitMs(server: number): number | undefined {
    const times = this.roundTripsMs(server);
    if (times.length === 0) return undefined;
    return times.at(-1)! + Math.max(REORDER_MS, times.at(-1)! - times[0]!);
  }

  /** How long after its control's answer an answer may arrive before it counts as missing. */
  timeoutMs(server: number): number {
    const times = this.roundTripsMs(server);
    if (times.length === 0) return Infinity;
    return Math.max(MIN_TIMEOUT_MS, times.at(-1)! - times[0]!, times[0]! / 4);
  }

  /** How long to wait after the given number of tries. */
  #intervalMs(server: number, tries: number): number {
    const firstMs = this.retransmitMs(server) ?? FIRST_INTERVAL_MS;
    const maximumMs = Math.max(firstMs, MAX_INTERVAL_MS);
    return backoff({ firstMs, maximumMs, factor: BACKOFF_FACTOR }, tries);
  }

  #answered(server: number): Probe[] {
    return this.#probes.filter((probe) => probe.server === server && probe.reply !== undefined);
  }
}

/** The external IP addresses that servers saw, without duplicates: those of the mapping first, then those of other ports. */
export function externalIpsOf(probes: readonly Probe[]): string[] {
  const others = probes.flatMap((probe) => bindingReply(probe)?.mapped.ip ?? []);
  return [...new Set([...mappingSamples(probes).map(({ mapped }) => mapped.ip), ...others])];
}

/** Chosen by us: a test should be quick. RFC 8489 §6.2.1 starts with 500 ms and doubles it. */
const FIRST_INTERVAL_MS = 100;
const BACKOFF_FACTOR = 1.5;
const MAX_INTERVAL_MS = 500;

/** With the backoff, the tries span more than two seconds: a typical Wi-Fi outage. */
const MAX_TRIES = 9;

/** At 5 % loss each way, one more than this is lost in 1 of 1000 runs. */
const DOUBTFUL_TRIES = 3;

/** How far packets may overtake each other before any jitter was measured on the path. */
const REORDER_MS = 10;

/** Chosen by us: covers the scheduling delays of both hosts. */
const MIN_TIMEOUT_MS = 15;
