/**
 * What the dialer's engine knows, what happens to it, and what follows.
 *
 * @module
 */

import type { Repetition } from "../base/backoff.ts";
import type { Route } from "./path_choice_engine.ts";

/** What a dialer knows. Times are milliseconds on one clock that never goes backwards. */
export interface DialerState {
  readonly settings: DialerSettings;
  readonly phase: "connecting" | "connected" | "reconnecting" | "over";
  /** What carries the connection. */
  readonly path: "none" | "direct" | "relayed";
  /** Whether the path has not answered for a while, or may be dead for another reason. */
  readonly isStalled: boolean;
  /** The current search. */
  readonly search: SearchState | null;
  /** How many searches were started. */
  readonly searches: number;
  /** When to give up reconnecting. */
  readonly reconnectByMs: number;
  readonly retry: {
    /** When to search again. */
    readonly atMs: number;
    /** The wait before the next search, before chance makes it shorter or longer. */
    readonly waitMs: number;
    /** When the last search for any path was started. */
    readonly startedAtMs: number;
  };
  readonly improvement: {
    /** When to search for a direct path. */
    readonly atMs: number;
    /** The wait before that. */
    readonly waitMs: number;
  };
}

/** What stays the same for one connection. */
export interface DialerSettings {
  /** Whether to search for another path when one is lost, or has stalled. */
  readonly reconnects: boolean;
  /** Whether to search for a direct path now and then, while a relay carries the connection. */
  readonly improves: boolean;
  /** The wait before the first request; `Infinity` if the search for paths sends the only one. */
  readonly firstRequestMs: number;
  /** How long to wait for the answer. */
  readonly answerMs: number;
  /** How long to search for another path after one is lost. */
  readonly reconnectMs: number;
  /** The first wait between two attempts to reconnect. */
  readonly retryMs: number;
  /** The first wait between two searches for a direct path. */
  readonly improveMs: number;
}

/** The search under way. */
export interface SearchState {
  readonly id: number;
  /** Any path, or only direct ones, or only those of a route. */
  readonly wants: "any" | "direct" | Route;
  /** Whether it is for a path in place of one that has stalled. */
  readonly isBeside: boolean;
  readonly stage: "requesting" | "answered" | "ending";
  /** The request, until it is answered. */
  readonly request: Repetition;
  /** When to give up waiting for the answer. */
  readonly answerByMs: number;
  /** How far the request has come: on its way by a server, in the local network alone, or not at all. */
  readonly sent: "nowhere" | "local network" | "server";
  /** Why servers could not be reached. */
  readonly faults: readonly string[];
  /** Why it ends, unless it found all it could. */
  readonly failure: SearchFailure | null;
  /** The other side has found nothing; `atMs` is when the search here is to finish, `Infinity` once it was told. */
  readonly hopeless: { readonly reason: Error; readonly atMs: number } | null;
}

/** Why a search ends. */
export interface SearchFailure {
  readonly error: unknown;
  /** Whether another search would end in the same way. */
  readonly isFinal: boolean;
}

/** Something happened. Events of a search that is no longer current are ignored. */
export type DialerEvent =
  | { readonly kind: "start" }
  | { readonly kind: "answered"; readonly search: number }
  /** The request went out, by a server or in the local network. */
  | { readonly kind: "sent"; readonly search: number; readonly isServer: boolean }
  /** A way to meet could not be opened. */
  | { readonly kind: "way failed"; readonly search: number; readonly why: string }
  /** The other side rejected the request, or has given up. */
  | { readonly kind: "rejected"; readonly search: number; readonly error: unknown }
  /** The other side has searched for a path, and found none. */
  | { readonly kind: "hopeless"; readonly search: number; readonly reason: Error }
  /** No signaling server can be reached, or no path was found. */
  | { readonly kind: "failed"; readonly search: number; readonly error: unknown }
  /** The search has found all it could. */
  | {
    readonly kind: "finished";
    readonly search: number;
    /** Whether the connection has moved to a path. */
    readonly hasMoved: boolean;
  }
  /** All tasks of the search have ended. `random` is a number from 0 to 1, for the wait before the next. */
  | { readonly kind: "search ended"; readonly search: number; readonly random: number }
  | { readonly kind: "path"; readonly isRelayed: boolean }
  /**
   * The connection lost its path; `wasUsed` if the other side was ever heard over it. `random` is a number from 0 to 1, for
   * the wait before the search.
   */
  | { readonly kind: "path lost"; readonly wasUsed: boolean; readonly random: number }
  /** An answer over the path is overdue, or the network below it has changed. */
  | { readonly kind: "path stalled"; readonly random: number }
  /** The other side was heard over the path again. */
  | { readonly kind: "path resumed" }
  /** The direct path is worse than another one that is known. */
  | { readonly kind: "path slow"; readonly other: Route }
  /** The caller gave up, the peer is closed, or the connection has ended. */
  | { readonly kind: "stop"; readonly reason: unknown }
  | { readonly kind: "time" };

/** Something to do. */
export type DialerAction =
  | {
    readonly kind: "start search";
    readonly search: number;
    readonly wants: SearchState["wants"];
  }
  | { readonly kind: "send request" }
  /** Notify the other side that this side has given up, and found nothing if it failed. */
  | { readonly kind: "send cancellation"; readonly error: unknown }
  /** Let the search end by itself, with what it has tried. */
  | { readonly kind: "finish search"; readonly reason: Error }
  | { readonly kind: "end search"; readonly reason: unknown }
  /** What cut the path may have cut the connections to signaling servers. */
  | { readonly kind: "check signaling" }
  | { readonly kind: "succeed" }
  | { readonly kind: "fail"; readonly error: unknown }
  /** End the connection: it gets no other path. */
  | { readonly kind: "abandon"; readonly error: unknown };

/** What follows from an event. */
export interface DialerStep {
  readonly state: DialerState;
  readonly actions: readonly DialerAction[];
}
