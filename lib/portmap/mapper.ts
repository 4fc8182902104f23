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

import { RefusedError } from "../base/errors.ts";
import type { TransportAddress } from "../net/address.ts";

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
