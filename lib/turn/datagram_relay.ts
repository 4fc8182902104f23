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

/** A relayed address for datagrams; disposing releases it. */
export interface DatagramRelay extends Relay {
  /**
   * A UDP socket at the relayed address, which peers see as the sender. The first datagram to a peer asks the
   * server for a channel, which takes a round trip; `send()` rejects with a `RefusedError` if the server
   * relays nothing to that peer. Datagrams arrive from IP addresses that were sent to, or permitted, and
   * closing the socket closes the relay.
   */
  readonly socket: UdpSocket;
  /**
   * Takes the relayed address along to another network, over a new socket to the server: RFC 8016. Only if
   * it was opened with `mobility`. What is asked of the server meanwhile waits; a datagram may be lost.
   *
   * Over TCP and TLS coturn 4.6.1 answers with what is no message, and the relay is lost with the move.
   *
   * @throws {TypeError} if it was not, or the server has no mobility
   * @throws {RefusedError} if the server refuses
   * @throws {NetworkError} as the network fails, or `closed`
   * @throws {NoResponseError} if the server does not answer in time
   */
  move(options?: { signal?: AbortSignal }): Promise<void>;
}

/** How datagrams are relayed. */
export interface DatagramOptions {
  /**
   * `false` sends every datagram with its peer's address, 36 bytes instead of 4, and asks for permissions
   * alone. `true` unless given.
   */
  readonly channels?: boolean;
  /** Forbids fragments on the way from the server to the peer, which takes the form without channels. */
  readonly dontFragment?: boolean;
  /** Told of ICMP packets that datagrams to a peer brought the server, if it passes them on. */
  readonly onIcmp?: (peer: TransportAddress, report: IcmpReport) => void;
}

/** A relay of an allocation. */
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

  /** RFC 8656 §12.6: from a channel that is not ours it is dropped. */
  #onChannelData({ channel, data }: ChannelData): void {
    const from = this.#channels.peerOf(channel);
    if (from !== undefined) this.#received.push({ data, from });
  }

  /** RFC 8656 §11.4: from whom we have not let in it is dropped. */
  #onIndication(message: StunMessage): void {
    if (message.method !== DATA || unknownRequiredAttributes(message).length > 0) return;
    const from = getAttribute(message, "XOR-PEER-ADDRESS");
    if (from === undefined || !this.permissions.admits(from.ip)) return;
    const data = getAttribute(message, "DATA");
    const icmp = getAttribute(message, "ICMP");
    if (data !== undefined) this.#received.push({ data, from });
    else if (icmp !== undefined) queueMicrotask(() => this.#options.onIcmp?.(from, icmp)); // it may throw
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

/** Datagrams that wait for receive(); further ones are dropped. As many as a socket of the system keeps. */
const MAX_WAITING = 1024;

/** Ours: what fits a datagram to the server beside the longest header, a Send indication's to IPv6. */
const MAX_DATA_LENGTH = 65_535 - 8 - 20 - 64;
