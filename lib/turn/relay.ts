/**
 * What datagram relays and stream relays have in common.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { StunTransport } from "../stun/transport.ts";
import type { AddressErrorCode } from "../stun/turn_attributes.ts";
import type { Allocated, TurnClientOptions } from "./allocation.ts";
import { Permissions } from "./permissions.ts";
import { TurnSession } from "./session.ts";

/** A relayed address: an address at a TURN server that stands for this host. Disposing releases it. */
export interface Relay extends AsyncDisposable {
  /** The server of the relay; a different one from the one asked if that redirected the request. */
  readonly server: TransportAddress;
  /** The transport between this host and the server. */
  readonly transport: StunTransport;
  /** Where peers reach this host. With `family: "dual"`, an IPv4 address and, if granted, an IPv6 address. */
  readonly relayed: readonly [TransportAddress, ...TransportAddress[]];
  /** The address of this host as the server sees it. */
  readonly mapped: TransportAddress;
  /** The `reservationToken` for opening the next relay, if its port was reserved. */
  readonly reservationToken: Uint8Array | undefined;
  /** The requested families that were not granted, and why. */
  readonly refused: readonly AddressErrorCode[];
  /**
   * Resolves once the relay is closed; rejects once it is lost, because the server was restarted, no longer responds, or
   * refuses to continue. All pending calls reject with the same error.
   */
  readonly finished: Promise<void>;
  /**
   * Permits peers to send to the relayed address, by their IP addresses, for as long as the relay is open. Sending to a
   * peer permits it as well.
   *
   * @throws {TypeError} if an IP address is invalid
   * @throws {RefusedError} if the server refuses; 403 if it does not relay to an address
   */
  permit(ips: readonly string[], options?: { signal?: AbortSignal }): Promise<void>;
  /** Closes all sockets, and releases the relayed address if the server can be reached; idempotent. */
  close(): Promise<void>;
}

/** The common part of both kinds of relay, over a session. */
export abstract class SessionRelay implements Relay {
  protected readonly session: TurnSession;
  protected readonly permissions: Permissions;

  constructor(allocated: Allocated, options: TurnClientOptions) {
    this.session = new TurnSession(allocated, options);
    this.permissions = new Permissions(this.session);
  }

  get server(): TransportAddress {
    return this.session.server.address;
  }

  get transport(): StunTransport {
    return this.session.options.transport;
  }

  get relayed(): readonly [TransportAddress, ...TransportAddress[]] {
    return this.session.allocation.relayed;
  }

  get mapped(): TransportAddress {
    return this.session.allocation.mapped;
  }

  get reservationToken(): Uint8Array | undefined {
    return this.session.allocation.reservationToken;
  }

  get refused(): readonly AddressErrorCode[] {
    return this.session.allocation.refused;
  }

  get finished(): Promise<void> {
    return this.session.finished;
  }

  permit(ips: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    return this.permissions.permit(ips, signal);
  }

  close(): Promise<void> {
    return this.session.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
