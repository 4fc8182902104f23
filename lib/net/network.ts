/**
 * The seam between the library and the network: everything above sockets takes a {@linkcode Network}.
 *
 * Addresses are {@linkcode TransportAddress} values. Failures of the network, and of the system's sockets,
 * are {@linkcode NetworkError}s with a `reason`; an abort rejects with the signal's reason, untouched.
 * Time is not part of the seam: the library uses the platform's timers, and a simulation fakes those.
 *
 * @module
 */

import type { IpFamily, TransportAddress } from "./address.ts";

/** Sockets, names and addresses of one host. */
export interface Network {
  /**
   * Opens a UDP socket. The wildcard addresses `0.0.0.0` and `::` and port 0 let the system choose.
   *
   * @throws {NetworkError} `address-in-use`, `address-not-available` or `not-permitted`
   */
  bindUdp(local: TransportAddress, options?: BindUdpOptions): Promise<UdpSocket>;

  /**
   * Dials a TCP connection, from a chosen local address and port if `options.local` is given. Several live
   * connections may leave from one local port to different remotes if each of them, the first too, was dialled
   * with `options.local` (port 0 will do there). From one that is listened on it takes `options.reusePort`, here
   * and there.
   *
   * @throws {NetworkError} `refused`, `unreachable`, `timed-out`, `address-in-use`, `address-not-available` or `not-permitted`
   */
  connectTcp(remote: TransportAddress, options?: ConnectTcpOptions): Promise<TcpConnection>;

  /**
   * Dials a TLS connection over TCP, verified against `options.hostname`.
   *
   * @throws {NetworkError} as {@linkcode Network.connectTcp}, or `tls`
   */
  connectTls(remote: TransportAddress, options: ConnectTlsOptions): Promise<TcpConnection>;

  /**
   * Listens for TCP connections. On a port from which connections were dialled before it works on every
   * platform that this library knows; the other order (listen first, dial later) takes `options.reusePort`, here
   * and there.
   *
   * @throws {NetworkError} `address-in-use`, `address-not-available` or `not-permitted`
   */
  listenTcp(local: TransportAddress, options?: ListenTcpOptions): Promise<TcpListener>;

  /**
   * Whether `reusePort` does what it says. Where this is `false` it does nothing, and a port that is listened on
   * cannot be dialled from.
   */
  readonly canReusePort: boolean;

  /**
   * The addresses of a name; an IP address is its own answer.
   *
   * @throws {NetworkError} `name-not-found` if there is none of this family
   */
  resolve(
    hostname: string,
    family: IpFamily,
    options?: { signal?: AbortSignal },
  ): Promise<string[]>;

  /** Addresses of this host's interfaces, or `undefined` where that takes a permission that was not granted. */
  localAddresses(): Promise<LocalAddress[] | undefined>;

  /** Whether an address is one of this host's own; needs no permission beyond the network. */
  ownsAddress(ip: string): Promise<boolean>;

  /**
   * The default gateways of both families by the system's routing table, those that it prefers first, or
   * `undefined` where that takes a permission that was not granted, or is not known how.
   */
  defaultGateways(): Promise<DefaultGateway[] | undefined>;
}

/** How to open a UDP socket. */
export interface BindUdpOptions {
  /** For a socket that speaks to multicast groups, or listens to them. */
  readonly multicast?: MulticastOptions;
}

/**
 * How a socket takes part in multicast (RFC 1112, RFC 4291 §2.7). What it sends to a group leaves by the
 * interface of the address that it is bound to, or of its zone; by the system's choice if that is the wildcard.
 */
export interface MulticastOptions {
  /**
   * Whose datagrams to receive as well. A socket with groups shares its port with others of its kind, of any
   * program (SO_REUSEADDR), and is to be bound to the wildcard.
   */
  readonly groups?: readonly MulticastGroup[];
  /** Over how many hops datagrams to groups go: the TTL of IPv4. 1, the link, unless told. */
  readonly hops?: number;
}

