/**
 * How to open a peer.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { PATH_KINDS, type PathKind } from "../base/path_kind.ts";
import type { FamilyReport } from "../nat/behavior.ts";
import type { Network } from "../net/network.ts";
import { MANUAL_TIMEOUT_MS } from "../punch/punch.ts";
import type { SignalTransport } from "../signal/transport.ts";
import type { LongTermCredential } from "../stun/credentials.ts";
import { parseTurnUri } from "../turn/open_relay.ts";

/** All of it in milliseconds. */
export interface PeerTimings {
  /** For a way to the other side, from the moment when both are on the line. */
  readonly connectMs: number;
  /** For a sign of the other side. */
  readonly answerMs: number;
  /** Instead of both, where people carry what the sides say. */
  readonly manualMs: number;
  /** How long a connection whose path is lost waits for another one, if it is to be reconnected. */
  readonly reconnectMs: number;
  /** From one attempt to reconnect to the next, at first; twice as long each time, up to ten times that. */
  readonly retryMs: number;
  /**
   * From one search for a direct path to the next, while a relay carries the connection; twice as long each time, up to
   * sixteen times that.
   */
  readonly improveMs: number;
}

/** Ours. */
export const PEER_TIMINGS: PeerTimings = {
  /** What a punch takes with all of its rounds. */
  connectMs: 30_000,
  /** Somebody has to accept, perhaps by hand. */
  answerMs: 30_000,
  manualMs: MANUAL_TIMEOUT_MS,
  /** A laptop that is carried from one room, or network, to another. */
  reconnectMs: 120_000,
  retryMs: 1000,
  /** A spray that missed may hit, and networks change; but who has no other way has none a minute later. */
  improveMs: 60_000,
};

/** A TURN server, and how to be let in. */
export interface RelayServer {
  /** `turn:host[:port]` or `turns:host[:port]`; streams take TCP or TLS, so `?transport=tcp` may be left out. */
  readonly url: string;
  /** Who is known to the server. */
  readonly credential?: LongTermCredential;
  /** Certificate authorities to trust beside the platform's, PEM. */
  readonly caCerts?: readonly string[];
}

/**
 * A server that relays streams, from a text as `turn:USER:PASSWORD@host:port`, or `turns:...`, in which a `:` or a `@`
 * of the user or the password is percent-encoded.
 *
 * @throws {TypeError} if it is none; the message repeats nothing that may be a password
 */
export function parseRelay(server: string | RelayServer): RelayServer {
  const { url: text, ...rest } = typeof server === "string" ? { url: server } : server;
  const parts = /^(turns?:)(?:([^:@/]+):([^:@]*)@)?([^@]*)$/i.exec(text);
  if (parts === null) {
    throw new TypeError(
      text.includes("@")
        ? "Cannot use relay: it is turn:USER:PASSWORD@HOST, with %3A for a : and %40 for an @ in user or password"
        : `Cannot use relay ${text}: it is turn:... or turns:...`,
    );
  }
  const [, scheme, username, password, target] = parts as unknown as string[];
  const plain = `${scheme}${target}`;
  const url = parseTurnUri(plain).transport === "udp" && !target!.includes("?")
    ? `${plain}?transport=tcp`
    : plain;
  if (parseTurnUri(url).transport === "udp") {
    throw new TypeError(`Cannot use relay ${url}: streams take transport=tcp`);
  }
  if (username === undefined) return { ...rest, url };
  return {
    ...rest,
    url,
    credential: { username: decode(username), password: decode(password!) },
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new TypeError("Cannot use relay: its user or password is not percent-encoded", { cause });
  }
}

/** What `strategies` takes: a kind of path, or `"punch"` for hole punching over every transport. */
export type Strategy = PathKind | "punch";

/** Everything that `strategies` takes. */
export const STRATEGIES: readonly Strategy[] = [...PATH_KINDS, "punch"];

/** The kinds of path that strategies stand for. */
export function pathKindsOf(strategies: readonly Strategy[]): ReadonlySet<PathKind> {
  return new Set(strategies.map((each) => each === "punch" ? "punch-tcp" : each));
}

/**
 * Reads the name of a strategy.
 *
 * @throws {TypeError} if there is no strategy of that name
 */
export function parseStrategy(name: string): Strategy {
  const found = STRATEGIES.find((strategy) => strategy === name);
  if (found !== undefined) return found;
  throw new TypeError(
    `Cannot connect by ${JSON.stringify(name)}: strategies are ${STRATEGIES.join(", ")}`,
  );
}

/** How to open a peer. */
export interface PeerOptions {
  /** 32 random bytes that the peer keeps: its identity, and that of its ticket. New ones unless given. */
  readonly secretKey?: Uint8Array;
  /**
   * How others can ask for a connection: URLs as of `ws://192.0.2.1:3480`, `mqtts://broker.example`, `lan:`, or
   * transports of one's own. They are part of the ticket. None for a peer that only connects.
   */
  readonly signaling?: readonly (string | SignalTransport)[];
  /** Whether to listen for others; so unless there is no signalling. */
  readonly listen?: boolean;
  /** Who may connect: public keys, or who is asked; everybody who has the ticket unless given. */
  readonly allow?: readonly Uint8Array[] | ((remoteKey: Uint8Array) => boolean | Promise<boolean>);
  /** What is spoken over connections, such as `"chat/1"`: others are declined, and it is asked for. */
  readonly protocol?: string;
  /** STUN servers that speak TCP; a few public ones unless given. */
  readonly servers?: readonly string[];
  /** What {@linkcode testNat} found over TCP: makes for better plans. */
  readonly report?: FamilyReport | null;
  /** TURN servers that relay streams, where nothing else works. */
  readonly turn?: readonly (string | RelayServer)[];
  /** Which kinds of path to try. Default: all. */
  readonly strategies?: readonly Strategy[];
  /** Whether to go by `turn` alone, so that the other side does not learn this one's addresses. */
  readonly relayOnly?: boolean;
  /** Whether a router may be asked to forward ports where a punch may fail; it may unless told. */
  readonly mapPorts?: boolean;
  /** Whether a connection whose path is lost goes on over another one; it does unless told. */
  readonly reconnect?: boolean;
  /** Other times than {@linkcode PEER_TIMINGS}. */
  readonly timings?: Partial<PeerTimings>;
  /** The system's own unless given. */
  readonly network?: Network;
  /** Hears what goes wrong without consequences. */
  readonly logger?: Logger;
  /** Gives the opening up. */
  readonly signal?: AbortSignal;
}

/** How to connect. */
export interface ConnectOptions {
  /** Gives up. */
  readonly signal?: AbortSignal;
}
