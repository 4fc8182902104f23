/**
 * What a NAT test sends and sees, as data: the common language of the deciders in this folder and of the
 * sockets that they direct. Times are milliseconds of one clock.
 *
 * @module
 */

import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { StunAttribute } from "../stun/attributes.ts";
import { BINDING, encodeMessage, getAttribute, type StunMessage } from "../stun/message.ts";

/** What a probe asks of the server. */
export type ProbeTest =
  | "binding" // answer from where I asked
  | "change-address-and-port" // answer from the alternate address and port
  | "change-port"; // answer from the alternate port

/** A probe that is wanted; equal specifications are tries of the same thing. */
export interface ProbeSpec {
  /** Which of the test's local sockets sends it: `"mapping"`, `"filtering 0"`, `"burst 3"`. */
  readonly socket: string;
  /** Index of the server in the test's list. */
  readonly server: number;
  readonly test: ProbeTest;
  readonly to: TransportAddress;
  /** Where the answer shall go if not to the sender: another mapping of the same socket. */
  readonly respondTo?: TransportAddress;
}

/** A probe that was sent, and its answer if one came. */
export interface Probe extends ProbeSpec {
  readonly localPort: number;
  readonly sentAtMs: number;
  readonly reply?: Reply;
  /** The socket on which the reply came: not the sender if it was directed elsewhere. */
  readonly repliedOn?: string;
}

/** An answer whose transaction id matched. */
export type Reply = SuccessReply | ErrorReply;

/** A success response. */
export interface SuccessReply {
  readonly kind: "success";
  readonly atMs: number;
  readonly from: TransportAddress;
  readonly mapped: TransportAddress;
  /** OTHER-ADDRESS, or CHANGED-ADDRESS of RFC 3489. */
  readonly other?: TransportAddress;
  /** MAPPED-ADDRESS where it differs from XOR-MAPPED-ADDRESS: something on the path rewrote it. */
  readonly rewritten?: TransportAddress;
  /** Whether the server speaks RFC 3489 only, so that it knows RESPONSE-ADDRESS and not RESPONSE-PORT. */
  readonly isRfc3489: boolean;
}

/** An error response. */
export interface ErrorReply {
  readonly kind: "error";
  readonly atMs: number;
  readonly from: TransportAddress;
  readonly code: number;
}

/** Whether two specifications are tries of the same thing. */
export function isSameProbe(a: ProbeSpec, b: ProbeSpec): boolean {
  return a.socket === b.socket && a.test === b.test && sameTransportAddress(a.to, b.to) &&
    (a.respondTo === undefined) === (b.respondTo === undefined);
}

/** The success reply of a plain binding that came from where it was asked, or `undefined`. */
export function bindingReply(probe: Probe): SuccessReply | undefined {
  if (probe.test !== "binding" || probe.reply?.kind !== "success") return undefined;
  return sameTransportAddress(probe.reply.from, probe.to) ? probe.reply : undefined;
}

/** The code of the first error that a plain binding was answered with. */
export function firstErrorCode(probes: readonly Probe[]): number | undefined {
  for (const { test, reply } of probes) {
    if (test === "binding" && reply?.kind === "error") return reply.code;
  }
  return undefined;
}

/** The external address that one destination sees, all for the same local address and port. */
export interface MappingSample {
  readonly to: TransportAddress;
  readonly mapped: TransportAddress;
}

/** What the destinations of the mapping socket see. */
export function mappingSamples(probes: readonly Probe[]): MappingSample[] {
  return probes.flatMap((probe) => {
    const reply = probe.socket === "mapping" ? bindingReply(probe) : undefined;
    return reply ? [{ to: probe.to, mapped: reply.mapped }] : [];
  });
}

/** A new mapping. */
export interface PortSample {
  readonly localPort: number;
  /** `null` where no answer came: the NAT has probably used a port for it all the same. */
  readonly externalPort: number | null;
}

/** The mappings that the first packets to one destination made, each from a local port of its own. */
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

/** The request that a probe sends. */
export function encodeProbe(
  spec: ProbeSpec,
  transactionId: Uint8Array,
  options: { isRfc3489: boolean },
): Uint8Array {
  const attributes: StunAttribute[] = [];
  if (spec.test !== "binding") {
    const changeIp = spec.test === "change-address-and-port";
    attributes.push({ type: "CHANGE-REQUEST", value: { changeIp, changePort: true } });
  }
  if (spec.respondTo !== undefined) {
    attributes.push(
      options.isRfc3489
        ? { type: "RESPONSE-ADDRESS", value: spec.respondTo }
        : { type: "RESPONSE-PORT", value: spec.respondTo.port },
    );
  }
  attributes.push({ type: "SOFTWARE", value: PROBE_SOFTWARE });
  return encodeMessage({ class: "request", method: BINDING, transactionId, attributes });
}

