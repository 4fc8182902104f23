/**
 * The seam between the library and the network: everything that opens sockets takes a {@linkcode Network}.
 *
 * Addresses are {@linkcode TransportAddress} values. Failures of the network and of the system's sockets are
 * {@linkcode NetworkError}s with a `reason`. On abort, calls reject with exactly the signal's reason. Time is not part of
 * the seam: the library uses the platform's timers, and a simulation replaces those.
 *
 * @module
 */

import type { IpFamily, TransportAddress } from "./address.ts";

/** The sockets, names and addresses of one host. */
export interface Network {
  /**
   * Opens a UDP socket. For the wildcard addresses `0.0.0.0` and `::` and for port 0, the system chooses.
   *
   * @throws {NetworkError} `address-in-use`, `address-not-available` or `not-permitted`
   */
  bindUdp(local: TransportAddress, options?: BindUdpOptions): Promise<UdpSocket>;

  /**
   * Opens a TCP connection, from `options.local` if that is given. Several connections may share a local port to
   * different remotes if all of them, including the first, are dialled with `options.local` (port 0 is enough for the
   * first). To share a port with a listener, both need `options.reusePort`.
   *
   * @throws {NetworkError} `refused`, `unreachable`, `timed-out`, `address-in-use`, `address-not-available` or `not-permitted`
   */
  connectTcp(remote: TransportAddress, options?: ConnectTcpOptions): Promise<TcpConnection>;

  /**
   * Opens a TLS connection over TCP, whose certificate must be valid for `options.hostname`.
   *
   * @throws {NetworkError} as {@linkcode Network.connectTcp}, or `tls`
   */
  connectTls(remote: TransportAddress, options: ConnectTlsOptions): Promise<TcpConnection>;

  /**
   * Starts TLS, as a client, on a connection that is open already, and returns what carries its plaintext; a failure closes
   * the connection. For connections through proxies; a network without it has no TLS through them. `caCerts` may take the
   * place of the platform's authorities here.
   *
   * @param connection taken over
   * @throws {NetworkError} `tls`, or as {@linkcode TcpConnection.read}
   */
  startTls?(connection: TcpConnection, options: ConnectTlsOptions): Promise<TcpConnection>;

  /**
   * Listens for TCP connections. Listening on a port that connections have been dialled from works on all supported
   * platforms. For the reverse order (listen first, then dial), both need `options.reusePort`.
   *
   * @throws {NetworkError} `address-in-use`, `address-not-available` or `not-permitted`
   */
  listenTcp(local: TransportAddress, options?: ListenTcpOptions): Promise<TcpListener>;

  /**
   * Whether `reusePort` works. If `false`, it has no effect, and connections cannot be dialled from a port that has a
   * listener.
   */
  readonly canReusePort: boolean;

  /**
   * The addresses of a name. An IP address resolves to itself.
   *
   * @throws {NetworkError} `name-not-found` if it has none of this family
   */
  resolve(
    hostname: string,
    family: IpFamily,
    options?: { signal?: AbortSignal },
  ): Promise<string[]>;

  /** The addresses of this host's interfaces, or `undefined` without the permission that this needs. */
  localAddresses(): Promise<LocalAddress[] | undefined>;

  /** Whether an address is one of this host's own. Needs no permission beyond the network. */
  ownsAddress(ip: string): Promise<boolean>;

  /**
   * The default gateways of both families in the system's routing table, in its order of preference. `undefined` without
   * the permission that this needs, or on systems where they cannot be found.
   */
  defaultGateways(): Promise<DefaultGateway[] | undefined>;
}

/** How to open a UDP socket. */
export interface BindUdpOptions {
  /** For a socket that sends to multicast groups or receives from them. */
  readonly multicast?: MulticastOptions;
  /**
   * Drops the datagrams for which it is `false`, before they are copied and queued, so that a flood of junk costs little.
   * A network may ignore it.
   */
  readonly accepts?: (data: Uint8Array) => boolean;
  /**
   * Answers datagrams before they are copied and queued, for a server that many ask the same. A network may ignore it: whoever
   * receives has to know all answers.
   */
  readonly answerer?: DatagramAnswerer;
  /**
   * The longest datagram that will be received; of longer ones, the rest is lost. A small limit saves memory and time for
   * each datagram. Default: 65,535.
   */
  readonly maxDatagramBytes?: number;
}

