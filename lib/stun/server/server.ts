/**
 * A STUN server: RFC 8489 over UDP and TCP, NAT behaviour discovery (RFC 5780) if it has two addresses, RFC 3489 for
 * old clients, and the TCP filter test of docs/tcp-filter-test.md.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { optionalResolvers } from "../../base/tasks.ts";
import { ipFamily, ipScope, parseIp, type TransportAddress } from "../../net/address.ts";
import type {
  Network,
  TcpConnection,
  TcpListener,
  TlsAcceptor,
  UdpSocket,
} from "../../net/network.ts";
import { shortageLogger } from "../../net/shortage.ts";
import { type TcpFilterLimits, TcpFilterService } from "../tcp_filter/service.ts";
import { mayBeBindingRequest } from "./binding.ts";
import { bindEndpoints, type Endpoint, newCounters, type StunServerCounters } from "./endpoints.ts";
import { type TcpLimits, TcpService } from "./tcp.ts";
import { newBuckets, type UdpBuckets, type UdpLimits, UdpResponder } from "./udp.ts";

/** Options of {@linkcode serveStun}. */
export interface StunServerOptions {
  /** The network to open sockets on. */
  readonly network: Network;
  /** The IP address to listen on. */
  readonly address: string;
  /** A second IP address of the same family. With it, the server supports RFC 5780. */
  readonly alternateAddress?: string;
  /** Default: 3478. With 0, the system chooses. */
  readonly port?: number;
  /** Default: 3479. Used only with a second address. */
  readonly alternatePort?: number;
  /** Accepts STUN over TLS as well, on all TCP ports. */
  readonly tls?: TlsAcceptor;
  /** One more TCP port on the first address, usually 5349, where clients expect TLS. Default: none. */
  readonly tlsPort?: number;
  /**
   * Whether another server listens on the first TCP port, and passes the connections that speak STUN to
   * {@linkcode StunServer.serveConnection}. Default: `false`.
   */
  readonly sharesTcp?: boolean;
  /** Each member replaces that of {@linkcode DEFAULT_SERVER_LIMITS}. */
  readonly limits?: Partial<StunServerLimits>;
  /** Receives non-fatal diagnostics, such as a shortage of file descriptors. */
  readonly logger?: Logger;
}

/** What the server lets clients do. Rates are per source, all other limits per server. */
export interface StunServerLimits {
  /** Limits of responses over UDP, where sources may be forged. */
  readonly udp: UdpLimits;
  /** Limits of TCP connections. */
  readonly tcp: TcpLimits;
  /** Limits of TCP filter tests. */
  readonly filterTests: TcpFilterLimits;
}

/**
 * Starts a server.
 *
 * @example
 * ```ts
 * import { systemNetwork } from "@punchline/punchline/net";
 * import { serveStun, stunBinding } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = await serveStun({
 *   network: systemNetwork,
 *   address: "127.0.0.1",
 *   alternateAddress: "127.0.0.2",
 *   port: 0, // chosen by the system, as in a test; usually 3478
 *   alternatePort: 0,
 * });
 * const binding = await stunBinding(`127.0.0.1:${server.addresses[0]!.port}`);
 * assertEquals(binding.otherAddress, server.addresses[3]);
 * ```
 *
 * @throws {TypeError} if an address is invalid, or the two are equal, of different families, or one of them is a
 * wildcard: clients are told both
 * @throws {RangeError} if the two ports are equal
 * @throws {NetworkError} `address-in-use`, `address-not-available` or `not-permitted`
 */
export async function serveStun(options: StunServerOptions): Promise<StunServer> {
  const { network, port = 3478, alternatePort = 3479, logger } = options;
  const counters = newCounters();
  const accepts = (data: Uint8Array) => {
    const isAccepted = mayBeBindingRequest(data);
    if (!isAccepted) counters.udpIgnored++;
    return isAccepted;
  };
  const services = newServices(options, counters);
  const admits = (ip: string) => services.tcp.admits(ip);
  const bind = (ips: readonly string[], ports: readonly number[]) =>
    bindEndpoints(network, ips, ports, {
      accepts,
      admits,
      counters,
      logger,
      sharesTcp: options.sharesTcp,
    });
  const address = parseIp(options.address);
  if (options.alternateAddress === undefined) {
    return await withTlsPort(await bind([address], [port]), counters, { services, options });
  }
  const alternate = parseIp(options.alternateAddress);
  checkAlternate(address, alternate);
  if (port === alternatePort && port !== 0) {
    throw new RangeError(`Cannot serve STUN: the ports must be different, not both ${port}`);
  }
  const endpoints = await bind([address, alternate], [port, alternatePort]);
  return await withTlsPort(endpoints, counters, { services, options });
}

async function withTlsPort(
  endpoints: readonly Endpoint[],
  counters: StunServerCounters,
  { services, options }: { services: Services; options: StunServerOptions },
): Promise<StunServer> {
  const { network, tlsPort, logger } = options;
  if (tlsPort === undefined) return new SocketServer(endpoints, counters, services);
  const local = { ip: endpoints[0]!.address.ip, port: tlsPort };
  const onShortage = logger && shortageLogger(local, logger);
  const admits = (ip: string) => services.tcp.admits(ip);
  try {
    const listener = await network.listenTcp(local, { onShortage, admits });
    return new SocketServer(endpoints, counters, services, listener);
  } catch (error) {
    for (const { udp, tcp } of endpoints) {
      udp.close();
      tcp?.close();
    }
    throw error;
  }
}

