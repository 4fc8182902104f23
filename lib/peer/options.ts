/**
 * How to open a peer.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { decodeLogin, shownUrl, withoutLogin } from "../base/login.ts";
import type { CodeEvent } from "../code/offer.ts";
import type { FamilyReport, Finding } from "../nat/behavior.ts";
import type { Network } from "../net/network.ts";
import type { ProxyOptions } from "../net/proxy/client.ts";
import type { Strategy } from "../punch/path_kinds.ts";
import { MANUAL_TIMEOUT_MS } from "../punch/punch.ts";
import type { SignalingState, SignalTransport } from "../signal/transport.ts";
import type { LongTermCredential } from "../stun/credentials.ts";
import { parseTurnUri } from "../turn/turn_uri.ts";
import type { ServerRecord } from "./pools.ts";
import type { TicketSource } from "./tickets.ts";

/** How to open a peer. */
export interface PeerOptions {
  /** 32 random bytes: the peer's identity. Keep them to keep the ticket. Default: new ones. */
  readonly secretKey?: Uint8Array;
  /**
   * The signaling servers over which others can request a connection: URLs such as `ws://192.0.2.1:3480`,
   * `mqtts://broker.example` or `lan:`, or transports of your own. They become part of the ticket. A URL here may also be
   * in a private network or on this host if a ticket names it. Default: `DEFAULT_SIGNALING` of `./signal`, the LAN and two
   * public brokers, as the command line. `[]`: none, for a peer that only connects. One that does not listen connects to
   * the rendezvous servers among them soon after it is opened, so that its first connection takes less time.
   */
  readonly signaling?: readonly (string | SignalTransport)[];
  /**
   * Decides about a URL of somebody else's ticket that leads into a private network or to this host, and about such a
   * relay of a peer, which it gets as a `turn:` URL: whether to connect to these addresses. URLs in `signaling`, the public
   * defaults, and URLs that lead to the internet alone need no permission. Default: no.
   */
  readonly allowUrl?: AllowUrl;
  /** Whether to listen for others. Default: true, or false if `signaling` is empty. */
  readonly listen?: boolean;
  /** @ignore the tickets in the list beside a key file, for the command line */
  readonly tickets?: TicketSource;
  /** @ignore what earlier runs have learned of signaling servers, for the command line */
  readonly serverRecord?: ServerRecord;
  /** The public keys that may connect, or a function that decides. Default: everyone with the ticket. */
  readonly allow?: readonly Uint8Array[] | ((remoteKey: Uint8Array) => boolean | Promise<boolean>);
  /**
   * How many connections this peer accepts at a time, 128 of them of one key; further ones are told that it is busy. The last
   * quarter is for keys that have connected before. Each takes a file descriptor, and may fill 64 KiB in each direction and
   * 16 KiB for each of its streams, besides the windows that all of them share. Default: 1024.
   */
  readonly maxConnections?: number;
  /** The application's protocol, such as `"chat/1"`: requested when connecting, and required of others. Default: any. */
  readonly protocol?: string;
  /**
   * STUN servers that speak TCP and UDP at the same port, `HOST[:PORT]`. Default: a few public ones. `[]`: none; then UDP is
   * used only if `strategies` names it.
   */
  readonly servers?: readonly string[];
  /** The TCP part of a report of {@linkcode testNat}, which makes for better plans. */
  readonly report?: FamilyReport | null;
  /** TURN servers that relay TCP streams if nothing else works: `turn:USER:PASSWORD@host:port` or `turns:...`. */
  readonly turn?: readonly (string | RelayServer)[];
  /** Which kinds of path to try. Default: all. */
  readonly strategies?: readonly Strategy[];
  /**
   * Whether to connect through relays of this side's only, those of `signaling` and `turn`, so that the other side does not
   * learn this side's addresses. Default: false.
   */
  readonly relayOnly?: boolean;
  /**
   * A proxy for signaling and relays, `http://USER:PASSWORD@HOST:PORT`, `https://` or `socks5://`. It looks up the names
   * too. Attempts to connect directly go around it; with `relayOnly` there are none, and then nothing is sent but to the
   * proxy, and to this host and those of `noProxy`. Default: none.
   */
  readonly proxy?: string | ProxyOptions;
  /** Whether to ask a router to forward a port if a punch may fail. Default: true. */
  readonly mapPorts?: boolean;
  /** Whether a connection that loses its path moves to another one. Default: true. */
  readonly reconnect?: boolean;
  /** Overrides some of {@linkcode PEER_TIMINGS}. */
  readonly timings?: Partial<PeerTimings>;
  /** Whose sockets to use. Default: the system's. */
  readonly network?: Network;
  /** Receives non-fatal diagnostics. */
  readonly logger?: Logger;
  /** Called with what a person who waits for a connection wants to know. May not throw. */
  readonly onProgress?: (progress: PeerProgress) => void;
  /** Aborts the opening. */
  readonly signal?: AbortSignal;
}

