/**
 * Channels, whose four-byte header replaces a peer's address: RFC 8656 §12.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";
import { idleDelay } from "../base/timers.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Permissions } from "./permissions.ts";
import { CHANNEL_BIND, FIRST_CHANNEL, LAST_CHANNEL, renewalDelayMs } from "./protocol.ts";
import type { TurnSession } from "./session.ts";

/** The channels of one allocation, renewed while it is open. */
export class Channels {
  readonly #session: TurnSession;
  readonly #permissions: Permissions;
  readonly #byPeer = new Map<string, Channel>();
  /** In the order of their numbers, from {@linkcode FIRST_CHANNEL} on. */
  readonly #channels: Channel[] = [];

  constructor(session: TurnSession, permissions: Permissions) {
    this.#session = session;
    this.#permissions = permissions;
    session.background((signal) => this.#keepRenewed(signal));
  }

  /** The peer of a channel number, if there is one. */
  peerOf(number: number): TransportAddress | undefined {
    return this.#channels[number - FIRST_CHANNEL]?.peer;
  }

  /** The number of the channel to a peer, if one is bound. */
  get(peer: TransportAddress): number | undefined {
    const channel = this.#byPeer.get(formatTransportAddress(peer));
    return channel?.state === "bound" ? channel.number : undefined;
  }

  /**
   * Binds a channel to a peer, if none is bound or being bound.
   *
   * @returns the channel number, or `undefined` if all numbers are taken
   * @throws {RefusedError} if the server refuses; 403 if it does not relay to that address
   */
  async bind(peer: TransportAddress): Promise<number | undefined> {
    const channel = this.#channelTo(peer);
    if (channel === undefined) return undefined;
    if (channel.state === "bound") return channel.number;
    const binding = channel.state === "unbound" ? this.#request(channel) : channel.state;
    channel.state = binding;
    await binding;
    return channel.number;
  }

  /** A peer keeps its number: RFC 8656 §12 forbids reusing either of them within 10 minutes. */
  #channelTo(peer: TransportAddress): Channel | undefined {
    const key = formatTransportAddress(peer);
    const known = this.#byPeer.get(key);
    const number = FIRST_CHANNEL + this.#channels.length;
    if (known !== undefined || number > LAST_CHANNEL) return known;
    const channel: Channel = { number, peer, state: "unbound" };
    this.#byPeer.set(key, channel);
    this.#channels.push(channel);
    return channel;
  }

  async #request(channel: Channel): Promise<void> {
    const { number, peer } = channel;
    try {
      await this.#session.request({
        method: CHANNEL_BIND,
        attributes: [
          { type: "CHANNEL-NUMBER", value: number },
          { type: "XOR-PEER-ADDRESS", value: peer },
        ],
      }, { action: `bind a channel to ${formatTransportAddress(peer)}` });
      channel.state = "bound";
      this.#permissions.add(peer.ip);
    } catch (error) {
      channel.state = "unbound";
      throw error;
    }
  }

  async #keepRenewed(signal: AbortSignal): Promise<void> {
    const { timings } = this.#session.options;
    const periodMs = renewalDelayMs(timings.channelLifetimeMs, timings);
    for (let dueMs = performance.now() + periodMs;; dueMs += periodMs) {
      await idleDelay(Math.max(dueMs - performance.now(), 0), signal);
      signal.throwIfAborted();
      const bound = this.#channels.filter(({ state }) => state === "bound");
      for (let start = 0; start < bound.length; start += MAX_AT_ONCE) {
        await Promise.all(bound.slice(start, start + MAX_AT_ONCE).map((one) => this.#renew(one)));
      }
    }
  }

  /** A channel that cannot be renewed is bound again when it is next used. */
  async #renew(channel: Channel): Promise<void> {
    try {
      await this.#request(channel);
    } catch (error) {
      if (!(error instanceof PunchlineError)) throw error;
    }
  }
}

/** Chosen by us: renewals in flight at a time, so that many channels are all renewed before they expire. */
const MAX_AT_ONCE = 16;

interface Channel {
  readonly number: number;
  readonly peer: TransportAddress;
  /** A promise while a request to bind it is in flight. */
  state: "unbound" | "bound" | Promise<void>;
}