/** A running server. Disposing it closes it. */
export interface StunServer extends AsyncDisposable {
  /** Where the server listens, over both UDP and TCP. Give clients the first one. */
  readonly addresses: readonly TransportAddress[];
  /** The port for TLS, with the option `tlsPort`. */
  readonly tlsAddress: TransportAddress | undefined;
  /**
   * Serves a connection that another listener has accepted, until it ends.
   *
   * @param connection taken over; it speaks STUN, not TLS
   */
  serveConnection(connection: TcpConnection): Promise<void>;
  /** Resolves once the server is closed; rejects if one of its sockets fails. */
  readonly finished: Promise<void>;
  /** What the server has done so far; a live view. */
  readonly counters: Readonly<StunServerCounters>;
  /** Closes all sockets and waits for everything that runs to end; idempotent. */
  close(): Promise<void>;
}

/** What decides about requests, on all sockets of a server. */
interface Services {
  readonly buckets: UdpBuckets;
  readonly tcp: TcpService;
}

function newServices(
  { network, limits, tls }: StunServerOptions,
  counters: StunServerCounters,
): Services {
  const { udp, tcp, filterTests } = { ...DEFAULT_SERVER_LIMITS, ...limits };
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const tests = new TcpFilterService(network, filterTests, { counters, seed });
  return {
    buckets: newBuckets(udp, seed),
    tcp: new TcpService(tcp, { tls, counters, seed, filterTests: tests }),
  };
}

class SocketServer implements StunServer {
  readonly addresses: readonly TransportAddress[];
  readonly finished: Promise<void>;
  readonly counters: StunServerCounters;
  readonly #endpoints: readonly Endpoint[];
  readonly #buckets: UdpBuckets;
  readonly #tcp: TcpService;
  readonly #tlsListener: TcpListener | undefined;

  constructor(
    endpoints: readonly Endpoint[],
    counters: StunServerCounters,
    { buckets, tcp }: Services,
    tlsListener?: TcpListener,
  ) {
    this.#tlsListener = tlsListener;
    this.counters = counters;
    this.addresses = endpoints.map((endpoint) => endpoint.address);
    this.#endpoints = endpoints;
    this.#buckets = buckets;
    this.#tcp = tcp;
    const { promise, resolve, reject } = optionalResolvers<void>();
    this.finished = promise;
    this.#serve().then(resolve, reject);
  }

  get tlsAddress(): TransportAddress | undefined {
    return this.#tlsListener?.local;
  }

  async serveConnection(connection: TcpConnection): Promise<void> {
    await this.#tcp.serveConnection(connection, this.#endpoints[0]!.other);
  }

  async close(): Promise<void> {
    await this.#closeSockets();
    await Promise.allSettled([this.finished]); // failures are reported by `finished`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #serve(): Promise<void> {
    try {
      const listener = this.#tlsListener;
      await Promise.all([
        ...this.#endpoints.map((endpoint) => this.#serveUdp(endpoint)),
        ...this.#endpoints.map(({ tcp, other }) => tcp && this.#tcp.serve(tcp, other)),
        listener && this.#tcp.serve(listener, undefined),
      ]);
    } catch (error) {
      await this.#closeSockets();
      throw error;
    }
  }

  async #serveUdp({ udp, direct, address, other }: Endpoint): Promise<void> {
    const responder = new UdpResponder({ destination: address, other }, {
      buckets: this.#buckets,
      counters: this.counters,
    });
    const clock = () => performance.now();
    direct.answer = (data, from) => responder.respondPlain(data, from, clock);
    for (;;) {
      let datagram;
      try {
        datagram = await udp.receive();
      } catch (error) {
        if (error instanceof NetworkError && error.reason === "closed") return;
        throw error;
      }
      const answer = responder.respond(datagram.data, datagram.from, clock);
      if (answer === undefined) continue;
      try {
        await this.#socketOf(answer.from).send(answer.data, answer.to);
        this.counters.udpAnswers++;
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error;
        this.counters.udpSendFailures++;
      }
    }
  }

  async #closeSockets(): Promise<void> {
    for (const { udp, tcp } of this.#endpoints) {
      udp.close();
      tcp?.close();
    }
    this.#tlsListener?.close();
    await this.#tcp.close();
  }

  #socketOf({ ip, port }: TransportAddress): UdpSocket {
    return this.#endpoints.find(({ address }) => address.ip === ip && address.port === port)!.udp;
  }
}

function checkAlternate(address: string, alternate: string): void {
  const cannot = `Cannot serve STUN on ${address} and ${alternate}`;
  if (address === alternate) throw new TypeError(`${cannot}: they are the same address`);
  if (ipFamily(address) !== ipFamily(alternate)) {
    throw new TypeError(`${cannot}: they are of different families`);
  }
  if ([address, alternate].some((ip) => ipScope(ip) === "unspecified")) {
    throw new TypeError(`${cannot}: a wildcard address is of no use to clients`);
  }
}

/**
 * Chosen by us. A source that has used up its rate still gets the response that RFC 8489 requires, so requests with a
 * forged source cannot cut anyone off, and the victim receives at most 16 kB/s more than the attacker sends. A NAT test
 * sends some twenty special requests in a quarter of a second, and many hosts share the address of a carrier-grade NAT.
 * Over TCP, a source may take a tenth of a processor core.
 * The number of connections stays below the 4096 files that older systems allow a process.
 */
export const DEFAULT_SERVER_LIMITS: StunServerLimits = {
  udp: {
    excessBytes: { burst: 64 * 1024, perSecond: 16 * 1024 },
    specialAnswers: { burst: 200, perSecond: 100 },
  },
  tcp: {
    maxConnections: 2048,
    maxConnectionsPerSource: 128,
    reservedShare: 0.25,
    idleMs: 30_000,
    connections: { burst: 2048, perSecond: 512 },
    messages: { burst: 2048, perSecond: 512 },
  },
  filterTests: { tests: { burst: 30, perSecond: 1 }, maxConcurrent: 64 },
};
