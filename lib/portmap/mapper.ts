/**
 * What PCP, NAT-PMP and UPnP IGD have in common: a gateway is asked to open a port, to keep it open, and to close
 * it.
 *
 * Requests and grants are plain data, so that a program that died can leave its grants to the next run. A mapper
 * remembers nothing between calls: what it needs to renew and release is in the grant. When to renew, whom to
 * believe and what to do about a loss is not its business, but that of whoever holds several mappers.
 *
 * An IPv6 pinhole is a mapping too: its external address is the internal one.
 *
 * @module
 */

import {
  type Attempt,
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";

/** The protocols of gateways. */
export type MapperName = "pcp" | "nat-pmp" | "upnp";

/** What to open. */
export interface MappingRequest {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** An address of this host on the gateway's link, and the port; a link-local or wildcard address will not do. */
  readonly internal: TransportAddress;
  /** What to ask for; the internal port unless given. Gateways may grant another. */
  readonly externalPort?: number;
  /** Refuse rather than grant another external port; `false` unless told. */
  readonly exactExternalPort?: boolean;
  /** What to ask for; gateways may grant less, or more. At least 1. */
  readonly lifetimeSeconds: number;
  /** For the people who read the router's table; protocols without such a field leave it out. */
  readonly description: string;
}

/** What a gateway granted; every value is as granted, which need not be as requested. */
export interface MappingGrant {
  /** The protocol by which it was granted. */
  readonly mapper: MapperName;
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** This host's address and port. */
  readonly internal: TransportAddress;
  /** The IP is `0.0.0.0` if the gateway did not tell: it has none now, or keeps it to itself. */
  readonly external: TransportAddress;
  /** `Infinity` if it never expires. */
  readonly lifetimeSeconds: number;
  /** When the answer came, on the clock of `performance.now()`. */
  readonly grantedAtMs: number;
  /** The IP address of who granted it. */
  readonly gateway: string;
  /**
   * What the mapper needs to renew and release, beside the rest; it means nothing to others. Empty in a grant that
   * was never seen, such as that of an aborted call: the mapper does its best then.
   */
  readonly handle: string;
  /** The gateway's clock in the answer; UPnP has none. */
  readonly epoch?: GatewayEpoch;
}

/** How long ago the gateway says its table of mappings was empty: RFC 6886 §3.6, RFC 6887 §8.5. */
export interface GatewayEpoch {
  /** On the gateway's clock. */
  readonly seconds: number;
  /** On the clock of `performance.now()`. */
  readonly receivedAtMs: number;
}

/** What a gateway says when it is asked about a protocol. */
export type ProbeResult =
  | {
    readonly kind: "supported";
    /** If asking does not take a mapping. */
    readonly externalIp?: string;
    readonly epoch?: GatewayEpoch;
    /** How long the answer took. */
    readonly elapsedMs: number;
    /** What else there is to tell, such as the model, in one line. */
    readonly detail?: string;
  }
  | { readonly kind: "refused"; readonly error: MappingRefusedError }
  /** It answers, but with what is not the protocol. */
  | { readonly kind: "garbled"; readonly reason: string }
  | { readonly kind: "silent"; readonly waitedMs: number };

/** What every call of a mapper takes. */
export interface MapperCallOptions {
  /** Ends the call, which rejects with its reason. */
  readonly signal?: AbortSignal;
}

/**
 * One protocol with one gateway.
 *
 * All calls throw {@linkcode MappingRefusedError} if the gateway says no, `NoResponseError` if it says nothing in
 * time, `MalformedMessageError` if what it says makes no sense, `NetworkError` if the network does not carry the
 * request, and the signal's reason on abort. A call that is aborted may have opened the port all the same: release
 * what it would have granted.
 */
export interface PortMapper {
  /** The protocol. */
  readonly name: MapperName;
  /** The IP address of the gateway. */
  readonly gateway: string;
  /** Opens the port. */
  map(request: MappingRequest, options?: MapperCallOptions): Promise<MappingGrant>;
  /**
   * Extends a grant, asking for the same external port. What is returned may differ from it: the gateway may have
   * forgotten the mapping and made another.
   *
   * @throws {TypeError} if the grant is of another protocol
   */
  renew(
    grant: MappingGrant,
    options?: MapperCallOptions & { readonly lifetimeSeconds?: number },
  ): Promise<MappingGrant>;
  /**
   * Closes the port. That it was closed already is no error.
   *
   * @throws {TypeError} if the grant is of another protocol
   */
  release(grant: MappingGrant, options?: MapperCallOptions): Promise<void>;
  /** The gateway's external IPv4 address, whatever it is worth; `0.0.0.0` if it has none. */
  externalIp(options?: MapperCallOptions): Promise<string>;
  /** Asks whether the gateway speaks the protocol; changes nothing there. Only abort and sockets make it fail. */
  probe(options?: MapperCallOptions): Promise<ProbeResult>;
}

/** A gateway said no. */
export class MappingRefusedError extends RefusedError {
  /** By whose codes {@linkcode RefusedError.code} goes: PCP result code, NAT-PMP result code, UPnP error code. */
  readonly mapper: MapperName;
  /** The code's name in the specification, such as `NOT_AUTHORIZED`. */
  readonly reason: string;
  /** What a person can do about it, in one plain sentence without a period. */
  readonly remedy: string;
  /** For how long asking again is pointless, if the gateway told. */
  readonly retryAfterSeconds: number | undefined;

  /**
   * Makes the error.
   *
   * @param options all of them but the cause are properties of the error
   */
  constructor(
    message: string,
    options: ErrorOptions & {
      readonly mapper: MapperName;
      readonly code: number;
      readonly reason: string;
      readonly remedy: string;
      readonly retryAfterSeconds?: number;
    },
  ) {
    super(message, options.code, options);
    this.mapper = options.mapper;
    this.reason = options.reason;
    this.remedy = options.remedy;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/**
 * Checks what a gateway would misunderstand. Port 0 in particular stands for all ports in PCP: the whole host would
 * lie open.
 *
 * @throws {RangeError} if a port or the lifetime is out of range
 */
export function checkRequest(request: MappingRequest): void {
  const { internal, externalPort = internal.port, lifetimeSeconds } = request;
  checkRange("internal port", internal.port, 1, 0xffff);
  checkRange("external port", externalPort, 1, 0xffff);
  checkRange("lifetime", lifetimeSeconds, 1, 0xffff_ffff);
}

/**
 * Checks that a mapper is given back what it granted.
 *
 * @throws {TypeError} if another protocol granted it
 */
export function checkGrant(grant: MappingGrant, mapper: MapperName): void {
  if (grant.mapper === mapper) return;
  throw new TypeError(`Cannot use grant: ${mapper} granted none by ${grant.mapper}`);
}

/** `Cannot map TCP 192.168.1.2:80`, the start of a message. */
export function cannot(verb: string, { protocol, internal }: {
  readonly protocol: "tcp" | "udp";
  readonly internal: MappingRequest["internal"];
}): string {
  return `Cannot ${verb} ${protocol.toUpperCase()} ${formatTransportAddress(internal)}`;
}

/** The request that asks for the same as was granted. */
export function sameAgain(
  grant: MappingGrant,
  lifetimeSeconds: number = grant.lifetimeSeconds,
): MappingRequest {
  const { protocol, internal, external } = grant;
  return { protocol, internal, externalPort: external.port, lifetimeSeconds, description: "" };
}

function checkRange(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`Cannot map: ${what} is from ${least} to ${most}, not ${value}`);
}

/** One protocol with one gateway, and what it said. */
export interface MappingAttempt extends Attempt {
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
export class NoMappingError extends UnreachableError<MappingAttempt> {
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

const OUTCOMES: Partial<Record<Attempt["outcome"], string>> = {
  "timed-out": "silent",
  "failed": "garbled",
};

/** What a gateway that speaks the protocol told. */
export type Told = Omit<Extract<ProbeResult, { kind: "supported" }>, "kind" | "elapsedMs">;

/**
 * Runs a probe. What a gateway says or does not say is a result; anything else is thrown.
 *
 * @param waitsMs how long the probe waits for an answer
 */
export async function probeResult(
  waitsMs: readonly number[],
  probe: () => Promise<Told>,
): Promise<ProbeResult> {
  const startMs = performance.now();
  try {
    const told = await probe();
    return { kind: "supported", ...told, elapsedMs: performance.now() - startMs };
  } catch (error) {
    if (error instanceof MappingRefusedError) return { kind: "refused", error };
    if (error instanceof MalformedMessageError) return { kind: "garbled", reason: error.message };
    if (!(error instanceof NoResponseError)) throw error;
    return { kind: "silent", waitedMs: waitsMs.reduce((sum, waitMs) => sum + waitMs, 0) };
  }
}
