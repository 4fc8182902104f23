/**
 * The error that says that no gateway opened the port: one attempt per gateway and protocol, each with its cause and
 * remedy.
 *
 * @module
 */

import {
  type ConnectionAttempt,
  MalformedMessageError,
  NetworkError,
  UnreachableError,
} from "../base/errors.ts";
import { type MapperName, MappingRefusedError, PROTOCOL_NAMES } from "./mapper.ts";

/** One protocol with one gateway, and how it failed. */
export interface MappingAttempt extends ConnectionAttempt {
  /** The protocol. */
  readonly strategy: MapperName;
  /** What the gateway said, or that it did not answer, in one line. */
  readonly reason: string;
  /** What might help, in plain words. */
  readonly remedy: string;
}

/** What no gateway did. */
export interface FailedMapping {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** The port of this host. */
  readonly internalPort: number;
  /** `map` by default. */
  readonly verb?: string;
}

/** No gateway opened the port. It is an `UnreachableError`, which is also its `name`. */
export class NoMappingError extends UnreachableError {
  /** One per gateway and protocol. */
  declare readonly attempts: readonly MappingAttempt[];

  /**
   * Creates the error.
   *
   * @param attempts everything that was tried
   */
  constructor(what: FailedMapping, attempts: readonly MappingAttempt[]) {
    super(messageFor(what, attempts), attempts, { cause: attempts[0]?.reason });
  }
}

/** Which gateway was asked, from which address, and for how long. */
export interface FailedCall {
  readonly protocol: MapperName;
  readonly gateway: { readonly ip: string; readonly localIp: string };
  readonly elapsedMs: number;
}

/** The attempt that ended with this error. */
export function mappingAttempt(
  { protocol, gateway, elapsedMs }: FailedCall,
  error: unknown,
): MappingAttempt {
  return {
    strategy: protocol,
    local: gateway.localIp,
    remote: gateway.ip,
    tries: 0,
    resets: 0,
    elapsedMs,
    reason: error instanceof Error ? error.message : String(error),
    ...outcomeOf(error, protocol),
  };
}

/** What to do if a gateway does not answer. */
export const SILENCE_REMEDIES: Readonly<Record<MapperName, string>> = {
  "pcp": "PCP is off or unknown to the router: enable it there",
  "nat-pmp": "NAT-PMP is off or unknown to the router: enable it there",
  "upnp": "UPnP is off: enable it in the router",
};

function outcomeOf(
  error: unknown,
  protocol: MapperName,
): Pick<MappingAttempt, "outcome" | "remedy"> {
  if (error instanceof MappingRefusedError) return { outcome: "refused", remedy: error.remedy };
  if (error instanceof MalformedMessageError) {
    return { outcome: "failed", remedy: "Update the router's firmware, or restart it" };
  }
  if (error instanceof NetworkError) {
    return { outcome: "unreachable", remedy: "Check this device's connection" };
  }
  return { outcome: "timed-out", remedy: SILENCE_REMEDIES[protocol] };
}

function messageFor(
  { protocol, internalPort, verb = "map" }: FailedMapping,
  attempts: readonly MappingAttempt[],
): string {
  const cannot = `Cannot ${verb} ${protocol.toUpperCase()} port ${internalPort}`;
  const gateways = [...new Set(attempts.map(({ remote }) => remote))];
  if (gateways.length === 0) return `${cannot}: no gateway found`;
  const summaries = gateways.map((gateway) => {
    const own = attempts.filter(({ remote }) => remote === gateway);
    return `${gateway}: ${own.map(summaryOf).join(", ")}`;
  });
  return `${cannot}: every gateway failed (${summaries.join("; ")})`;
}

function summaryOf({ strategy, outcome }: MappingAttempt): string {
  return `${PROTOCOL_NAMES[strategy]} ${OUTCOMES[outcome] ?? outcome}`;
}

const OUTCOMES: Partial<Record<ConnectionAttempt["outcome"], string>> = {
  "timed-out": "silent",
  "failed": "garbled",
};
