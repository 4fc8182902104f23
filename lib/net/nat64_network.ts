/**
 * IPv4 on a host that has IPv6 alone, by way of its network's NAT64: addresses are translated in both directions, as a CLAT
 * does (RFC 6877), so that everything above keeps to IPv4. The prefix is the one that the resolver tells (RFC 7050).
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import {
  ipFamily,
  ipScope,
  type Nat64Prefix,
  synthesizeIp,
  type TransportAddress,
  unwrapIp,
} from "./address.ts";
import {
  discoverLocalIpv4,
  discoverNat64,
  hasNoRoute,
  IPV4_ONLY_NAME,
  networkWith,
  prefixOf,
} from "./local_address.ts";
import type {
  ConnectTcpOptions,
  Network,
  TcpConnection,
  TcpListener,
  UdpSocket,
} from "./network.ts";

/**
 * A network that reaches IPv4 addresses through a NAT64 where it does not reach them by itself. A host with IPv4 notices
 * nothing. Sockets for IPv6 are not touched.
 */
export function nat64Network(network: Network): Network {
  let known:
    | { readonly prefix: Promise<Nat64Prefix | undefined>; readonly untilMs: number }
    | undefined;
  /** The prefix, if the host has no IPv4 address. */
  const prefixIfNeeded = (): Promise<Nat64Prefix | undefined> => {
    if (known === undefined || known.untilMs <= performance.now()) {
      known = { prefix: findPrefix(network), untilMs: performance.now() + KEPT_MS };
    }
    return known.prefix;
  };
  const dial = async (
    remote: TransportAddress,
    options: ConnectTcpOptions,
    dialOne: (remote: TransportAddress, options: ConnectTcpOptions) => Promise<TcpConnection>,
  ): Promise<TcpConnection> => {
    try {
      return await dialOne(remote, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!hasNoRoute(error) || !isTranslated(remote.ip)) throw error;
      const prefix = await patiently(network, options.signal);
      if (prefix === undefined) throw error;
      const { local } = options;
      const connection = await dialOne({ ...remote, ip: synthesizeIp(remote.ip, prefix) }, {
        ...options,
        local: local && { ...local, ip: "::" },
      });
      return seenAs(connection, { remote });
    }
  };
  return networkWith(network, {
    bindUdp: async (local, options) => {
      const isPlain = local.ip === ANY_IPV4 && options?.multicast === undefined;
      const prefix = isPlain ? await prefixIfNeeded() : undefined;
      if (prefix === undefined) return await network.bindUdp(local, options);
      const untranslated = { ...options, answerer: undefined }; // it would see other addresses
      return translatedSocket(await network.bindUdp({ ...local, ip: "::" }, untranslated), prefix);
    },
    listenTcp: async (local, options) => {
      const prefix = local.ip === ANY_IPV4 ? await prefixIfNeeded() : undefined;
      if (prefix === undefined) return await network.listenTcp(local, options);
      return translatedListener(await network.listenTcp({ ...local, ip: "::" }, options), prefix);
    },
    connectTcp: (remote, options = {}) =>
      dial(remote, options, (to, options) => network.connectTcp(to, options)),
    connectTls: (remote, { hostname, caCerts, signal }) =>
      dial(
        remote,
        { signal },
        (to, { signal }) => network.connectTls(to, { hostname, caCerts, signal }),
      ),
  });
}

async function findPrefix(network: Network): Promise<Nat64Prefix | undefined> {
  const listed = await network.localAddresses();
  const hasIpv4 = listed === undefined
    ? await discoverLocalIpv4(network) !== undefined
    : listed.some(({ ip }) => ipFamily(ip) === 4 && !isOfThisLink(ip));
  if (hasIpv4) return undefined;
  return await patiently(network);
}

/** Nothing works without the prefix, so a resolver may take as long as for any other name. */
async function patiently(network: Network, signal?: AbortSignal): Promise<Nat64Prefix | undefined> {
  const [prefix] = await discoverNat64(network, { signal });
  if (prefix !== undefined) return prefix;
  try {
    const ips = await network.resolve(IPV4_ONLY_NAME, 6, { signal });
    return ips.flatMap((ip) => prefixOf(ip) ?? [])[0];
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof NetworkError) return undefined;
    throw error;
  }
}

function isOfThisLink(ip: string): boolean {
  return ipScope(ip) === "loopback" || ipScope(ip) === "link-local";
}

/** A NAT64 is for addresses on the internet (RFC 6052 §3.1). */
function isTranslated(ip: string): boolean {
  const scope = ipScope(ip);
  return ipFamily(ip) === 4 && (scope === "global" || scope === "documentation"); // the latter in labs
}

function translatedSocket(socket: UdpSocket, prefix: Nat64Prefix): UdpSocket {
  return {
    local: { ip: ANY_IPV4, port: socket.local.port },
    send: (data, to) =>
      socket.send(data, isTranslated(to.ip) ? { ...to, ip: synthesizeIp(to.ip, prefix) } : to),
    receive: async (options) => {
      const { data, from } = await socket.receive(options);
      return { data, from: { ...from, ip: unwrapIp(from.ip, [prefix]) } };
    },
    close: () => socket.close(),
    [Symbol.dispose]: () => socket.close(),
  };
}

function translatedListener(listener: TcpListener, prefix: Nat64Prefix): TcpListener {
  return {
    local: { ip: ANY_IPV4, port: listener.local.port },
    accept: async (options) => {
      const connection = await listener.accept(options);
      const { remote } = connection;
      return seenAs(connection, { remote: { ...remote, ip: unwrapIp(remote.ip, [prefix]) } });
    },
    close: () => listener.close(),
    [Symbol.dispose]: () => listener.close(),
  };
}

/** The connection, with other addresses. */
function seenAs(
  connection: TcpConnection,
  { remote }: { remote: TransportAddress },
): TcpConnection {
  return {
    local: connection.local,
    remote,
    read: (buffer) => connection.read(buffer),
    write: (data) => connection.write(data),
    closeWrite: () => connection.closeWrite(),
    close: () => connection.close(),
    reset: () => connection.reset(),
    ref: () => connection.ref?.(),
    unref: () => connection.unref?.(),
    [Symbol.dispose]: () => connection.close(),
  };
}

const ANY_IPV4 = "0.0.0.0";

/** Chosen by us, as for the prefixes themselves: a host that moves to another network notices within a minute. */
const KEPT_MS = 60_000;