/** What a response says, or `undefined` if it is none or says nothing that can be true. */
export function readReply(
  message: StunMessage,
  from: TransportAddress,
  atMs: number,
): Reply | undefined {
  if (message.method !== BINDING) return undefined;
  if (message.class === "error") {
    return { kind: "error", atMs, from, code: getAttribute(message, "ERROR-CODE")?.code ?? 0 };
  }
  const plain = getAttribute(message, "MAPPED-ADDRESS");
  const xored = getAttribute(message, "XOR-MAPPED-ADDRESS");
  const mapped = xored ?? plain;
  if (message.class !== "success" || mapped === undefined) return undefined;
  if (!isPlausible(mapped, from)) return undefined;
  const other = getAttribute(message, "OTHER-ADDRESS");
  const changed = other ?? getAttribute(message, "CHANGED-ADDRESS");
  const isRewritten = xored !== undefined && plain !== undefined &&
    !sameTransportAddress(xored, plain);
  return {
    kind: "success",
    atMs,
    from,
    mapped,
    isRfc3489: other === undefined && changed !== undefined,
    ...changed && { other: changed },
    ...isRewritten && { rewritten: plain },
  };
}

/** No server sees us at an address that packets cannot come from. */
function isPlausible(mapped: TransportAddress, server: TransportAddress): boolean {
  const scope = ipScope(mapped.ip);
  if (scope === "loopback") return ipScope(server.ip) === "loopback";
  return scope !== "unspecified" && scope !== "multicast" && mapped.port !== 0 &&
    ipFamily(mapped.ip) === ipFamily(server.ip);
}

/**
 * Named in every request, and long: a server that answers with no more bytes than it was asked with has then
 * room for all attributes of RFC 5780, over IPv6 too. A multiple of four, because servers of RFC 3489, which
 * knew no padding, refuse other lengths.
 */
export const PROBE_SOFTWARE =
  "Punchline NAT test: a few dozen packets, then silence. (jsr.io/@punchline/punchline)";

/** A view of the probes at one moment. Times are milliseconds since the start of the test. */
export class Pace {
  readonly nowMs: number;
  readonly #probes: readonly Probe[];

  /** @param probes in the order of sending */
  constructor(probes: readonly Probe[], nowMs: number) {
    this.#probes = probes;
    this.nowMs = nowMs;
  }

  /** The tries of one probe. */
  tries(spec: ProbeSpec): Probe[] {
    return this.#probes.filter((probe) => isSameProbe(probe, spec));
  }

  /** Whether one of the tries was answered, in whatever way. */
  isAnswered(spec: ProbeSpec): boolean {
    return this.tries(spec).some(({ reply }) => reply !== undefined);
  }

  /** Whether waiting for more of this probe makes no sense. */
  isGivenUp(spec: ProbeSpec): boolean {
    const tries = this.tries(spec);
    return tries.length >= MAX_TRIES && !this.isAnswered(spec) &&
      this.nowMs >= tries.at(-1)!.sentAtMs + this.#intervalMs(spec.server, tries.length);
  }

  /** Whether so many tries stayed unanswered that something else should be preferred. */
  isDoubtful(spec: ProbeSpec): boolean {
    return this.tries(spec).length > DOUBTFUL_TRIES && !this.isAnswered(spec);
  }

  /** When the probe shall be sent (again): now, if it never was. */
  nextTryMs(spec: ProbeSpec): number {
    const tries = this.tries(spec);
    return tries.length === 0
      ? this.nowMs
      : tries.at(-1)!.sentAtMs + this.#intervalMs(spec.server, tries.length);
  }

  /** When the first answer of a server came; `Infinity` before. */
  firstReplyMs(server: number): number {
    return Math.min(...this.#answered(server).map(({ reply }) => reply!.atMs));
  }

  /** Round trips to a server in milliseconds, shortest first. */
  roundTripsMs(server: number): number[] {
    return this.#answered(server)
      .map(({ reply, sentAtMs }) => reply!.atMs - sentAtMs)
      .sort((a, b) => a - b);
  }

  /** How long an answer may take at most, by what was seen of this server; `undefined` before its first. */
  retransmitMs(server: number): number | undefined {
    const times = this.roundTripsMs(server);
    if (times.length === 0) return undefined;
    return times.at(-1)! + Math.max(REORDER_MS, times.at(-1)! - times[0]!);
  }

  /** How much later than its control's an answer may come and not count as missing. */
  timeoutMs(server: number): number {
    const times = this.roundTripsMs(server);
    if (times.length === 0) return Infinity;
    return Math.max(MIN_PATIENCE_MS, times.at(-1)! - times[0]!, times[0]! / 4);
  }

  /** The wait after the n-th try. */
  #intervalMs(server: number, tries: number): number {
    const first = this.retransmitMs(server) ?? FIRST_INTERVAL_MS;
    return Math.max(first, Math.min(MAX_INTERVAL_MS, first * BACKOFF ** (tries - 1)));
  }