/** Answers datagrams where they arrive; see {@linkcode BindUdpOptions.answerer}. */
export interface DatagramAnswerer {
  /**
   * What to send back to where a datagram came from, or `undefined` to receive it as usual. Both the datagram and the answer
   * may be overwritten once they have been used.
   */
  answer(data: Uint8Array, from: TransportAddress): Uint8Array | undefined;
  /** Called after each answer; `isSent` is `false` if the system has refused it. */
  onAnswered(isSent: boolean): void;
}

/**
 * How a socket takes part in multicast (RFC 1112, RFC 4291 §2.7). Datagrams to a group leave through the interface of the
 * address that the socket is bound to, or of its zone. For the wildcard address, the system chooses the interface.
 */
export interface MulticastOptions {
  /**
   * The groups to join. A socket with groups shares its port with other such sockets, even of other programs
   * (SO_REUSEADDR), and must be bound to the wildcard address.
   */
  readonly groups?: readonly MulticastGroup[];
  /** How many hops datagrams to groups travel: the TTL of IPv4. Default: 1, the link only. */
  readonly hops?: number;
}

/** A group, on one of this host's interfaces. */
export interface MulticastGroup {
  /** A multicast address, without a zone. */
  readonly group: string;
  /** An address of the interface. For IPv6 it needs a zone, as in `fe80::1%eth0` or `::%eth0`. */
  readonly interfaceIp: string;
}

/** A UDP socket. Datagrams that are not received yet wait in a bounded queue; when it is full, new ones are dropped. */
export interface UdpSocket extends Disposable {
  /** The address that the socket is bound to; the IP may be the wildcard. */
  readonly local: TransportAddress;
  /**
   * Sends one datagram.
   *
   * @throws {NetworkError} if the system refuses
   */
  send(data: Uint8Array, to: TransportAddress): Promise<void>;
  /**
   * The next datagram. An aborted call loses no datagram.
   *
   * @throws {NetworkError} `closed` once the socket is closed
   */
  receive(options?: { signal?: AbortSignal }): Promise<Datagram>;
  /** Closes the socket; idempotent. */
  close(): void;
}

/** One datagram, owned by the receiver, and its source. */
export interface Datagram {
  /** The payload. */
  readonly data: Uint8Array;
  /** The source address in the packet. */
  readonly from: TransportAddress;
}

/** How to dial a TCP connection. */
export interface ConnectTcpOptions {
  /** The local address. For a wildcard address or port 0, the system chooses. */
  readonly local?: TransportAddress;
  /**
   * Whether to share the local port with all other sockets that have this option, listeners included, in any order
   * (SO_REUSEPORT). No effect if {@linkcode Network.canReusePort} is `false`. Default: `false`.
   */
  readonly reusePort?: boolean;
  /** How much the first read takes at most, in bytes; later ones take more. A network may ignore it. Default: 512. */
  readonly firstReadBytes?: number;
  /** Cancels the dial. */
  readonly signal?: AbortSignal;
}

/** How to listen for TCP connections. */
export interface ListenTcpOptions {
  /** As {@linkcode ConnectTcpOptions.firstReadBytes}, of each connection. */
  readonly firstReadBytes?: number;
  /** As {@linkcode ConnectTcpOptions.reusePort}. If two listeners share a port, either may get a connection. */
  readonly reusePort?: boolean;
  /** Called when nothing can be accepted because this process has too many open files, and when that is over. */
  readonly onShortage?: (event: Shortage) => void;
  /**
   * Whether to accept connections from an IP address now. Others are closed before anything is allocated for them: a
   * network may also leave that to the caller, and accept all.
   */
  readonly admits?: (ip: string) => boolean;
}

/** A shortage of file descriptors begins, or is over. */
export type Shortage = "begins" | "ends";

