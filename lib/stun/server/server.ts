/**
 * A STUN server: RFC 8489 over UDP and TCP, NAT behaviour discovery (RFC 5780) where it has two addresses,
 * clients of RFC 3489, and the TCP filter test of docs/tcp-filter-test.md.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { ipFamily, ipScope, parseIp, type TransportAddress } from "../../net/address.ts";
import type { Network, UdpSocket } from "../../net/network.ts";
import { type TcpFilterLimits, TcpFilterService } from "../tcp_filter/service.ts";
import { bindEndpoints, type Endpoint, newCounters, type StunServerCounters } from "./endpoints.ts";
import { type TcpLimits, TcpService } from "./tcp.ts";
import { newBuckets, type UdpBuckets, type UdpLimits, UdpResponder } from "./udp.ts";

/** What {@linkcode serveStun} takes. */
export interface StunServerOptions {
  /** The sockets to serve with. */
  readonly network: Network;
  /** The IP address to serve on. */
  readonly address: string;
  /** A second IP address of the same family. With it the server answers RFC 5780. */
  readonly alternateAddress?: string;
  /** 3478 unless given; 0 for the system's choice. */
  readonly port?: number;
  /** 3479 unless given; used with a second address only. */
  readonly alternatePort?: number;
  /** Each replaces a group of {@linkcode DEFAULT_SERVER_LIMITS}. */
  readonly limits?: Partial<StunServerLimits>;
}

/** What the server lets clients do; every limit is per server but for the rates, which are per source. */
export interface StunServerLimits {
  /** Of answers to datagrams, whose sources may be forged. */
  readonly udp: UdpLimits;
  /** Of connections. */
  readonly tcp: TcpLimits;
  /** Of TCP filter tests. */
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
 *   port: 0, // for the system to choose, as in a test; usually 3478
 *   alternatePort: 0,
 * });
 * const binding = await stunBinding(`127.0.0.1:${server.addresses[0]!.port}`);
 * assertEquals(binding.otherAddress, server.addresses[3]);
 * ```
 *
 * @throws {TypeError} if an address is none, or the second is the first, of another family, or one of them a
 * wildcard: clients are told both
 * @throws {RangeError} if both ports are the same
 * @throws {NetworkError} `address-in-use`, `address-not-available` or `not-permitted`
 */
export async function serveStun(options: StunServerOptions): Promise<StunServer> {
  const { network, port = 3478, alternatePort = 3479 } = options;
  const address = parseIp(options.address);
  if (options.alternateAddress === undefined) {
    return new SocketServer(await bindEndpoints(network, [address], [port]), options);
  }
  const alternate = parseIp(options.alternateAddress);
  checkAlternate(address, alternate);
  if (port === alternatePort && port !== 0) {
    throw new RangeError(`Cannot serve STUN: the ports are different, not ${port} twice`);
  }
  const endpoints = await bindEndpoints(network, [address, alternate], [port, alternatePort]);
  return new SocketServer(endpoints, options);
}

/** A running server; disposing closes it. */
export interface StunServer extends AsyncDisposable {
  /** Where it serves, each over UDP and TCP; the first is the one to tell clients. */
  readonly addresses: readonly TransportAddress[];
  /** Resolves once the server is closed; rejects if a socket of it fails. */
  readonly finished: Promise<void>;
  /** What it has done so far; a live view. */
  readonly counters: Readonly<StunServerCounters>;
  /** Closes all sockets and waits until nothing runs any more; idempotent. */
  close(): Promise<void>;
}

class SocketServer implements StunServer {
  readonly addresses: readonly TransportAddress[];
  readonly finished: Promise<void>;
  readonly counters = newCounters();
  readonly #endpoints: readonly Endpoint[];
  readonly #buckets: UdpBuckets;
  readonly #tcp: TcpService;

  constructor(endpoints: readonly Endpoint[], { network, limits }: StunServerOptions) {
    const { udp, tcp, filterTests } = { ...DEFAULT_SERVER_LIMITS, ...limits };
    const { counters } = this;
    const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
    this.addresses = endpoints.map((endpoint) => endpoint.address);
    this.#endpoints = endpoints;
    this.#buckets = newBuckets(udp, seed);
    this.#tcp = new TcpService(tcp, {
      counters,
      filterTests: new TcpFilterService(network, filterTests, { counters, seed }),
    });
    this.finished = this.#serve();
    this.finished.catch(() => {}); // who waits for it sees it; who does not must not be ended by it
  }

  async close(): Promise<void> {
    await this.#closeSockets();
    await Promise.allSettled([this.finished]); // a failure is for `finished` to tell
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #serve(): Promise<void> {
    try {
      await Promise.all(this.#endpoints.flatMap((endpoint) => [
        this.#serveUdp(endpoint),
        this.#tcp.serve(endpoint.tcp, endpoint.other),
      ]));
    } catch (error) {
      await this.#closeSockets();
      throw error;
    }
  }

  async #serveUdp({ udp, address, other }: Endpoint): Promise<void> {
    const responder = new UdpResponder({ destination: address, other }, {
      buckets: this.#buckets,
      counters: this.counters,
    });
    for (;;) {
      let datagram;
      try {
        datagram = await udp.receive();
      } catch (error) {
        if (error instanceof NetworkError && error.reason === "closed") return;
        throw error;
      }
      const answer = responder.respond(datagram.data, datagram.from, performance.now());
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
      tcp.close();
    }
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
    throw new TypeError(`${cannot}: a wildcard is not an address that clients can be told`);
  }
}

/**
 * Ours. A source without allowance still gets the answer that RFC 8489 demands, so nobody can be cut off by
 * requests forged in his name; and 16 kB/s beyond what was sent in his name is all that they bring him. A NAT
 * test sends some twenty special requests in a quarter of a second, and many hosts share the address of a
 * carrier's NAT. The connections stay below the 4096 files that older systems allow a process: a listener
 * of Deno that runs out of files accepts nothing any more.
 */
export const DEFAULT_SERVER_LIMITS: StunServerLimits = {
  udp: {
    excessBytes: { burst: 64 * 1024, perSecond: 16 * 1024 },
    specialAnswers: { burst: 200, perSecond: 100 },
  },
  tcp: { maxConnections: 2048, maxConnectionsPerSource: 128, idleMs: 30_000 },
  filterTests: { tests: { burst: 30, perSecond: 1 }, maxConcurrent: 64 },
};
