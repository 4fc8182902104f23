/**
 * What relays of datagrams and of streams have in common.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { StunTransport } from "../stun/transport.ts";
import type { AddressErrorCode } from "../stun/turn_attributes.ts";
import type { Allocated, TurnClientOptions } from "./allocation.ts";
import { Permissions } from "./permissions.ts";
import { TurnSession } from "./session.ts";

/** An address at a TURN server that stands for this host; disposing releases it. */
export interface Relay extends AsyncDisposable {
  /** Who serves: not the one that was asked, if that one named another. */
  readonly server: TransportAddress;
  /** How this host talks to the server. */
  readonly transport: StunTransport;
  /** Where peers reach this host; with `family: "dual"` an IPv4 address, and perhaps an IPv6 address. */
  readonly relayed: readonly [TransportAddress, ...TransportAddress[]];
  /** Where the server sees this host. */
  readonly mapped: TransportAddress;
  /** For `reservationToken` of the next relay, if its port was asked to be kept. */
  readonly reservationToken: Uint8Array | undefined;
  /** Families that were asked for and not granted, and why. */
  readonly refused: readonly AddressErrorCode[];
  /**
   * Resolves once the relay is closed; rejects once it is lost, because the server was restarted, does not
   * answer any more, or refuses to go on. What waits for the relay rejects with the same error.
   */
  readonly finished: Promise<void>;
  /**
   * Lets peers in, by their IP addresses, for as long as the relay is open. Sending to a peer does so too.
   *
   * @throws {TypeError} if one is no IP address
   * @throws {RefusedError} if the server refuses; 403 for an address that it relays nothing to
   */
  permit(ips: readonly string[], options?: { signal?: AbortSignal }): Promise<void>;
  /** Releases the relayed address, if the server can be reached, and closes all sockets; idempotent. */
  close(): Promise<void>;
}

/** The common part, over a session. */
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
