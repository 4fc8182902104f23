/**
 * Who is joined with whom at the relay of a rendezvous server, and how many relays each source has.
 *
 * @module
 */

import { LocalSourceCounts, type SourceCounts, sourceKeys } from "../../net/source.ts";

/** How many connections a relay joins. */
export interface RelayPairLimits {
  /** Pairs at once. With 0, the server has no relay. */
  readonly maxRelays: number;
  /** Pairs and halves of one source, an IPv4 address or an IPv6 /56. */
  readonly maxRelaysPerSource: number;
  /** Halves that wait for their other half. One more ends the oldest of a source with the most. */
  readonly maxRelayHalves: number;
}

/** What became of a connection with a token. */
export type RelayJoinResult<M> =
  /** It waits for the other half. Those who are `ousted` have to go. */
  | { readonly kind: "waiting"; readonly ousted: readonly M[] }
  | { readonly kind: "joined"; readonly peer: M }
  | { readonly kind: "refused"; readonly why: "token-used" | "source-full" | "relay-full" };

/** Pairs of connections that came with the same token. Nothing else joins them. */
export class RelayPairs<M> {
  readonly #limits: RelayPairLimits;
  readonly #byToken = new Map<string, Pair<M>>();
  readonly #byMember = new Map<M, Pair<M>>();
  readonly #perSource: SourceCounts;
  #whole = 0;

  /** @param perSource counts of several threads, if there are any */
  constructor(limits: RelayPairLimits, perSource: SourceCounts = new LocalSourceCounts()) {
    this.#limits = limits;
    this.#perSource = perSource;
  }

  /** How many pairs there are. */
  get size(): number {
    return this.#whole;
  }

  /** How many connections wait for their other half. */
  get halves(): number {
    return this.#byToken.size - this.#whole;
  }

  /**
   * Adds a connection, which has not been added before.
   *
   * @param token what both connections of a pair present
   * @param ip where the connection comes from
   */
  join(token: string, member: M, ip: string): RelayJoinResult<M> {
    const pair = this.#byToken.get(token);
    if (pair?.members.length === 2) return { kind: "refused", why: "token-used" };
    const source = relaySource(ip);
    const isCounted = pair?.sources.has(source) ?? false;
    const { maxRelays, maxRelaysPerSource } = this.#limits;
    if (!isCounted && !this.#perSource.take(source, maxRelaysPerSource)) {
      return { kind: "refused", why: "source-full" };
    }
    if (this.#whole >= maxRelays) {
      if (!isCounted) this.#perSource.release(source);
      return { kind: "refused", why: "relay-full" };
    }
    return pair === undefined
      ? this.#wait(token, member, source)
      : this.#complete(pair, member, source);
  }

  /** Removes a connection, and its pair with it; returns the other half, if there is one. */
  leave(member: M): M | undefined {
    const pair = this.#byMember.get(member);
    if (pair === undefined) return undefined;
    if (pair.members.length === 2) this.#whole--;
    this.#byToken.delete(pair.token);
    for (const each of pair.members) this.#byMember.delete(each);
    for (const source of pair.sources) this.#perSource.release(source);
    return pair.members.find((each) => each !== member);
  }

  #wait(token: string, member: M, source: string): RelayJoinResult<M> {
    const pair = { token, members: [member], sources: new Set([source]) };
    this.#byToken.set(token, pair);
    this.#byMember.set(member, pair);
    if (this.halves <= this.#limits.maxRelayHalves) return { kind: "waiting", ousted: [] };
    const [ousted] = this.#leastWelcome().members;
    this.leave(ousted!);
    return { kind: "waiting", ousted: [ousted!] };
  }

  /** The oldest half of a source with the most: so those who try tokens from many addresses oust one another first. */
  #leastWelcome(): Pair<M> {
    let least: Pair<M> | undefined;
    let most = 0;
    for (const pair of this.#byToken.values()) {
      if (pair.members.length === 2) continue;
      const [source] = pair.sources;
      const count = this.#perSource.count(source!);
      if (count > most) [least, most] = [pair, count];
    }
    return least!;
  }

  #complete(pair: Pair<M>, member: M, source: string): RelayJoinResult<M> {
    const [peer] = pair.members;
    pair.members.push(member);
    pair.sources.add(source);
    this.#byMember.set(member, pair);
    this.#whole++;
    return { kind: "joined", peer: peer! };
  }
}

interface Pair<M> {
  readonly token: string;
  readonly members: M[];
  readonly sources: Set<string>;
}

/** A home may have all of an IPv6 /56. Its connections may be counted in the same place. */
function relaySource(ip: string): string {
  const keys = sourceKeys(ip);
  return `relay ${keys[1] ?? keys[0]}`;
}
