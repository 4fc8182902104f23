/**
 * What a NAT test sends and sees, as data: the common language of the deciders in this folder and of the
 * sockets that they direct. Times are milliseconds of one clock.
 *
 * @module
 */

import { sameTransportAddress, type TransportAddress } from "../net/address.ts";

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