/** A group, on one of this host's interfaces. */
export interface MulticastGroup {
  /** A multicast address, without a zone. */
  readonly group: string;
  /** An address of the interface; for IPv6 one with a zone, such as `fe80::1%eth0` or `::%eth0`. */
  readonly interfaceIp: string;
}

/** A UDP socket. Datagrams that arrive while nobody receives wait in a bounded queue; the newest are dropped. */
export interface UdpSocket extends Disposable {
  /** The address that the socket is bound to; the IP may be the wildcard. */
  readonly local: TransportAddress;
  /**
   * Sends one datagram.
   *
   * @throws {NetworkError} if the system refuses to
   */
  send(data: Uint8Array, to: TransportAddress): Promise<void>;
  /**
   * The next datagram. An aborted call loses none.
   *
   * @throws {NetworkError} `closed` once the socket is closed
   */
  receive(options?: { signal?: AbortSignal }): Promise<Datagram>;
  /** Closes the socket; idempotent. */
  close(): void;
}

/** One datagram, owned by the receiver, and who sent it. */
export interface Datagram {
  /** The payload. */
  readonly data: Uint8Array;
  /** The source that the packet names. */
  readonly from: TransportAddress;
}

/** How to dial a TCP connection. */
export interface ConnectTcpOptions {
  /** Where to dial from; wildcard address or port 0 for the system's choice. */
  readonly local?: TransportAddress;
  /**
   * Shares the local port with all sockets that have this option as well, listeners too, in whatever order they
   * are opened (SO_REUSEPORT). Nothing where {@linkcode Network.canReusePort} is `false`.
   */
  readonly reusePort?: boolean;
  /** Gives the dial up. */
  readonly signal?: AbortSignal;
}

/** How to listen for TCP connections. */
export interface ListenTcpOptions {
  /** As {@linkcode ConnectTcpOptions.reusePort}. Of two listeners on one port either may get a connection. */
  readonly reusePort?: boolean;
}

/** How to dial a TLS connection. */
export interface ConnectTlsOptions {
  /** The name in the server's certificate. */
  readonly hostname: string;
  /** Certificate authorities to trust beside the platform's, PEM. */
  readonly caCerts?: readonly string[];
  /** Gives the dial up. */
  readonly signal?: AbortSignal;
}

/** A byte stream between two transport addresses. */
export interface TcpConnection extends Disposable {
  /** This side's end. */
  readonly local: TransportAddress;
  /** The other side's end. */
  readonly remote: TransportAddress;
  /**
   * Fills the start of `buffer`; the number of bytes, or `null` at the end of the stream. One call at a time.
   *
   * @throws {NetworkError} `reset`, `timed-out`, or `closed` once this side has closed the connection
   */
  read(buffer: Uint8Array): Promise<number | null>;
  /**
   * Writes a part of `data`; the number of bytes. Until then it must not change.
   *
   * @throws {NetworkError} as {@linkcode TcpConnection.read}
   */
  write(data: Uint8Array): Promise<number>;
  /** Sends FIN; reading goes on. */
  closeWrite(): Promise<void>;
  /** Closes both directions; idempotent. */
  close(): void;
  /** Sends RST instead of FIN, so that the port does not linger in TIME_WAIT; idempotent. */
  reset(): void;
  /** Keeps the program running while the connection is open, which is so by default; where there is a program. */
  ref?(): void;
  /** Lets the program end while the connection is open. */
  unref?(): void;
}

/** Accepts TCP connections. */
export interface TcpListener extends Disposable {
  /** Where it listens. */
  readonly local: TransportAddress;
  /**
   * The next connection. An aborted call loses none.
   *
   * @throws {NetworkError} `closed` once the listener is closed
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

/** Where packets go that are for none of this host's links. */
export interface DefaultGateway {
  /** A link-local address has its zone, as in `fe80::1%eth0`. */
  readonly ip: string;
  /** Such as `eth0`. */
  readonly interfaceName: string;
}
