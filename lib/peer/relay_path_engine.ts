/**
 * Decides how to get a relayed path. Whichever side has a TURN server opens a relay there and publishes it to the other
 * side, which dials it; two sides that reach nothing but their own servers are connected from relay to relay. Both sides
 * also join the relay of each rendezvous server that both use, the one with the shortest way between them first. On
 * every connection both sides prove who they are, and the controlling side nominates one, as after a punch.
 *
 * | event        | what follows                                                                                |
 * | ------------ | ------------------------------------------------------------------------------------------- |
 * | relay opened | publish its addresses, let the other side in, dial the other side's relays from it          |
 * | relay failed | if it was the last: publish that this side has none                                         |
 * | relay lost   | publish the addresses that are left, or that this side has none                             |
 * | state        | dial the relays that it names, let in the addresses that it names, each once                |
 * |              | give up once both sides know that neither has a relay                                       |
 * |              | join at the rendezvous servers that both sides name, each once                              |
 * | dial failed  | dial again, {@linkcode MAX_TRIES} times: the relay may not have let this side in yet        |
 * | join failed  | join again; or publish that the server has no relay, if that is so                          |
 *
 * @module
 */

import {
  formatTransportAddress,
  ipFamily,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import { MAX_ADDRESSES, type RelayRendezvous, type RelayState } from "./relay_message.ts";

/** Everything that is known while there is no relayed path yet. */
export interface RelayPathState {
  /** Addresses that this side may dial from. */
  readonly ips: readonly string[];
  /**
   * Whether the other side must not learn this side's addresses: then they are not published, and only this side's own
   * relays are used to dial, since what the other side calls a relay may be the other side itself.
   */
  readonly isHidden: boolean;
  /** How many of this side's relays are still being opened. */
  readonly opening: number;
  /** This side's open relays. */
  readonly relays: readonly OpenRelay[];
  /** The rendezvous servers that this side may join. */
  readonly rendezvous: readonly RelayRendezvous[];
  /** What the other side has named: the first {@linkcode MAX_ADDRESSES} of each kind, whatever it names later. */
  readonly theirs: Pick<RelayState, "ips" | "relayed" | "rendezvous">;
  /** Whether the other side's state has arrived. */
  readonly hasTheirState: boolean;
  /** Permissions and dials that have been started, since every state repeats those before it. */
  readonly started: ReadonlySet<string>;
  /** How often each address was dialled from this host, and each rendezvous server joined. */
  readonly tries: ReadonlyMap<string, number>;
}

/** One of this side's relays. */
export interface OpenRelay {
  /** The number of the server, from 0. */
  readonly id: number;
  /** Where the other side reaches this side; at least one address. */
  readonly relayed: readonly TransportAddress[];
  /** This side's address, as the server sees it. */
  readonly mappedIp: string;
}

/** Something happened. */
export type RelayPathEvent =
  | { readonly kind: "relay opened"; readonly relay: OpenRelay }
  | { readonly kind: "relay failed" }
  /** An open relay is of no further use. */
  | { readonly kind: "relay lost"; readonly id: number }
  | {
    readonly kind: "state";
    /** Without addresses that must not be dialled. */
    readonly theirs: RelayState;
    /** Whether the other side knows this side's newest state. */
    readonly isAcknowledged: boolean;
  }
  /** A dial from this host failed. */
  | { readonly kind: "dial failed"; readonly to: TransportAddress }
  /** A rendezvous server did not lead to the other side; with `isFinal`, it never will. */
  | { readonly kind: "join failed"; readonly id: string; readonly isFinal: boolean };

/** Something to do. */
export type RelayPathAction =
  | {
    readonly kind: "publish";
    readonly change: Partial<Pick<RelayState, "ips" | "relayed" | "mayOffer" | "rendezvous">>;
  }
  /** Connections can be proved from now on. */
  | { readonly kind: "start proving"; readonly theirNonce: string }
  /** One address at a time: servers refuse a whole request if they dislike one of its addresses. */
  | { readonly kind: "permit"; readonly relay: number; readonly ip: string }
  /** Dial from this host. */
  | { readonly kind: "dial"; readonly to: TransportAddress; readonly afterMs: number }
  /** Dial from one of this side's relays. */
  | {
    readonly kind: "dial from relay";
    readonly relay: number;
    readonly to: TransportAddress;
    readonly afterMs: number;
  }
  /** Join at a rendezvous server. */
  | { readonly kind: "join"; readonly id: string; readonly afterMs: number }
  /** Acknowledge the other side's state, then fail: neither side has a relay. */
  | { readonly kind: "give up" };

/** What follows from an event. */
export interface RelayPathStep {
  readonly state: RelayPathState;
  readonly actions: readonly RelayPathAction[];
}

/** What this side has at the start. */
export interface RelayPathStart extends Pick<RelayPathState, "ips" | "isHidden" | "rendezvous"> {
  /** How many TURN servers this side may use. */
  readonly relays: number;
}

/** The state at the start. */
export function initialRelayPathState(
  { ips, isHidden, relays, rendezvous }: RelayPathStart,
): RelayPathState {
  return {
    ips,
    isHidden,
    opening: relays,
    relays: [],
    rendezvous,
    theirs: { ips: [], relayed: [], rendezvous: [] },
    hasTheirState: false,
    started: new Set(),
    tries: new Map(),
  };
}

/** The next state, and what to do now. */
export function stepRelayPath(state: RelayPathState, event: RelayPathEvent): RelayPathStep {
  switch (event.kind) {
    case "relay opened": {
      const opened = {
        ...state,
        opening: state.opening - 1,
        relays: [...state.relays, event.relay],
      };
      return startAll(opened, [{ kind: "publish", change: publicState(opened) }]);
    }
    case "relay failed": {
      const opening = state.opening - 1;
      const hasNone = opening + state.relays.length === 0;
      return {
        state: { ...state, opening },
        actions: hasNone ? [{ kind: "publish", change: { mayOffer: false } }] : [],
      };
    }
    case "relay lost": {
      const relays = state.relays.filter(({ id }) => id !== event.id);
      const next = { ...state, relays };
      const mayOffer = state.opening + relays.length > 0;
      return {
        state: next,
        actions: [{ kind: "publish", change: { ...publicState(next), mayOffer } }],
      };
    }
    case "state":
      return onState(state, event.theirs, event.isAcknowledged);
    case "dial failed":
      return dialAgain(state, event.to);
    case "join failed":
      return event.isFinal ? leaveOut(state, event.id) : joinAgain(state, event.id);
  }
}

function onState(
  state: RelayPathState,
  theirs: RelayState,
  isAcknowledged: boolean,
): RelayPathStep {
  const mayOffer = state.opening + state.relays.length > 0;
  const hasCommon = commonRendezvous(state.rendezvous, theirs.rendezvous).length > 0;
  if (!mayOffer && !theirs.mayOffer && !hasCommon && isAcknowledged) {
    return { state, actions: [{ kind: "give up" }] };
  }
  const next = { ...state, hasTheirState: true, theirs: withNamed(state.theirs, theirs) };
  const proving: RelayPathAction = { kind: "start proving", theirNonce: theirs.nonce };
  return startAll(next, state.hasTheirState ? [] : [proving]);
}

/** Adds the permissions and dials that have not been started yet. */
function startAll(state: RelayPathState, actions: readonly RelayPathAction[]): RelayPathStep {
  const { relays, theirs, isHidden } = state;
  const started = new Set(state.started);
  const tries = new Map(state.tries);
  const all = [...actions];
  const addOnce = (key: string, action: RelayPathAction) => {
    if (!started.has(key)) all.push(action);
    started.add(key);
  };
  for (const to of isHidden ? [] : theirs.relayed) {
    const address = formatTransportAddress(to);
    if (!tries.has(address)) all.push({ kind: "dial", to, afterMs: 0 });
    tries.set(address, tries.get(address) ?? 1);
  }
  for (const [index, id] of commonRendezvous(state.rendezvous, theirs.rendezvous).entries()) {
    if (!tries.has(id)) all.push({ kind: "join", id, afterMs: index * NEXT_RENDEZVOUS_MS });
    tries.set(id, tries.get(id) ?? 1);
  }
  for (const { id, relayed } of relays) {
    for (const ip of theirs.ips) {
      if (!relayed.some((address) => ipFamily(address.ip) === ipFamily(ip))) continue;
      addOnce(`relay ${id} permits ${ip}`, { kind: "permit", relay: id, ip });
    }
    const afterMs = isHidden ? 0 : RELAY_TO_RELAY_MS;
    for (const to of theirs.relayed) {
      const key = `relay ${id} dials ${formatTransportAddress(to)}`;
      addOnce(key, { kind: "dial from relay", relay: id, to, afterMs });
    }
  }
  return { state: { ...state, started, tries }, actions: all };
}

function dialAgain(state: RelayPathState, to: TransportAddress): RelayPathStep {
  const retry: RelayPathAction = { kind: "dial", to, afterMs: RETRY_MS };
  return tryAgain(state, formatTransportAddress(to), retry);
}

function joinAgain(state: RelayPathState, id: string): RelayPathStep {
  return tryAgain(state, id, { kind: "join", id, afterMs: RETRY_MS });
}

function tryAgain(state: RelayPathState, key: string, action: RelayPathAction): RelayPathStep {
  const count = state.tries.get(key) ?? 0;
  if (count >= MAX_TRIES) return { state, actions: [] };
  return {
    state: { ...state, tries: new Map(state.tries).set(key, count + 1) },
    actions: [action],
  };
}

function leaveOut(state: RelayPathState, id: string): RelayPathStep {
  const rendezvous = state.rendezvous.filter((each) => each.id !== id);
  // What the other side does not name any more is no news to it, and it may not answer: it may have given up.
  const isNews = !state.hasTheirState || state.theirs.rendezvous.some((each) => each.id === id);
  return {
    state: { ...state, rendezvous },
    actions: isNews ? [{ kind: "publish", change: { rendezvous } }] : [],
  };
}

/** The servers that both sides name; the one with the shortest way between the two comes first. */
function commonRendezvous(
  ours: readonly RelayRendezvous[],
  theirs: readonly RelayRendezvous[],
): string[] {
  const common = ours.flatMap(({ id, rttMs }) => {
    const other = theirs.find((each) => each.id === id);
    return other === undefined
      ? []
      : [{ id, sumMs: (rttMs ?? Infinity) + (other.rttMs ?? Infinity) }];
  });
  return common.sort((a, b) => a.sumMs === b.sumMs ? 0 : a.sumMs - b.sumMs).map(({ id }) => id);
}

/** What this side publishes about its relays. */
function publicState(state: RelayPathState): Pick<RelayState, "ips" | "relayed"> {
  const { relays, isHidden } = state;
  const newest = relays.at(-1);
  const own = isHidden || newest === undefined ? [] : [...state.ips, newest.mappedIp];
  const relayed = relays.flatMap((relay) => relay.relayed);
  const ips = new Set([...own, ...relayed.map(({ ip }) => ip)]);
  return { ips: [...ips].slice(0, MAX_ADDRESSES), relayed: relayed.slice(0, MAX_ADDRESSES) };
}

function withNamed(
  known: RelayPathState["theirs"],
  named: Pick<RelayState, "ips" | "relayed" | "rendezvous">,
): RelayPathState["theirs"] {
  const ips = new Set(known.ips);
  for (const ip of named.ips) {
    if (ips.size < MAX_ADDRESSES) ips.add(ip);
  }
  const relayed = [...known.relayed];
  for (const address of named.relayed) {
    if (relayed.length >= MAX_ADDRESSES) break;
    if (!relayed.some((each) => sameTransportAddress(each, address))) relayed.push(address);
  }
  return { ips: [...ips], relayed, rendezvous: named.rendezvous };
}

/** Chosen by us: the other side needs a round trip to its server to let this side in, or more if a message is lost. */
export const MAX_TRIES = 10;
const RETRY_MS = 400;

/** Chosen by us: by then the best of the rendezvous servers has joined both sides, if it does at all. */
const NEXT_RENDEZVOUS_MS = 500;

/** Chosen by us: by then a direct dial to the relay has succeeded, if it does at all. */
const RELAY_TO_RELAY_MS = 500;
