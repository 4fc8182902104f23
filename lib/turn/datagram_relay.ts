/**
 * Relayed datagrams: RFC 8656 §9 to §12.
 *
 * @module
 */

import { WaitQueue } from "../base/wait_queue.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Datagram, UdpSocket } from "../net/network.ts";
import type { StunAttribute } from "../stun/attributes.ts";
import {
  encodeMessage,
  getAttribute,
  type StunMessage,
  unknownRequiredAttributes,
} from "../stun/message.ts";
import type { IcmpReport } from "../stun/turn_attributes.ts";
import type { Allocated, TurnClientOptions } from "./allocation.ts";
import { Channels } from "./channels.ts";
import { type ChannelData, DATA, encodeChannelData, SEND } from "./protocol.ts";
import { type Relay, SessionRelay } from "./relay.ts";

/** A relayed address for datagrams. Disposing releases it. */
export interface DatagramRelay extends Relay {
  /**
   * A UDP socket at the relayed address, which peers see as the sender. The first datagram to a peer binds a channel,
   * which takes a round trip to the server; `send()` rejects with a `RefusedError` if the server does not relay to that
   * peer. The socket receives datagrams from IP addresses that it has sent to or that were permitted. Closing it closes
   * the relay.
   */
  readonly socket: UdpSocket;
  /**
   * Moves the relayed address to another network, over a new socket to the server: RFC 8016. The relay must have been
   * opened with `mobility`. Requests to the server wait for the end of the move; datagrams may be lost.
   *
   * Over TCP and TLS, coturn 4.6.1 responds with an invalid message, and the move loses the relay.
   *
   * @throws {TypeError} if the relay was opened without mobility, or the server does not support it
   * @throws {RefusedError} if the server refuses
   * @throws {NetworkError} if the network fails, or `closed`
   * @throws {NoResponseError} if the server does not respond in time
   */
  move(options?: { signal?: AbortSignal }): Promise<void>;
}

/** How datagrams are relayed. */
export interface DatagramOptions {
  /**
   * Whether to bind channels. Without them every datagram carries its peer's address, 36 bytes instead of 4, and only
   * permissions are requested. Default: `true`.
   */
  readonly channels?: boolean;
  /** Forbids fragmentation between the server and the peer. Excludes channels. Default: `false`. */
  readonly dontFragment?: boolean;
  /** Receives the ICMP packets that datagrams to a peer caused, if the server reports them. */
  readonly onIcmp?: (peer: TransportAddress, report: IcmpReport) => void;
}

/** A datagram relay over an allocation. */
export function datagramRelay(
  allocated: Allocated,
  options: TurnClientOptions & DatagramOptions,
): DatagramRelay {
  return new SessionDatagramRelay(allocated, options);
}

class SessionDatagramRelay extends SessionRelay implements DatagramRelay {
  readonly socket: UdpSocket;
  readonly #channels: Channels;
  readonly #options: DatagramOptions;
  readonly #received = new WaitQueue<Datagram>(MAX_WAITING);

  constructor(allocated: Allocated, options: TurnClientOptions & DatagramOptions) {
    super(allocated, options);
    this.#options = options;
    this.#channels = new Channels(this.session, this.permissions);
    this.session.deliverTo({
      onChannelData: (message) => this.#onChannelData(message),
      onIndication: (message) => this.#onIndication(message),
    });
    const { ended } = this.session;
    ended.addEventListener("abort", () => this.#received.close(ended.reason), { once: true });
    const close = () => void this.close();
    this.socket = {
      local: this.relayed[0],
      send: (data, to) => this.#send(data, to),
      receive: ({ signal } = {}) => this.#received.next(signal),
      close,
      [Symbol.dispose]: close,
    };
  }

  move(options?: { signal?: AbortSignal }): Promise<void> {
    return this.session.move(options);
  }

  async #send(data: Uint8Array, to: TransportAddress): Promise<void> {
    if (data.length > MAX_DATA_LENGTH) {
      throw new RangeError(
        `Cannot send to ${formatTransportAddress(to)}: ` +
          `${data.length} bytes are more than ${MAX_DATA_LENGTH}`,
      );
    }
    const { channels = true, dontFragment = false } = this.#options;
    if (channels && !dontFragment) {
      const channel = this.#channels.get(to) ?? await this.#channels.bind(to);
      if (channel !== undefined) {
        if (!this.permissions.has(to.ip)) await this.permit([to.ip]); // a channel outlives its permission
        return await this.session.send(encodeChannelData({ channel, data }));
      }
    }
    if (!this.permissions.has(to.ip)) await this.permit([to.ip]);
    await this.session.send(encodeSend(data, to, dontFragment));
  }

  /** RFC 8656 §12.6: datagrams of channels that are not bound are dropped. */
  #onChannelData({ channel, data }: ChannelData): void {
    const from = this.#channels.peerOf(channel);
    if (from !== undefined) this.#received.push({ data, from });
  }

  /** RFC 8656 §11.4: datagrams of peers without permission are dropped. */
  #onIndication(message: StunMessage): void {
    if (message.method !== DATA || unknownRequiredAttributes(message).length > 0) return;
    const from = getAttribute(message, "XOR-PEER-ADDRESS");
    if (from === undefined || !this.permissions.admits(from.ip)) return;
    const data = getAttribute(message, "DATA");
    const icmp = getAttribute(message, "ICMP");
    if (data !== undefined) this.#received.push({ data, from });
    else if (icmp !== undefined) queueMicrotask(() => this.#options.onIcmp?.(from, icmp)); // may throw
  }
}

function encodeSend(data: Uint8Array, to: TransportAddress, dontFragment: boolean): Uint8Array {
  const attributes: StunAttribute[] = [{ type: "XOR-PEER-ADDRESS", value: to }];
  if (dontFragment) attributes.push({ type: "DONT-FRAGMENT", value: true });
  attributes.push({ type: "DATA", value: data });
  return encodeMessage({
    class: "indication",
    method: SEND,
    transactionId: crypto.getRandomValues(new Uint8Array(12)),
    attributes,
  });
}

/** Datagrams that wait for receive(); further ones are dropped. The same number as for a socket of the system. */
const MAX_WAITING = 1024;

/** Chosen by us: fits a datagram to the server even with the longest header, a Send indication to an IPv6 peer. */
const MAX_DATA_LENGTH = 65_535 - 8 - 20 - 64;