/** How to dial a TLS connection. */
export interface ConnectTlsOptions {
  /** The name in the server's certificate. */
  readonly hostname: string;
  /** Certificate authorities to trust in addition to the platform's, PEM. */
  readonly caCerts?: readonly string[];
  /** Cancels the dial. */
  readonly signal?: AbortSignal;
}

/** Takes the server's side of TLS handshakes, with one certificate. */
export interface TlsAcceptor {
  /** What clients should call the server: the first name of its certificate that is not a wildcard, if it has one. */
  readonly hostname: string | undefined;
  /**
   * Completes a handshake on a connection, and returns what carries its plaintext. A failure closes the connection.
   *
   * @param connection taken over
   * @param timeoutMs how long the handshake may take
   * @throws {NetworkError} `tls` if the client speaks something else, or breaks off; `timed-out`; or as
   * {@linkcode TcpConnection.read}
   */
  accept(connection: TcpConnection, timeoutMs: number): Promise<TcpConnection>;
}

/** A byte stream between two transport addresses. */
export interface TcpConnection extends Disposable {
  /** The local address. */
  readonly local: TransportAddress;
  /** The remote address. */
  readonly remote: TransportAddress;
  /**
   * Reads into the start of `buffer`, and returns the number of bytes, or `null` at the end of the stream. Only one call
   * may be pending.
   *
   * @throws {NetworkError} `reset`, `timed-out`, or `closed` once this side has closed the connection
   */
  read(buffer: Uint8Array): Promise<number | null>;
  /**
   * As {@linkcode TcpConnection.read}, but returns what has arrived in memory that is the caller's from then on. Missing
   * where that would cost a copy more, rather than one less.
   */
  readChunk?(): Promise<Uint8Array<ArrayBuffer> | null>;
  /**
   * Writes part of `data`, and returns the number of bytes. Do not change `data` until then.
   *
   * @throws {NetworkError} as {@linkcode TcpConnection.read}
   */
  write(data: Uint8Array): Promise<number>;
  /** Sends FIN. Reading still works. */
  closeWrite(): Promise<void>;
  /** Closes both directions; idempotent. */
  close(): void;
  /** Closes both directions with RST instead of FIN, so that the port does not linger in TIME_WAIT; idempotent. */
  reset(): void;
  /** Keeps the program running while the connection is open. This is the default. Missing in simulations. */
  ref?(): void;
  /** Allows the program to end while the connection is open. Missing in simulations. */
  unref?(): void;
  /**
   * Gives the connection up, for another thread of this program to take over; `undefined` if it stays here, because the
   * platform cannot do that. Nothing may be waiting to be read or written. Missing where it never works.
   */
  detach?(): DetachedConnection | undefined;
}

/** A TCP connection on its way to another thread of this program. */
export interface DetachedConnection {
  /** The number of its file descriptor, which belongs to whoever has this. */
  readonly fd: number;
  /** What has been received and not read. */
  readonly unread: Uint8Array<ArrayBuffer>;
}

/** A connection that whoever read it has given up. */
export interface ReleasedConnection {
  /** Read by no one else. */
  readonly connection: TcpConnection;
  /** What was read from it, and not used. */
  readonly unread: Uint8Array<ArrayBuffer>;
}

/** Accepts TCP connections. */
export interface TcpListener extends Disposable {
  /** The address that it listens on. */
  readonly local: TransportAddress;
  /**
   * The next connection. An aborted call loses no connection.
   *
   * @throws {NetworkError} `closed` once the listener is closed; another reason if it failed
   */
  accept(options?: { signal?: AbortSignal }): Promise<TcpConnection>;
  /** Stops listening; idempotent. */
  close(): void;
}

/** An address of an interface of this host. */
export interface LocalAddress {
  /** Such as `eth0`. */
  readonly interfaceName: string;
  /** Canonical, with a zone if it is link-local. */
  readonly ip: string;
}

/** A router for packets to hosts that are not on this host's links. */
export interface DefaultGateway {
  /** A link-local address has its zone, as in `fe80::1%eth0`. */
  readonly ip: string;
  /** Such as `eth0`. */
  readonly interfaceName: string;
}
