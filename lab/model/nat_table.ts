/**
 * A NAT's table: mappings, their sessions, and when they expire.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import type { SessionProtocol } from "./nat_packet.ts";

/** An internal address and port bound to an external one. */
export interface Mapping {
  readonly protocol: SessionProtocol;
  readonly internal: TransportAddress;
  readonly external: TransportAddress;
  /** Matches packets from inside; depends on the mapping behavior. */
  readonly key: string;
  /** By remote address and port. */
  readonly sessions: Map<string, Session>;
}

/** One remote address and port that uses a mapping. */
export interface Session {
  readonly mapping: Mapping;
  readonly remote: TransportAddress;
  /** Whether a packet from inside opened it, rather than one from outside that the filter admitted. */
  openedInside: boolean;
  passedOutbound: boolean;
  passedInbound: boolean;
  /** Whether FIN or RST was seen. */
  closing: boolean;
  expiresAtMs: number;
}

/** Mappings by their internal and external ends, and sessions. Expired entries are treated as absent. */
export class NatTable {
  readonly #byKey = new Map<string, Mapping>();
  /** The latest last: several share an address and port only if the NAT overloads its ports. */
  readonly #byExternal = new Map<string, readonly Mapping[]>();
  readonly #sessions = new Map<string, Session>();

  /** The live mapping with this key. */
  mapping(key: string, nowMs: number): Mapping | undefined {
    return this.#live(this.#byKey.get(key), nowMs);
  }

  /** The live mappings of an external address and port, the latest last. */
  mappingsAt(
    protocol: SessionProtocol,
    external: TransportAddress,
    nowMs: number,
  ): readonly Mapping[] {
    const mappings = this.#byExternal.get(endpointKey(protocol, external)) ?? [];
    return mappings.filter((mapping) => this.#live(mapping, nowMs) !== undefined);
  }

  /** Of these, the one with a live session to this remote address and port; otherwise the latest. */
  mappingAt(
    protocol: SessionProtocol,
    external: TransportAddress,
    remote: TransportAddress,
    nowMs: number,
  ): Mapping | undefined {
    const mappings = this.mappingsAt(protocol, external, nowMs);
    return mappings.findLast(({ internal }) =>
      this.session(protocol, internal, remote, nowMs) !== undefined
    ) ?? mappings.at(-1);
  }

  /** The live session between an internal and a remote address and port. */
  session(
    protocol: SessionProtocol,
    internal: TransportAddress,
    remote: TransportAddress,
    nowMs: number,
  ): Session | undefined {
    const session = this.#sessions.get(sessionKey(protocol, internal, remote));
    return session !== undefined && session.expiresAtMs > nowMs ? session : undefined;
  }

  /** How many sessions live. Those that have expired are forgotten. */
  countSessions(nowMs: number): number {
    for (const session of this.#sessions.values()) {
      if (session.expiresAtMs <= nowMs) this.endSession(session);
    }
    return this.#sessions.size;
  }

  /** Adds a mapping without sessions. It lives as long as its sessions. */
  addMapping(mapping: Omit<Mapping, "sessions">): Mapping {
    const added: Mapping = { ...mapping, sessions: new Map() };
    this.#byKey.set(mapping.key, added);
    const externalKey = endpointKey(mapping.protocol, mapping.external);
    this.#byExternal.set(externalKey, [...this.#byExternal.get(externalKey) ?? [], added]);
    return added;
  }

  /** Adds a session that is already expired; the caller sets `expiresAtMs`. */
  addSession(mapping: Mapping, remote: TransportAddress, openedInside: boolean): Session {
    const session: Session = {
      mapping,
      remote,
      openedInside,
      passedOutbound: false,
      passedInbound: false,
      closing: false,
      expiresAtMs: -Infinity,
    };
    mapping.sessions.set(`${remote.ip}:${remote.port}`, session);
    this.#sessions.set(sessionKey(mapping.protocol, mapping.internal, remote), session);
    return session;
  }

  /** Ends a session, and its mapping if it was the last. */
  endSession(session: Session): void {
    const { mapping, remote } = session;
    const key = sessionKey(mapping.protocol, mapping.internal, remote);
    if (this.#sessions.get(key) === session) this.#sessions.delete(key);
    mapping.sessions.delete(`${remote.ip}:${remote.port}`);
    if (mapping.sessions.size === 0) this.#forget(mapping);
  }

  #live(mapping: Mapping | undefined, nowMs: number): Mapping | undefined {
    if (mapping === undefined) return undefined;
    for (const { expiresAtMs } of mapping.sessions.values()) {
      if (expiresAtMs > nowMs) return mapping;
    }
    for (const session of mapping.sessions.values()) this.endSession(session);
    return undefined;
  }

  #forget(mapping: Mapping): void {
    const externalKey = endpointKey(mapping.protocol, mapping.external);
    if (this.#byKey.get(mapping.key) === mapping) this.#byKey.delete(mapping.key);
    const others = this.#byExternal.get(externalKey)?.filter((each) => each !== mapping) ?? [];
    if (others.length > 0) this.#byExternal.set(externalKey, others);
    else this.#byExternal.delete(externalKey);
  }
}

/** Identifies an endpoint within one NAT. */
export function endpointKey(protocol: SessionProtocol, { ip, port }: TransportAddress): string {
  return `${protocol} ${ip}:${port}`;
}

function sessionKey(
  protocol: SessionProtocol,
  internal: TransportAddress,
  remote: TransportAddress,
): string {
  return `${endpointKey(protocol, internal)} ${remote.ip}:${remote.port}`;
}
