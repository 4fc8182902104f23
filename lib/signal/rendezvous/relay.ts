/**
 * The relay of a rendezvous server: it joins two connections that present the same token, and passes on what each sends
 * to the other, in order and at the pace of the slower one. It dials no one, sends nothing of its own before the two are
 * joined, and reads nothing of what it carries.
 *
 * ```text
 * client:  token (32)                   the first message, binary
 * server:  {"peer":"present"}           text, once the other connection is there
 * both:    binary                       what the two send each other, at most 64 KiB a message
 * both:    {"end":true}                 text: nothing follows from this side, as after the shutdown of a TCP connection
 * ```
 *
 * @module
 */

import { toBase64url } from "../../base/bytes.ts";
import { Pacer } from "../../base/rate_limiter.ts";
import type { ReleasedConnection } from "../../net/network.ts";
import type { SourceCounts } from "../../net/source.ts";
import type { WebSocketMessage } from "../websocket/connection.ts";
import { encodeWebSocketFrame, type ServerFrames } from "../websocket/frame.ts";
import { IoPause } from "./io_pause.ts";
import {
  encodeNotice,
  isRelayEnd,
  MAX_RELAYED_BYTES,
  RELAY_CLOSE_CODES,
  RELAY_END,
  RELAY_TOKEN_BYTES,
} from "./message.ts";
import type { RelayNodes } from "./relay_nodes.ts";
import { type RelayJoinResult, type RelayPairLimits, RelayPairs } from "./relay_pairs.ts";
import { delay } from "@std/async/delay";

/** What a relay may cost; see {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
export interface RelayLimits extends RelayPairLimits {
  /** Bytes a second of one pair, both directions together. */
  readonly relayBytesPerSecond: number;
  /** Bytes a second of all pairs together. */
  readonly allRelaysBytesPerSecond: number;
  /** How long a connection may wait for its other half. */
  readonly relayHalfMs: number;
  /** A pair that has sent nothing for so long is ended. */
  readonly relayIdleMs: number;
  /** How much may wait for one side that reads slowly; then the other side has to wait. */
  readonly maxRelayQueuedBytes: number;
}

/** Why the relay turns a connection away. */
export type RelayRefusal = Extract<RelayJoinResult<never>, { kind: "refused" }>["why"];

/** The socket of one connection. */
export interface RelaySocket {
  /** The next message. */
  receive(): Promise<WebSocketMessage>;
  /**
   * The whole binary messages that have arrived, as frames to send on, once the next frame has arrived; without any if that is
   * another one, which `receive()` returns. The next call overwrites them.
   *
   * @param maxBytes more than one message is not longer than that
   */
  receiveFrames(maxBytes: number): Promise<ServerFrames>;
  /** Sends an encoded frame; `false` if the connection is closing. */
  sendFrame(frame: Uint8Array): boolean;
  /** As {@linkcode WebSocketConnection.drained}. */
  drained(maxBytes: number): Promise<void>;
  /** Starts to close, after what is queued. */
  close(code: number, reason: string): void;
  /** From now on, messages may be so long. */
  allow(maxMessageBytes: number): void;
  /** Reads in larger pieces. Not while `receive()` waits. */
  enlarge(readBytes: number): void;
  /** As {@linkcode WebSocketConnection.release}. */
  release(): Promise<ReleasedConnection>;
}

/** A client of the relay that has presented its token. */
export interface RelayClient {
  /** The token, in Base64url. */
  readonly token: string;
  /** The client's IP address. */
  readonly ip: string;
}

/** Where pairs meet, if the server is one of several threads that clients cannot choose between. */
export interface RelayPlaces {
  /** Whether connections with this token meet here. */
  isHere(token: string): boolean;
  /**
   * Takes a connection to where its token belongs; the frames of the client follow.
   *
   * @returns once this side has nothing more to do with it
   */
  take(connection: ReleasedConnection, client: RelayClient): Promise<void>;
}

/** The relay: all pairs of one server. */
export class RendezvousRelay {
  readonly #limits: RelayLimits;
  readonly #pairs: RelayPairs<RelayMember>;
  readonly #pacer: Pacer;
  readonly #members = new Set<RelayMember>();
  readonly #onRefused: (why: RelayRefusal, ip: string) => void;
  readonly #places: RelayPlaces | undefined;
  readonly #nodes: RelayNodes | undefined;
  readonly #ioPause = new IoPause();
  #bytes = 0;

  constructor(
    limits: RelayLimits,
    onRefused: (why: RelayRefusal, ip: string) => void = () => {},
    { places, nodes, counts }: {
      places?: RelayPlaces;
      nodes?: RelayNodes;
      counts?: SourceCounts;
    } = {},
  ) {
    this.#onRefused = onRefused;
    this.#places = places;
    this.#nodes = nodes;
    this.#limits = limits;
    this.#pairs = new RelayPairs(limits, counts);
    const perSecond = limits.allRelaysBytesPerSecond;
    this.#pacer = new Pacer({ burst: Math.max(perSecond * BURST_S, MAX_RELAYED_BYTES), perSecond });
  }

