/**
 * One UDP socket for STUN and for paths (RFC 7983): mappings of a NAT belong to a socket, so what STUN learns about it
 * must be true of the path.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import type { TransportAddress } from "../net/address.ts";
import type { Datagram, UdpSocket } from "../net/network.ts";
import { PATH_ID_BYTES } from "./packet_message.ts";

/** Receives the datagrams of a path; must not throw. */
export interface PathReceiver {
  /** The ID that the datagrams start with. */
  readonly pathId: Uint8Array;
  onDatagram(data: Uint8Array, from: TransportAddress): void;
  /** The socket is closed, or broken. */
  onSocketClosed(error: NetworkError): void;
}

/** Distributes what a socket receives. Datagrams that belong to nothing are dropped. */
export class UdpDemultiplexer implements Disposable {
  /** STUN and TURN on the same socket. Closing it does nothing; the demultiplexer owns the socket. */
  readonly stun: UdpSocket;
  readonly #socket: UdpSocket;
  readonly #stunQueue = new WaitQueue<Datagram>(MAX_STUN_WAITING);
  readonly #paths = new Map<number, PathReceiver[]>();
  #dropped = 0;
  #localIp: string | undefined;

  /** @param socket taken over, and closed with this */
  constructor(socket: UdpSocket) {
    this.#socket = socket;
    const queue = this.#stunQueue;
    this.stun = {
      local: socket.local,
      send: (data, to) => socket.send(data, to),
      receive: ({ signal } = {}) => queue.next(signal),
      close: () => {},
      [Symbol.dispose]: () => {},
    };
    this.#run();
  }

  /** The address that the socket is bound to, with this host's own in place of a wildcard, once that is known. */
  get local(): TransportAddress {
    const { ip, port } = this.#socket.local;
    return { ip: ip === "0.0.0.0" || ip === "::" ? this.#localIp ?? ip : ip, port };
  }

  /** Tells which of this host's addresses a socket that is bound to a wildcard sends from. */
  set localIp(ip: string | undefined) {
    this.#localIp = ip;
  }

  /** How many datagrams were dropped because they belong to nothing. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Sends a datagram; see {@linkcode UdpSocket.send}. */
  send(data: Uint8Array, to: TransportAddress): Promise<void> {
    return this.#socket.send(data, to);
  }

  /** Passes the datagrams with this path ID to the receiver from now on. */
  add(receiver: PathReceiver): void {
    const key = keyOf(receiver.pathId);
    this.#paths.set(key, [...this.#paths.get(key) ?? [], receiver]);
  }

  /** Passes it no more. */
  remove(receiver: PathReceiver): void {
    const key = keyOf(receiver.pathId);
    const others = (this.#paths.get(key) ?? []).filter((each) => each !== receiver);
    if (others.length > 0) this.#paths.set(key, others);
    else this.#paths.delete(key);
  }

  /** Closes the socket; idempotent. Paths that use it fail. */
  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #run(): Promise<void> {
    try {
      for (;;) this.#dispatch(await this.#socket.receive());
    } catch (cause) {
      const error = cause instanceof NetworkError
        ? cause
        : new NetworkError("Cannot receive", "other", { cause, remedy: "Connect again" });
      this.#stunQueue.close(error);
      for (const receiver of [...this.#paths.values()].flat()) receiver.onSocketClosed(error);
    }
  }

  #dispatch(datagram: Datagram): void {
    const { data, from } = datagram;
    const first = data[0] ?? 255;
    if (first < FIRST_PATH_BYTE) {
      const isStun = first <= LAST_STUN_BYTE || first >= FIRST_TURN_BYTE && first <= LAST_TURN_BYTE;
      if (!isStun || !this.#stunQueue.push(datagram)) this.#dropped++;
      return;
    }
    const receiver = data.length > PATH_ID_BYTES ? this.#receiverOf(data) : undefined;
    if (receiver === undefined) this.#dropped++;
    else receiver.onDatagram(data, from);
  }

  #receiverOf(data: Uint8Array): PathReceiver | undefined {
    const receivers = this.#paths.get(keyOf(data));
    return receivers?.find(({ pathId }) =>
      pathId[4] === data[4] && pathId[5] === data[5] && pathId[6] === data[6] &&
      pathId[7] === data[7]
    );
  }
}

/** The first four bytes. */
function keyOf(bytes: Uint8Array): number {
  return (bytes[0]! << 24 | bytes[1]! << 16 | bytes[2]! << 8 | bytes[3]!) >>> 0;
}

/** RFC 7983 §7. */
const LAST_STUN_BYTE = 3;
const FIRST_TURN_BYTE = 64;
const LAST_TURN_BYTE = 79;

/** See path_keys.ts. */
const FIRST_PATH_BYTE = 192;

/** Chosen by us: answers to a burst of binding requests. */
const MAX_STUN_WAITING = 256;
