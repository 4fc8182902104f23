/**
 * The connectivity checks of a UDP punch as data: their state, what happens to them, and what follows from it.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";

/** Everything that is known of the checks. Times are milliseconds of one clock that never goes back. */
export interface UdpChecksState {
  readonly options: UdpChecksOptions;
  /** `null` before the start. */
  readonly startedAtMs: number | null;
  /** When the checks are given up, unless a pair was nominated. */
  readonly endsAtMs: number;
  /** Those of the plan in the order in which they start, then triggered ones. */
  readonly checks: readonly UdpCheck[];
  /** How many copies of probes were answered. */
  readonly copies: number;
  /** Which datagrams were received from where: none counts twice. */
  readonly seen: ReadonlySet<string>;
  /** Datagrams sent so far. */
  readonly sent: number;
  /** The pairs that carry datagrams both ways, as this side knows, the first one first. */
  readonly valid: readonly ValidPair[];
  readonly nomination: UdpNomination | null;
  /** Nominations that this side, as the controlled one, received for pairs that it does not know to be valid. */
  readonly pending: readonly PendingNomination[];
  /** How many pairs were nominated so far. */
  readonly nominations: number;
  /** When the first dial over TCP connected, if one did. */
  readonly rivalAtMs: number | null;
  /** `over`: nothing more happens. */
  readonly phase: "checking" | "nominated" | "over";
}

/** What the checks depend on besides the plan. */
export interface UdpChecksOptions {
  readonly role: "controlling" | "controlled";
  /** Whether a punch by TCP runs beside this one, and is likely to succeed as well: then it gets its chance. */
  readonly hasRival: boolean;
  /** How long the peer may start after this side, because people carry the offers, in milliseconds. Default: 0. */
  readonly carryingMs?: number;
}

/** One target, probed from one socket. */
export interface UdpCheck {
  /** Its entry in `plan.dials`; -1 for a triggered check. */
  readonly entry: number;
  readonly socket: UdpSocketId;
  readonly target: TransportAddress;
  /** The local port of the socket; 0 for any. */
  readonly localPort: number;
  /** `valid`: the peer has answered. `ended`: no further probe is sent. */
  readonly phase: "probing" | "valid" | "ended";
  /** When the next probe is due. */
  readonly dueMs: number;
  /** How many probes it sends at most. */
  readonly maxTries: number;
  /** When its probes were sent. */
  readonly sentMs: readonly number[];
  /** Whether the next probe answers one of the peer's. */
  readonly isTriggered: boolean;
}

/** The punch port in IPv4 or IPv6, or a fresh socket: 2 and more. */
export type UdpSocketId = number;

/** A pair of addresses that carries datagrams both ways. */
export interface ValidPair {
  readonly socket: UdpSocketId;
  readonly remote: TransportAddress;
  readonly rttMs: number;
  /** When it may be nominated; `Infinity` on the controlled side. */
  readonly dueMs: number;
}

/** The pair that is, or was, nominated. */
export interface UdpNomination {
  /** Which nomination it is, from 0: paths get keys of their own. */
  readonly index: number;
  readonly socket: UdpSocketId;
  readonly remote: TransportAddress;
  readonly rttMs: number;
  /** When it was nominated. */
  readonly atMs: number;
  /** How often NOMINATE was sent. */
  readonly tries: number;
  /** When to repeat it, to give it up, or to stop answering repeated ones. */
  readonly dueMs: number;
  /** Whether both sides know. */
  readonly isConfirmed: boolean;
}

/** A nomination that counts once this side knows that the pair is valid: its datagram may have been copied elsewhere. */
export interface PendingNomination {
  readonly index: number;
  readonly socket: UdpSocketId;
  readonly remote: TransportAddress;
}

/** What happens to the checks. Datagrams count only if the peer has authenticated them. */
export type UdpChecksEvent =
  | { readonly kind: "started" }
  | {
    readonly kind: "probe";
    readonly socket: UdpSocketId;
    readonly from: TransportAddress;
    /** Rises with each datagram of the peer. */
    readonly counter: number;
    /** Whether its source may be probed. */
    readonly isAllowed: boolean;
  }
  | {
    readonly kind: "answer";
    readonly socket: UdpSocketId;
    readonly from: TransportAddress;
    /** As in the probe, or in NOMINATE. */
    readonly value: CheckValue;
  }
  | {
    readonly kind: "nominate";
    readonly socket: UdpSocketId;
    readonly from: TransportAddress;
    readonly counter: number;
    readonly isAllowed: boolean;
    readonly index: number;
  }
  /** A dial over TCP has connected, and still has to prove that it has reached the peer. */
  | { readonly kind: "rival" }
  /** The socket cannot be opened, or the limit of packets for this target is reached. */
  | { readonly kind: "refused"; readonly check: number }
  | { readonly kind: "time" }
  | { readonly kind: "stopped" };

/** What a probe or NOMINATE carries, and its answer repeats. */
export interface CheckValue {
  /** The check, or {@linkcode NOMINATION} for NOMINATE. */
  readonly check: number;
  /** Which try of the check, or which nomination. */
  readonly index: number;
}

/** What the driver has to do. */
export type UdpChecksAction =
  /** Send PROBE; `isTriggered` if it answers one of the peer's, so that it costs the peer as much. */
  | {
    readonly kind: "probe";
    readonly check: number;
    readonly index: number;
    readonly isTriggered: boolean;
  }
  /** Send ANSWER with the value of the datagram that the event was about, to its source. */
  | { readonly kind: "answer" }
  | { readonly kind: "nominate" }
  /** Send the ANSWER to NOMINATE. */
  | { readonly kind: "acknowledge" }
  /** This is the path from now on. */
  | { readonly kind: "found" }
  /** Both sides know; if `isLate`, the other side may have had no path yet for what this one has sent over it. */
  | { readonly kind: "confirmed"; readonly isLate: boolean }
  /** The other side has not confirmed the path: it is of no use. */
  | { readonly kind: "lost" };

/** The check in the value of NOMINATE. */
export const NOMINATION = 0xffff_ffff;

/** The first of the fresh sockets. */
export const FIRST_FRESH_SOCKET = 2;