  #answered(server: number): Probe[] {
    return this.#probes.filter((probe) => probe.server === server && probe.reply !== undefined);
  }
}

/** Our own choices; RFC 8489 §6.2.1 has 500 ms and doubles it, for clients that are not in a hurry. */
const FIRST_INTERVAL_MS = 100;
const BACKOFF = 1.5;
const MAX_INTERVAL_MS = 500;

/** With the backoff, tries cover more than two seconds, an outage of the kind that Wi-Fi has. */
const MAX_TRIES = 9;

/** One more than that is lost in 1 of 1000 runs at 5 % loss each way. */
const DOUBTFUL_TRIES = 3;

/** How far packets may overtake each other on a path whose jitter has not been seen yet. */
const REORDER_MS = 10;

const MIN_PATIENCE_MS = 15;

/** A server as its answers show it. */
export interface ServerKnowledge {
  readonly primary: TransportAddress;
  readonly answered: boolean;
  /** OTHER-ADDRESS (A2:P2), if it is fit for the tests of RFC 5780. */
  readonly alternate?: TransportAddress;
  readonly isRfc3489: boolean;
  /** Why there is no alternate, though the server answered. */
  readonly fault?: string;
}

/** Reads a server from the answers that it gave from its primary address. */
export function learnServer(
  primary: TransportAddress,
  probes: readonly Probe[],
): ServerKnowledge {
  const replies = probes.flatMap((probe) =>
    sameTransportAddress(probe.to, primary) ? bindingReply(probe) ?? [] : []
  );
  const known = {
    primary,
    answered: replies.length > 0,
    isRfc3489: replies.some(({ isRfc3489 }) => isRfc3489),
  };
  const alternate = replies.find(({ other }) => other !== undefined)?.other;
  if (!known.answered) return known;
  const name = formatTransportAddress(primary);
  if (isFickle(primary, probes)) {
    return { ...known, fault: `${name} sees one local port at two places, or two at one` };
  }
  if (alternate === undefined) {
    return { ...known, fault: `${name} names no alternate address: it does not serve RFC 5780` };
  }
  const other = formatTransportAddress(alternate);
  if (replies.some((reply) => reply.other && !sameTransportAddress(reply.other, alternate))) {
    return { ...known, fault: `${name} names now ${other}, now another alternate address` };
  }
  if (alternate.ip === primary.ip || alternate.port === primary.port) {
    return { ...known, fault: `${name} names ${other} as alternate: not another address and port` };
  }
  // A server must not make us send to places that are not its own kind, such as a device on our LAN.
  if (
    alternate.port === 0 || ipFamily(alternate.ip) !== ipFamily(primary.ip) ||
    ipScope(alternate.ip) !== ipScope(primary.ip)
  ) {
    return { ...known, fault: `${name} names ${other} as alternate: not an address of its kind` };
  }
  return { ...known, alternate };
}

/**
 * Whether a server makes up what it sees: different external addresses of one local port, or the same of two, though
 * all requests went to one address, where that cannot be. A NAT that forgets mappings within a second looks alike;
 * nothing can be told from either.
 */
export function isFickle(to: TransportAddress, probes: readonly Probe[]): boolean {
  const mappedOf = new Map<string, string>();
  const socketOf = new Map<string, string>();
  for (const { socket, reply, to: asked } of probes) {
    if (reply?.kind !== "success" || !sameTransportAddress(asked, to)) continue;
    const mapped = formatTransportAddress(reply.mapped);
    if ((mappedOf.get(socket) ?? mapped) !== mapped) return true;
    if ((socketOf.get(mapped) ?? socket) !== socket) return true;
    mappedOf.set(socket, mapped);
    socketOf.set(mapped, socket);
  }
  return false;
}

/** The three other transport addresses of a server with two IP addresses and two ports; none without. */
export function alternatesOf({ primary, alternate }: ServerKnowledge): TransportAddress[] {
  if (alternate === undefined) return [];
  return [
    alternate,
    { ip: alternate.ip, port: primary.port },
    { ip: primary.ip, port: alternate.port },
  ];
}
