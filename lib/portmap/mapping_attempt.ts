/**
 * What came of asking, per gateway and protocol, and the error that tells it all.
 *
 * @module
 */

import {
  type ConnectionAttempt,
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  UnreachableError,
} from "../base/errors.ts";
import { type MapperName, MappingRefusedError } from "./mapper.ts";

/** One protocol with one gateway, and what it said. */
export interface MappingAttempt extends ConnectionAttempt {
  /** The protocol. */
  readonly strategy: MapperName;
  /** What the gateway said, or that it said nothing, in one line. */
  readonly reason: string;
  /** What might help, in plain words. */
  readonly remedy: string;
}

/** What no gateway did. */
export interface Wanted {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** The port of this host. */
  readonly internalPort: number;
  /** `map` unless given. */
  readonly verb?: string;
}

/** No gateway opened the port. Its `name` is `"UnreachableError"`, which it is. */
export class NoMappingError extends UnreachableError {
  /** Per gateway and protocol. */
  declare readonly attempts: readonly MappingAttempt[];

  /**
   * Makes one.
   *
   * @param attempts everything that was tried
   */
  constructor(
    what: Wanted,
    attempts: readonly MappingAttempt[],
  ) {
    super(messageFor(what, attempts), attempts, { cause: attempts[0]?.reason });
  }
}

/** Who was asked, from where, and for how long. */
export interface Asked {
  readonly protocol: MapperName;
  readonly gateway: { readonly ip: string; readonly localIp: string };
  readonly elapsedMs: number;
}

/** What an error says about an attempt. */
export function mappingAttempt(
  { protocol, gateway, elapsedMs }: Asked,
  error: unknown,
): MappingAttempt {
  const common = {
    strategy: protocol,
    local: gateway.localIp,
    remote: gateway.ip,
    tries: 0,
    resets: 0,
    elapsedMs,
    reason: error instanceof Error ? error.message : String(error),
  };
  if (error instanceof MappingRefusedError) {
    return { ...common, outcome: "refused", remedy: error.remedy };
  }
  if (error instanceof MalformedMessageError) {
    return { ...common, outcome: "failed", remedy: "Update the router's firmware, or restart it" };
  }
  if (error instanceof NetworkError) {
    return { ...common, outcome: "unreachable", remedy: "Check this device's connection" };
  }
  return { ...common, outcome: "timed-out", remedy: SILENCE_REMEDIES[protocol] };
}

/** Whether an error is the gateway's, or of the way to it, rather than the caller's or ours. */
export function isOfGateway(error: unknown): boolean {
  return error instanceof MappingRefusedError || error instanceof NoResponseError ||
    error instanceof MalformedMessageError || error instanceof NetworkError ||
    error instanceof NoMappingError;
}

/** What a protocol is called. */
export const PROTOCOL_NAMES: Readonly<Record<MapperName, string>> = {
  "pcp": "PCP",
  "nat-pmp": "NAT-PMP",
  "upnp": "UPnP",
};

/** What to do where nobody answers. */
export const SILENCE_REMEDIES: Readonly<Record<MapperName, string>> = {
  "pcp": "PCP is off or unknown to the router: enable it there",
  "nat-pmp": "NAT-PMP is off or unknown to the router: enable it there",
  "upnp": "UPnP is off: enable it in the router",
};

function messageFor(
  { protocol, internalPort, verb = "map" }: Wanted,
  attempts: readonly MappingAttempt[],
): string {
  const cannot = `Cannot ${verb} ${protocol.toUpperCase()} port ${internalPort}`;
  const gateways = [...new Set(attempts.map(({ remote }) => remote))];
  if (gateways.length === 0) return `${cannot}: no gateway is known`;
  const said = gateways.map((gateway) => {
    const own = attempts.filter(({ remote }) => remote === gateway);
    return `${gateway}: ${own.map(shortly).join(", ")}`;
  });
  return `${cannot}: no gateway does it (${said.join("; ")})`;
}

function shortly({ strategy, outcome }: MappingAttempt): string {
  return `${PROTOCOL_NAMES[strategy]} ${OUTCOMES[outcome] ?? outcome}`;
}

const OUTCOMES: Partial<Record<ConnectionAttempt["outcome"], string>> = {
  "timed-out": "silent",
  "failed": "garbled",
};
