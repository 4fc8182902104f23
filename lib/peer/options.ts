/**
 * How to open a peer.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import type { PeerTimings } from "../connect/peer_timings.ts";
import type { RelayServer } from "../connect/relay_server.ts";
import type { Strategy } from "../connect/strategy.ts";
import type { FamilyReport } from "../nat/behavior.ts";
import type { Network } from "../net/network.ts";
import type { SignalTransport } from "../signal/transport.ts";

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
  /** By which ways to connect; all unless given. */
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