/** Something on the way to a connection. */
export type PeerProgress =
  | {
    /** Signaling opened, or failed to. */
    readonly event: "signaling";
    /** The URL, without its login. */
    readonly url: string;
    /** Whether it can be used now. */
    readonly state: SignalingState;
    /** Why not, if its state is `"failed"` or `"lost"`. */
    readonly error?: unknown;
  }
  | {
    /** The peer has answered: the search for a path goes on, or begins. */
    readonly event: "answered";
    /** The URL of the signaling that brought the answer first, without its login. */
    readonly url: string;
  }
  | {
    /** Something stands in the way of a connection, which goes on by another way. */
    readonly event: "finding";
    /** What it is, and what to do. */
    readonly finding: Finding;
  };

/** Decides whether to connect to a URL that somebody else named, and to its addresses. */
export type AllowUrl = (
  url: string,
  addresses: readonly string[],
) => boolean | Promise<boolean>;

/** How to connect. */
export interface ConnectOptions {
  /** Aborts connecting. Once there is a connection, it has no effect. */
  readonly signal?: AbortSignal;
}

/** How to offer a code. */
export interface CodeOptions {
  /** What the code is for: a ticket of this peer. Default: its own. */
  readonly ticket?: string;
  /** How long the code is good for, in milliseconds. Default: an hour. */
  readonly expiresMs?: number;
  /** Called whenever something happens to the code. May not throw. */
  readonly onEvent?: (event: CodeEvent) => void;
  /** Aborts the search for a number. Once there is a code, it has no effect. */
  readonly signal?: AbortSignal;
}

/** A TURN server, and how to log in. */
export interface RelayServer {
  /** `turn:host[:port]` or `turns:host[:port]`. Streams use TCP or TLS, so `?transport=tcp` may be left out. */
  readonly url: string;
  /** The user and password that the server asks for. */
  readonly credential?: LongTermCredential;
  /** Certificate authorities to trust besides the platform's; PEM. */
  readonly caCerts?: readonly string[];
}

/** The timeouts and intervals of a peer, in milliseconds. */
export interface PeerTimings {
  /** How long to search for a path, once both sides have heard of each other. */
  readonly connectMs: number;
  /** How long to wait for the other side's answer. */
  readonly answerMs: number;
  /** Instead of both, if people carry the messages. */
  readonly manualMs: number;
  /** How long a connection that has lost its path waits for another. */
  readonly reconnectMs: number;
  /** The first wait between two attempts to reconnect; it doubles up to ten times this. */
  readonly retryMs: number;
  /**
   * The first wait between two searches for a direct path, while a relay carries the connection; it doubles up to sixteen
   * times this.
   */
  readonly improveMs: number;
}

/** The defaults, chosen by us. */
export const PEER_TIMINGS: PeerTimings = {
  /** All rounds of a punch. */
  connectMs: 30_000,
  /** Somebody has to accept, perhaps a person. */
  answerMs: 30_000,
  manualMs: MANUAL_TIMEOUT_MS,
  /** Time to carry a laptop from one room, or network, to another. */
  reconnectMs: 120_000,
  retryMs: 1000,
  /** A punch that missed may hit next time, and networks change; but rarely within a minute. */
  improveMs: 60_000,
};

/**
 * Reads a TURN server from text such as `turn:USER:PASSWORD@host:port` or `turns:...`. A `:` or `@` in the user or the
 * password has to be percent-encoded.
 *
 * @throws {TypeError} if the text is invalid; the message repeats nothing that may be a password
 */
export function parseRelay(server: string | RelayServer): RelayServer {
  const { url: text, ...rest } = typeof server === "string" ? { url: server } : server;
  const parts = /^(turns?:)(?:([^:@/]+):([^:@]*)@)?([^@]*)$/i.exec(text);
  if (parts === null) {
    throw new TypeError(
      text.includes("@")
        ? "Cannot use relay: write turn:USER:PASSWORD@HOST, with %3A for a : and %40 for an @ in user or password"
        : `Cannot use relay ${shownUrl(text)}: a relay is turn:... or turns:...`,
    );
  }
  const [, scheme, username, password, target] = parts as unknown as string[];
  const plain = `${scheme}${target}`;
  const isDefault = parseTurnUri(plain).transport === "udp" && !target!.includes("?");
  const url = isDefault ? `${plain}?transport=tcp` : plain;
  if (parseTurnUri(url).transport === "udp") {
    throw new TypeError(`Cannot use relay ${withoutLogin(url)}: streams need transport=tcp`);
  }
  if (username === undefined) return { ...rest, url };
  const cannot = "Cannot use relay";
  const credential = {
    username: decodeLogin(username, cannot),
    password: decodeLogin(password!, cannot),
  };
  return { ...rest, url, credential };
}
