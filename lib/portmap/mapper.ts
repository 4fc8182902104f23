/**
 * What PCP, NAT-PMP and UPnP IGD have in common: a host asks its gateway to open a port, to keep it open, and to close
 * it again.
 *
 * Requests and grants are plain data, so that a program can leave its grants to its next run. A mapper remembers
 * nothing between calls: the grant holds all that it needs to renew and release. When to renew, which gateway to trust
 * and how to react to a loss is decided above, by the code that holds several mappers.
 *
 * An IPv6 pinhole is a mapping too: its external address is the internal one.
 *
 * @module
 */

import {
  type Attempt,
  MalformedMessageError,
  messageOf,
  NetworkError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";

/** The protocols that gateways speak. */
export type MapperName = "pcp" | "nat-pmp" | "upnp";

/** The port to open. */
export interface MappingRequest {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** This host's address on the gateway's link, and the port. Neither a link-local nor a wildcard address works. */
  readonly internal: TransportAddress;
  /** The external port to ask for; the internal port by default. The gateway may grant another. */
  readonly externalPort?: number;
  /** Whether to fail rather than accept another external port; `false` by default. */
  readonly exactExternalPort?: boolean;
  /** The lifetime to ask for, at least 1. The gateway may grant less, or more. */
  readonly lifetimeSeconds: number;
  /** Shown in the router's table of mappings. Protocols without such a field leave it out. */
  readonly description: string;
  /** What this run was granted before and still holds: mappings that a request may replace. None by default. */
  readonly held?: readonly MappingGrant[];
}

/** What a gateway granted, which may differ from what was requested. */
export interface MappingGrant {
  /** The protocol by which the gateway granted it. */
  readonly mapper: MapperName;
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** This host's address and port. */
  readonly internal: TransportAddress;
  /** The IP is `0.0.0.0` if the gateway has no external address now, or does not report it. */
  readonly external: TransportAddress;
  /** `Infinity` if the mapping never expires. */
  readonly lifetimeSeconds: number;
  /** When the answer arrived, on the clock of `performance.now()`. */
  readonly grantedAtMs: number;
  /** The IP address of the gateway that granted it. */
  readonly gateway: string;
  /**
   * What the mapper needs to renew and release it, in addition to the other fields; opaque to everything else. It may be
   * empty in a grant that the caller made up, such as for a call that was aborted: the mapper then does its best.
   */
  readonly handle: string;
  /** The gateway's clock at the time of the answer. UPnP has none. */
  readonly epoch?: GatewayEpoch;
}

/** For how long the gateway has kept its table of mappings: RFC 6886 §3.6, RFC 6887 §8.5. */
export interface GatewayEpoch {
  /** On the gateway's clock. */
  readonly seconds: number;
  /** When it reported that, on the clock of `performance.now()`. */
  readonly receivedAtMs: number;
}

/** How a gateway answers when asked whether it speaks a protocol. */
export type ProbeResult =
  | ProbeAnswer & {
    readonly kind: "supported";
    /** How long the answer took. */
    readonly elapsedMs: number;
  }
  | { readonly kind: "refused"; readonly error: MappingRefusedError }
  /** It answers, but not in the protocol. */
  | { readonly kind: "garbled"; readonly reason: string }
  | { readonly kind: "silent"; readonly waitedMs: number };

/** What a gateway that speaks the protocol reported. */
export interface ProbeAnswer {
  /** Present if the protocol reports it without creating a mapping. */
  readonly externalIp?: string;
  /** The gateway's clock. */
  readonly epoch?: GatewayEpoch;
  /** Further facts, such as the model, in one line. */
  readonly detail?: string;
}

/** What every call of a mapper takes. */
export interface MapperCallOptions {
  /** Aborts the call, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * One protocol with one gateway.
 *
 * Every call throws {@linkcode MappingRefusedError} if the gateway refuses, `NoResponseError` if it does not answer in
 * time, `MalformedMessageError` if its answer cannot be read, `NetworkError` if the network does not carry the request,
 * and the signal's reason on abort. An aborted call may have opened the port nevertheless: release what it would have
 * granted.
 */
export interface PortMapper {
  /** The protocol. */
  readonly name: MapperName;
  /** The IP address of the gateway. */
  readonly gateway: string;
  /** Opens the port. */
  map(request: MappingRequest, options?: MapperCallOptions): Promise<MappingGrant>;
  /**
   * Extends a grant, asking for the same external port. The result may differ: the gateway may have lost the mapping
   * and made another.
   *
   * @throws {TypeError} if another protocol granted it
   */
  renew(
    grant: MappingGrant,
    options?: MapperCallOptions & { readonly lifetimeSeconds?: number },
  ): Promise<MappingGrant>;
  /**
   * Closes the port. A port that is closed already is not an error.
   *
   * @throws {TypeError} if another protocol granted it
   */
  release(grant: MappingGrant, options?: MapperCallOptions): Promise<void>;
  /** The external IPv4 address that the gateway reports; `0.0.0.0` if it has none. */
  externalIp(options?: MapperCallOptions): Promise<string>;
  /** Asks whether the gateway speaks the protocol, without changing anything. Fails only on abort or a socket error. */
  probe(options?: MapperCallOptions): Promise<ProbeResult>;
}

/** The gateway refused. */
export class MappingRefusedError extends RefusedError {
  /** The protocol that defines {@linkcode RefusedError.code}: PCP result code, NAT-PMP result code, UPnP error code. */
  readonly mapper: MapperName;
  /** The code's name in the specification, such as `NOT_AUTHORIZED`. */
  readonly reason: string;
  /** What the user can do about it, in one plain sentence without a period. */
  declare readonly remedy: string;
  /** For how long it is pointless to ask again, if the gateway said so. */
  readonly retryAfterSeconds: number | undefined;

  /**
   * Creates the error.
   *
   * @param options all but the cause become properties of the error
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
    super(message, options.code, { cause: options.cause, remedy: options.remedy });
    this.mapper = options.mapper;
    this.reason = options.reason;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** One protocol with one gateway, and how it failed. */
export interface MappingAttempt extends Attempt {
  /** The protocol. */
  readonly strategy: MapperName;
  /** What the gateway answered, or that it did not answer, in one line. */
  readonly reason: string;
  /** What might help, in plain words. */
  readonly remedy: string;
}

/** No gateway opened the port. It is an `UnreachableError`, which is also its `name`. */
export class NoMappingError extends UnreachableError<MappingAttempt> {
  /** One per gateway and protocol. */
  declare readonly attempts: readonly MappingAttempt[];

  /**
   * Creates the error.
   *
   * @param action what failed, such as `"map TCP port 8080"`
   * @param attempts everything that was tried
   */
  constructor(action: string, attempts: readonly MappingAttempt[]) {
    super(messageFor(action, attempts), attempts, {
      cause: attempts[0]?.reason,
      remedy: mostTelling(attempts)?.remedy ?? "Give the router's address in `gateway`",
    });
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
    reason: messageOf(error),
    ...outcomeOf(error, protocol),
  };
}

/**
 * Rejects what a gateway would misunderstand. In PCP, port 0 stands for all ports: it would expose the whole host.
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
 * Rejects a grant of another protocol.
 *
 * @throws {TypeError} if another protocol granted it
 */
export function checkGrant(grant: MappingGrant, mapper: MapperName): void {
  if (grant.mapper === mapper) return;
  throw new TypeError(`Cannot use grant: it was granted by ${grant.mapper}, not by ${mapper}`);
}

/** `Cannot map TCP 192.168.1.2:80`, the start of an error message. */
export function cannot(verb: string, { protocol, internal }: {
  readonly protocol: "tcp" | "udp";
  readonly internal: MappingRequest["internal"];
}): string {
  return `Cannot ${verb} ${protocol.toUpperCase()} ${formatTransportAddress(internal)}`;
}

/** The request for what was granted. */
export function sameAgain(
  grant: MappingGrant,
  lifetimeSeconds: number = grant.lifetimeSeconds,
): MappingRequest {
  const { protocol, internal, external } = grant;
  const { port: externalPort } = external;
  return { protocol, internal, externalPort, lifetimeSeconds, description: "", held: [grant] };
}

function checkRange(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`Cannot map: ${what} must be from ${least} to ${most}, not ${value}`);
}

function outcomeOf(
  error: unknown,
  protocol: MapperName,
): Pick<MappingAttempt, "outcome" | "remedy"> {
  if (error instanceof MappingRefusedError) return { outcome: "refused", remedy: error.remedy };
  if (error instanceof MalformedMessageError) {
    return { outcome: "failed", remedy: "Update the router's firmware, or restart it" };
  }
  if (error instanceof NetworkError && error.reason === "not-permitted") {
    return { outcome: "unreachable", remedy: error.remedy ?? "Run the program with --allow-net" };
  }
  if (error instanceof NetworkError) {
    return { outcome: "unreachable", remedy: "Check this device's connection" };
  }
  return { outcome: "timed-out", remedy: SILENCE_REMEDIES[protocol] };
}

/** One that was refused says most. */
function mostTelling(attempts: readonly MappingAttempt[]): MappingAttempt | undefined {
  return attempts.find(({ outcome }) => outcome === "refused") ?? attempts[0];
}

function messageFor(action: string, attempts: readonly MappingAttempt[]): string {
  const cannot = `Cannot ${action}`;
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

/** The protocols' names, as people write them. */
export const PROTOCOL_NAMES: Readonly<Record<MapperName, string>> = {
  "pcp": "PCP",
  "nat-pmp": "NAT-PMP",
  "upnp": "UPnP",
};

/** What to do if a gateway does not answer, which does not show why. */
export const SILENCE_REMEDIES: Readonly<Record<MapperName, string>> = {
  "pcp": "Enable PCP in the router if it has it; NAT-PMP or UPnP will do as well",
  "nat-pmp": "Enable NAT-PMP in the router if it has it; PCP or UPnP will do as well",
  "upnp":
    "Enable UPnP in the router if it is off, and let answers through this device's firewall (UDP port 1900)",
};

const OUTCOMES: Partial<Record<Attempt["outcome"], string>> = {
  "timed-out": "silent",
  "failed": "garbled",
};
