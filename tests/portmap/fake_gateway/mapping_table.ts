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

/** What a table is asked to hold. */
export interface TableRequest extends TableEntry {
  /** Take no other external port. */
  readonly exact?: boolean;
}

/** Limits of lifetimes that are granted. */
export interface LifetimeLimits {
  readonly minSeconds: number;
  readonly maxSeconds: number;
}

/** Mappings by protocol and internal address and port. Nothing expires: tests end before. */
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

  /** RFC 6887 §8.5. */
  get epochSeconds(): number {
    return Math.floor((performance.now() - this.#emptySinceMs) / 1000);
  }

  /** Puts a mapping in, or extends it; `undefined` if the port that it must have is taken. */
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

  /** Takes a mapping out. */
  remove(protocol: "tcp" | "udp", internal: TransportAddress): void {
    this.#entries.delete(keyOf({ protocol, internal }));
  }

  /** As by a power cut: no mappings, and the clock starts anew. */
  restart(): void {
    this.#entries.clear();
    this.#emptySinceMs = performance.now();
  }

  /** Forgets all mappings without a trace on the clock. */
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
