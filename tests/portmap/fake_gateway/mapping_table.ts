/**
 * The table of mappings of a fake gateway, and its clock.
 *
 * @module
 */

import type { TransportAddress } from "../../../lib/net/address.ts";

/** One mapping. */
export interface TableEntry {
  readonly protocol: "tcp" | "udp";
  readonly internal: TransportAddress;
  readonly externalPort: number;
  readonly lifetimeSeconds: number;
  /** In hexadecimal digits; empty for NAT-PMP. */
  readonly nonce: string;
}

/** A mapping that a host requests. */
export interface TableRequest extends TableEntry {
  /** Whether to fail rather than assign another external port. */
  readonly exact?: boolean;
}

/** The range of lifetimes that a gateway grants. */
export interface LifetimeLimits {
  readonly minSeconds: number;
  readonly maxSeconds: number;
}

/** Mappings by protocol, internal address and port. They never expire. */
export class MappingTable {
  readonly #entries = new Map<string, TableEntry>();
  readonly #limits: LifetimeLimits;
  #emptySinceMs = performance.now();

  constructor(limits: LifetimeLimits) {
    this.#limits = limits;
  }

  /** All mappings. */
  get entries(): readonly TableEntry[] {
    return [...this.#entries.values()];
  }

  /** The age of the table: RFC 6887 §8.5. */
  get epochSeconds(): number {
    return Math.floor((performance.now() - this.#emptySinceMs) / 1000);
  }

  /** Adds or extends a mapping; `undefined` if the exact port that it needs is in use. */
  put(request: TableRequest): TableEntry | undefined {
    const { exact = false, ...wanted } = request;
    const present = this.#entries.get(keyOf(wanted));
    const externalPort = present?.externalPort ?? this.#freePort(wanted);
    if (exact && externalPort !== wanted.externalPort) return undefined;
    const { minSeconds, maxSeconds } = this.#limits;
    const lifetimeSeconds = Math.min(Math.max(wanted.lifetimeSeconds, minSeconds), maxSeconds);
    const entry = { ...wanted, externalPort, lifetimeSeconds };
    this.#entries.set(keyOf(wanted), entry);
    return entry;
  }

  /** The mapping of an internal port, if there is one. */
  get(protocol: "tcp" | "udp", internal: TransportAddress): TableEntry | undefined {
    return this.#entries.get(keyOf({ protocol, internal }));
  }

  /** Removes a mapping. */
  remove(protocol: "tcp" | "udp", internal: TransportAddress): void {
    this.#entries.delete(keyOf({ protocol, internal }));
  }

  /** As after a power cut: loses all mappings, and restarts the clock. */
  restart(): void {
    this.#entries.clear();
    this.#emptySinceMs = performance.now();
  }

  /** Loses all mappings, which the clock does not show. */
  forget(): void {
    this.#entries.clear();
  }

  #freePort({ protocol, externalPort }: TableEntry): number {
    const taken = this.entries.filter((entry) => entry.protocol === protocol)
      .map((entry) => entry.externalPort);
    let port = externalPort;
    while (taken.includes(port)) port = port === 0xffff ? 1024 : port + 1;
    return port;
  }
}

function keyOf({ protocol, internal }: Pick<TableEntry, "protocol" | "internal">): string {
  return `${protocol} ${internal.ip} ${internal.port}`;
}
