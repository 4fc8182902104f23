/**
 * A host that opens TCP connections: RFC 9293 §3.10 from CLOSED to ESTABLISHED, including simultaneous open and
 * retransmission, in virtual time. Everything after that is left out.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import type { SessionPacket, TcpFlags } from "../../lab/model/nat_packet.ts";

/** A segment in flight, and the socket that sent it, by which the two ends of a connection find each other. */
export interface Segment {
  readonly packet: SessionPacket;
  readonly sender: Socket | null;
}

/** What a host needs from its surroundings. */
export interface HostWorld {
  readonly send: (segment: Segment) => void;
  readonly after: (ms: number, action: () => void) => void;
  readonly onEstablished: (socket: Socket) => void;
}

/** One end of a connection that is being opened. */
export interface Socket {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  state: "syn-sent" | "syn-received" | "established" | "closed";
  /** The other end, once this end knows that it is there. */
  peer: Socket | null;
  readonly onReset?: () => void;
}

/** A host with sockets and at most one listener. */
export class SynHost {
  readonly ip: string;
  synsSent = 0;
  listensOn: number | null = null;
  readonly #world: HostWorld;
  readonly #sockets = new Map<string, Socket>();

  constructor(ip: string, world: HostWorld) {
    this.ip = ip;
    this.#world = world;
  }

  /** Sends a SYN until it is answered or closed; `undefined` if such a socket exists already. */
  dial(localPort: number, remote: TransportAddress, onReset?: () => void): Socket | undefined {
    const local = { ip: this.ip, port: localPort };
    if (this.#sockets.has(key(localPort, remote))) return undefined;
    const socket: Socket = {
      local,
      remote,
      state: "syn-sent",
      peer: null,
      onReset,
    };
    this.#sockets.set(key(localPort, remote), socket);
    this.#transmit(socket, "syn-sent", { syn: true });
    return socket;
  }

  /** Whether no socket uses the local port. */
  isFree(port: number): boolean {
    return !this.#sockets.values().some(({ local }) => local.port === port);
  }

  /** Closes a socket silently, as the system does in SYN_SENT. */
  close(socket: Socket): void {
    if (socket.state !== "syn-sent") return;
    socket.state = "closed";
    this.#sockets.delete(key(socket.local.port, socket.remote));
  }

  receive({ packet, sender }: Segment): void {
    const { source, destination, tcpFlags = {} } = packet;
    const socket = this.#sockets.get(key(destination.port, source));
    if (socket === undefined) return this.#receiveUnknown({ packet, sender });
    if (tcpFlags.rst) return this.#receiveReset(socket);
    if (tcpFlags.syn && !tcpFlags.ack) {
      if (socket.state !== "syn-sent") return;
      socket.state = "syn-received";
      this.#transmit(socket, "syn-received", SYN_ACK);
    } else if (socket.state !== "established") {
      if (tcpFlags.syn) this.#send(socket, { ack: true });
      else if (socket.state === "syn-sent") return;
      this.#establish(socket, sender);
    } else if (tcpFlags.syn) {
      this.#send(socket, { ack: true });
    }
  }

  #receiveUnknown({ packet }: Segment): void {
    const { source, destination, tcpFlags = {} } = packet;
    if (tcpFlags.rst) return;
    const isSyn = tcpFlags.syn && !tcpFlags.ack;
    if (isSyn && destination.port === this.listensOn) {
      const socket: Socket = {
        local: destination,
        remote: source,
        state: "syn-received",
        peer: null,
      };
      this.#sockets.set(key(destination.port, source), socket);
      return this.#transmit(socket, "syn-received", SYN_ACK);
    }
    const reply: SessionPacket = {
      protocol: "tcp",
      source: destination,
      destination: source,
      tcpFlags: { rst: true, ack: true },
    };
    this.#world.send({ packet: reply, sender: null });
  }

  /** In SYN_RECEIVED such a RST is outside the window: RFC 5961 §3. */
  #receiveReset(socket: Socket): void {
    if (socket.state !== "syn-sent") return;
    this.close(socket);
    socket.onReset?.();
  }

  #establish(socket: Socket, sender: Socket | null): void {
    socket.state = "established";
    socket.peer = sender;
    this.#world.onEstablished(socket);
  }

  #transmit(socket: Socket, state: Socket["state"], flags: TcpFlags, tries = 0): void {
    if (socket.state !== state) return;
    this.#send(socket, flags);
    if (tries < RETRIES) {
      this.#world.after(RTO_MS, () => this.#transmit(socket, state, flags, tries + 1));
    }
  }

  #send(socket: Socket, tcpFlags: TcpFlags): void {
    if (tcpFlags.syn && !tcpFlags.ack) this.synsSent++;
    const { local: source, remote: destination } = socket;
    this.#world.send({
      packet: { protocol: "tcp", source, destination, tcpFlags },
      sender: socket,
    });
  }
}

function key(localPort: number, remote: TransportAddress): string {
  return `${localPort} ${remote.ip}:${remote.port}`;
}

const SYN_ACK: TcpFlags = { syn: true, ack: true };

/** RFC 6298 §2.1; the first four retries of Linux come at one second each. */
const RTO_MS = 1000;
const RETRIES = 4;