  /** How many pairs are joined. */
  get pairs(): number {
    return this.#pairs.size;
  }

  /** How many connections wait for their other half. */
  get halves(): number {
    return this.#pairs.halves;
  }

  /** How many bytes it has passed on, short messages rounded up. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Serves one connection until it ends, or its other half has ended. */
  async serve(socket: RelaySocket, ip: string): Promise<void> {
    const token = await firstToken(socket, this.#limits.relayHalfMs);
    if (token === undefined) {
      return socket.close(RELAY_CLOSE_CODES.malformed, "the first message is a token");
    }
    if (this.#places === undefined || this.#places.isHere(token)) {
      return await this.join(socket, { token, ip });
    }
    await this.#places.take(await socket.release(), { token, ip });
  }

  /** Serves a connection that has presented its token. */
  async join(socket: RelaySocket, { token, ip }: RelayClient): Promise<void> {
    socket.allow(MAX_RELAYED_BYTES);
    const member = new RelayMember(socket, this.#limits);
    const joined = this.#pairs.join(token, member, ip);
    if (joined.kind === "refused") {
      member.stop();
      this.#onRefused(joined.why, ip);
      return socket.close(RELAY_CLOSE_CODES[joined.why], REASONS[joined.why]);
    }
    if (joined.kind === "joined") {
      this.#nodes?.forget(token);
      RelayMember.join(member, joined.peer);
    } else {
      for (const each of joined.ousted) each.end("no-peer");
      this.#nodes?.wait(token, (host) => member.move(host));
    }
    this.#members.add(member);
    try {
      await member.passOn({
        delayMs: (cost, nowMs, share) => this.#delayMs(cost, nowMs, share),
        pause: () => this.#pairs.size > FEW_PAIRS ? this.#ioPause.ifDue() : undefined,
      });
    } finally {
      if (member.isWaiting) this.#nodes?.forget(token);
      this.#pairs.leave(member)?.end("peer-gone");
      this.#members.delete(member);
      member.stop();
    }
  }

  /** Lets go of the connections that wait for their other half: the server ends. */
  close(): void {
    for (const member of this.#members) member.stop();
  }

  /** A pair that sends less than its share of what all may send does not wait for those that send more. */
  #delayMs(cost: number, nowMs: number, share: Pacer): number {
    this.#bytes += cost;
    const perSecond = this.#limits.allRelaysBytesPerSecond / Math.max(1, this.#pairs.size);
    share.change({ burst: MAX_RELAYED_BYTES, perSecond });
    const shareMs = share.delayMs(cost, nowMs);
    const allMs = this.#pacer.delayMs(cost, nowMs);
    return shareMs > 0 ? allMs : 0;
  }
}

/** One of the two connections of a pair. */
class RelayMember {
  readonly #socket: RelaySocket;
  readonly #limits: RelayLimits;
  readonly #joined = Promise.withResolvers<Joined | undefined>();
  /** Ends a half that waits too long, and a pair that is idle. */
  #timer: ReturnType<typeof setTimeout>;
  #isOver = false;
  #isWaiting = true;
  /** When either side has last sent something. */
  #activeMs = performance.now();

  constructor(socket: RelaySocket, limits: RelayLimits) {
    this.#socket = socket;
    this.#limits = limits;
    this.#timer = setTimeout(() => this.end("no-peer"), limits.relayHalfMs);
  }

  /** Joins two connections. */
  static join(one: RelayMember, other: RelayMember): void {
    const perSecond = one.#limits.relayBytesPerSecond;
    const pacer = new Pacer({ burst: Math.max(perSecond * BURST_S, MAX_RELAYED_BYTES), perSecond });
    const share = new Pacer({ burst: MAX_RELAYED_BYTES, perSecond });
    const maxBytes = Math.min(one.#limits.maxRelayQueuedBytes, perSecond * CHUNK_S);
    one.#onJoined({ peer: other, pacer, share, maxBytes });
    other.#onJoined({ peer: one, pacer, share, maxBytes });
  }

  /** Passes on what the connection sends, until it ends. */
  async passOn(pace: RelayPace): Promise<void> {
    for (let joined: Joined | undefined;;) {
      if (joined !== undefined) {
        const { frames, count } = await this.#socket.receiveFrames(joined.maxBytes);
        if (count > 0) {
          const cost = Math.max(frames.length, count * MIN_COST);
          if (!await this.#pass(frames, cost, { joined, pace })) return;
          continue;
        }
      }
      const message = await this.#socket.receive();
      if (message.kind === "close") return this.#socket.close(RELAY_CLOSE_CODES.normal, "");
      if (joined === undefined) {
        joined = await this.#joined.promise;
        if (joined === undefined) return;
        this.#socket.enlarge(this.#limits.maxRelayQueuedBytes);
      }
      const frame = frameFor(message);
      const cost = Math.max(frame?.length ?? 0, MIN_COST);
      if (!await this.#pass(frame, cost, { joined, pace })) return;
    }
  }

  /** Sends frames to the other half, once their turn has come; `false` if it is gone. */
  async #pass(
    frames: Uint8Array | undefined,
    cost: number,
    { joined, pace }: { joined: Joined; pace: RelayPace },
  ): Promise<boolean> {
    const { peer, pacer, share } = joined;
    const nowMs = performance.now();
    const waitMs = Math.max(pacer.delayMs(cost, nowMs), pace.delayMs(cost, nowMs, share));
    if (waitMs >= 1) await delay(waitMs);
    if (frames === undefined) return true;
    this.#activeMs = peer.#activeMs = performance.now();
    if (!await peer.#take(frames)) return false;
    await pace.pause();
    return true;
  }

  /** Ends the connection because the other half does not come, or has gone. */
  end(why: "no-peer" | "peer-gone" | "idle"): void {
    this.#joined.resolve(undefined);
    this.#socket.close(RELAY_CLOSE_CODES[why], REASONS[why]);
  }

  /** Tells the client to come to another node. */
  move(host: string): void {
    this.#joined.resolve(undefined);
    this.#socket.close(RELAY_CLOSE_CODES.moved, host);
  }

  /** Whether the other half has not come. */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** Clears the timer for good: the other half may still pass on what it has received. */
  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#joined.resolve(undefined);
  }

  #onJoined(joined: Joined): void {
    this.#isWaiting = false;
    clearTimeout(this.#timer);
    this.#endWhenIdle(this.#limits.relayIdleMs);
    const notice = new TextEncoder().encode(encodeNotice({ kind: "peer", isPresent: true }));
    this.#socket.sendFrame(encodeWebSocketFrame("text", notice));
    this.#joined.resolve(joined);
  }

  /** Looks again whenever the time might be over, so that a message need not restart a timer. */
  #endWhenIdle(waitMs: number): void {
    if (this.#isOver) return;
    this.#timer = setTimeout(() => {
      const leftMs = this.#activeMs + this.#limits.relayIdleMs - performance.now();
      if (leftMs <= 0) this.end("idle");
      else this.#endWhenIdle(leftMs);
    }, waitMs);
  }

  /** Sends to this connection, and waits until the system has all of it; `false` if the connection is gone. */
  async #take(frames: Uint8Array): Promise<boolean> {
    await this.#socket.drained(Math.max(0, this.#limits.maxRelayQueuedBytes - frames.length));
    const isSent = this.#socket.sendFrame(frames);
    await this.#socket.drained(0);
    return isSent;
  }
}

/** What keeps a pair from taking more than its share. */
interface RelayPace {
  /** How long what costs so much has to wait for the other pairs. */
  delayMs(cost: number, nowMs: number, share: Pacer): number;
  /** Waits if it is time for the system's events. */
  pause(): Promise<void> | undefined;
}

interface Joined {
  readonly peer: RelayMember;
  /** For both directions, at the rate of a pair. */
  readonly pacer: Pacer;
  /** The same, at its share of the rate of all pairs. */
  readonly share: Pacer;
  /** How much to pass on at once; a message may be longer. */
  readonly maxBytes: number;
}

/** The token, as text; `undefined` if the first message is something else, or does not come in time. */
async function firstToken(socket: RelaySocket, timeoutMs: number): Promise<string | undefined> {
  const tooLate = setTimeout(
    () => socket.close(RELAY_CLOSE_CODES["no-peer"], "no token"),
    timeoutMs,
  );
  try {
    let message = await socket.receive();
    for (let left = MAX_CONTROLS; left > 0 && isControl(message); left--) {
      message = await socket.receive();
    }
    if (message.kind !== "binary" || message.data.length !== RELAY_TOKEN_BYTES) return undefined;
    return toBase64url(message.data);
  } finally {
    clearTimeout(tooLate);
  }
}

function isControl({ kind }: WebSocketMessage): boolean {
  return kind === "ping" || kind === "pong";
}

/** The frame that passes on a message; `undefined` if the message is for the server, or unknown. */
function frameFor(message: WebSocketMessage): Uint8Array | undefined {
  if (message.kind === "binary") return encodeWebSocketFrame("binary", message.data);
  const isEnd = message.kind === "text" && isRelayEnd(message.text);
  return isEnd ? encodeWebSocketFrame("text", new TextEncoder().encode(RELAY_END)) : undefined;
}

const REASONS = {
  "no-peer": "the other side does not come",
  "peer-gone": "the other side has gone",
  "idle": "idle for too long",
  "token-used": "two are joined already",
  "source-full": "too many relays from this address",
  "relay-full": "no relay is free",
} as const;

/** Chosen by us: a client sends its token first. What arrives before it is not paced. */
const MAX_CONTROLS = 4;

/** Chosen by us: what a message costs at least, in bytes, so that a flood of empty ones is paced as well. */
const MIN_COST = 512;

/** Chosen by us: how much of a second may be sent at once after a pause, so that short messages never wait. */
const BURST_S = 0.25;

/** Chosen by us: what is passed on at once takes so much of a second at a pair's rate, so that it flows evenly. */
const CHUNK_S = 0.025;

/** Chosen by us: so few pairs let the events of other sockets in soon enough without a pause, and are a sixth faster. */
const FEW_PAIRS = 2;
