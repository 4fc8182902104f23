/**
 * What the engine of a path search knows, what happens to it, and what follows.
 *
 * @module
 */

import type { PathKind } from "../base/path_kind.ts";
import type { PunchMethod } from "../punch/plan_types.ts";

/** What a search knows. Times are milliseconds on one clock that never goes backwards; `Infinity`: never. */
export interface PathSearchState {
  readonly settings: PathSearchSettings;
  readonly phase: "starting" | "searching" | "over";
  /** The search for direct paths. `ending`: a punch by UDP may still be under way. */
  readonly direct: {
    readonly stage: "preparing" | "punching" | "moving" | "ending" | "over";
    readonly punches: number;
    /** The path that the connection is moving to. */
    readonly path: number | null;
    /** Why it has found none. */
    readonly failure: Failure | null;
  };
  /** The search for a relayed path. `weighing`: there is one, but a direct one may be about to carry bytes. */
  readonly relay: {
    readonly stage: "waiting" | "opening" | "weighing" | "moving" | "over";
    /** Whether to open a relay as soon as the search has started. */
    readonly isDue: boolean;
    /** The path that was found. */
    readonly path: SearchedPath | null;
    /** The direct path that it waits for. */
    readonly rival: number | null;
    readonly failure: Failure | null;
  };
  /** The best path that was found and is not lost. */
  readonly best: SearchedPath | null;
  /** The one that the connection moved to last. */
  readonly used: SearchedPath | null;
  /** The direct path that was found last, and what became of it. */
  readonly lastDirect: { readonly id: number; readonly fate: "open" | "used" | "lost" } | null;
  /** The paths that the connection is moving to. */
  readonly moving: ReadonlySet<number>;
  /** Whether it was to move to any path, and whether it did. */
  readonly hasFound: boolean;
  readonly hasMoved: boolean;
  /** Whether a direct path carries bytes, so that a relay is needed no more. */
  readonly isDirectUsed: boolean;
  /** Why further search is of no use. */
  readonly hopeless: { readonly reason: Error } | null;
  readonly isAborted: boolean;
  readonly timers: {
    /** When to open a relay. */
    readonly relayMs: number;
    /** When to use a relayed path, whatever the direct one does. */
    readonly weighedMs: number;
    /** When to end the search by UDP, and by TCP. */
    readonly udpMs: number;
    readonly tcpMs: number;
    /** When to end the search after a path was lost: by then one of the two sides starts over. */
    readonly lostMs: number;
  };
}

/** What stays the same for one search. */
export interface PathSearchSettings {
  /** The controlling side decides which path is used. */
  readonly role: "controlling" | "controlled";
  /** Whether there is a base socket, without which this side makes no direct path. */
  readonly isDirect: boolean;
  /** Whether a relayed path may be used. */
  readonly mayRelay: boolean;
  /** A network that takes a proxy to get out of is likely to let nothing else out. */
  readonly isProxied: boolean;
  /** Whether the connection outlives a path that is lost before it carries a byte. */
  readonly mayFallBack: boolean;
  /** How long to search. */
  readonly timeoutMs: number;
}

/** A path as far as it counts here. */
export interface SearchedPath {
  /** Its number in this search. */
  readonly id: number;
  readonly kind: PathKind;
  readonly transport: "tcp" | "udp";
  readonly isRelayed: boolean;
}

/** What happens during a search. */
export type PathSearchEvent =
  | { readonly kind: "start" }
  /** The other side has the answer. */
  | { readonly kind: "answered" }
  | { readonly kind: "answer failed"; readonly error: unknown }
  /** The base socket is ready. */
  | { readonly kind: "prepared" }
  /** Both sides know each other's offers. The chance is that of the better transport, 0 to 1. */
  | { readonly kind: "planned"; readonly method: PunchMethod; readonly successEstimate: number }
  /** The punch has made a path. With `isHoleKnown`, TCP is known to swallow long packets. */
  | { readonly kind: "punched"; readonly path: SearchedPath; readonly isHoleKnown: boolean }
  | { readonly kind: "direct failed"; readonly error: unknown }
  | { readonly kind: "udp found"; readonly path: SearchedPath }
  /** Both sides know the path over UDP. */
  | { readonly kind: "udp confirmed" }
  /** No punch by UDP is under way, and none follows. */
  | { readonly kind: "udp over" }
  /** The other side has sent something about relays: it has no direct path to hope for, or has waited long enough. */
  | { readonly kind: "relay asked for" }
  | { readonly kind: "relay found"; readonly path: SearchedPath }
  | { readonly kind: "relay failed"; readonly error: unknown }
  /** The connection has moved to a path, or the path was lost, or is not wanted any more. */
  | { readonly kind: "moved"; readonly path: SearchedPath; readonly hasMoved: boolean }
  /** The other side has searched and found nothing. */
  | { readonly kind: "hopeless"; readonly reason: Error }
  | { readonly kind: "aborted" }
  | { readonly kind: "time" };

/** What to do. */
export type PathSearchAction =
  /** Answer the request without an offer. */
  | { readonly kind: "answer" }
  /** Get a base socket. */
  | { readonly kind: "prepare" }
  | { readonly kind: "punch" }
  /** End the punch by TCP, and any that follows. */
  | { readonly kind: "stop tcp"; readonly reason: unknown }
  /** End the attempt by UDP under way. */
  | { readonly kind: "yield udp" }
  /** The same, and let none follow. */
  | { readonly kind: "stop udp" }
  /** Let no attempt by UDP follow, and wait for the one under way. */
  | { readonly kind: "end udp" }
  | { readonly kind: "open relay" }
  | { readonly kind: "stop relay"; readonly reason: unknown }
  /** Move the connection to a path. */
  | { readonly kind: "move"; readonly path: SearchedPath }
  /** Reset a path that is not wanted. */
  | { readonly kind: "reset"; readonly path: SearchedPath }
  /** End with whether the connection has moved, if a path was found; or else fail for these reasons. */
  | {
    readonly kind: "finish";
    readonly hasFound: boolean;
    readonly hasMoved: boolean;
    readonly failures: readonly unknown[];
  };

/** What follows from an event. */
export interface PathSearchStep {
  readonly state: PathSearchState;
  readonly actions: readonly PathSearchAction[];
}

/** Why a part of a search has found nothing. */
export interface Failure {
  readonly error: unknown;
}
