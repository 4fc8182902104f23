/**
 * The system's network: sockets of Deno and Node behind the {@linkcode Network} seam. Only this file and its folder use
 * `Deno.*` sockets and the network modules of `node:*`.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { type IpFamily, ipFamily, isIp, parseIp } from "./address.ts";
import type { LocalAddress, Network } from "./network.ts";
import { defaultGateways } from "./system/gateways.ts";
import { canReusePort, NAME_SERVER_REMEDY, requireNet, toNetworkError } from "./system/platform.ts";
import { connectTcp, listenTcp } from "./system/tcp.ts";
import { connectTls } from "./system/tls.ts";
import { bindUdp } from "./system/udp.ts";
import dns from "node:dns";

/** Real sockets, names and addresses. Needs `--allow-net` only, and never prompts. */
export const systemNetwork: Network = {
  bindUdp,
  connectTcp,
  connectTls,
  // Few connections go through a proxy, so the others do not load it.
  startTls: async (connection, options) =>
    await (await import("./system/tls_client.ts")).startTls(connection, options),
  listenTcp,
  resolve,
  localAddresses,
  ownsAddress,
  defaultGateways,
  get canReusePort() {
    return canReusePort();
  },
};

async function resolve(
  hostname: string,
  family: IpFamily,
  options: { signal?: AbortSignal } = {},
): Promise<string[]> {
  const { signal } = options;
  const cannot = `Cannot resolve ${hostname} to an IPv${family} address`;
  if (isIp(hostname)) {
    const ip = parseIp(hostname);
    if (ipFamily(ip) === family) return [ip];
    throw new NetworkError(`${cannot}: it is an IPv${ipFamily(ip)} address`, "name-not-found");
  }
  requireNet(cannot, hostname);
  signal?.throwIfAborted();
  // getaddrinfo, which knows more than DNS (the hosts file, mDNS). It cannot be cancelled: after an abort or our deadline
  // its result is dropped, but a program with nothing else to do ends only when the resolver has given up.
  const { promise: found, resolve, reject } = Promise.withResolvers<dns.LookupAddress[]>();
  const onAbort = () => reject(signal?.reason);
  const late = () => {
    const message = `${cannot}: no name server answers`;
    reject(new NetworkError(message, "timed-out", { remedy: NAME_SERVER_REMEDY }));
  };
  const timer = setTimeout(late, RESOLVE_MS);
  signal?.addEventListener("abort", onAbort, { once: true });
  dns.lookup(hostname, { all: true, family }, (error, addresses) => {
    error ? reject(toNetworkError(cannot, error)) : resolve(addresses);
  });
  try {
    return (await found).map(({ address }) => parseIp(address));
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

function localAddresses(): Promise<LocalAddress[] | undefined> {
  const permission = { name: "sys", kind: "networkInterfaces" } as const;
  if (Deno.permissions.querySync(permission).state !== "granted") return Promise.resolve(undefined);
  return Promise.resolve(listedAddresses());
}

/** `undefined` where the system refuses to list its interfaces, as Android does. */
function listedAddresses(): LocalAddress[] | undefined {
  try {
    return Deno.networkInterfaces().filter(({ address }) => isIp(address))
      .map(({ name, address }) => ({ interfaceName: name, ip: parseIp(address) }));
  } catch {
    return undefined;
  }
}

/** Sockets can be bound only to the addresses of this system. */
async function ownsAddress(ip: string): Promise<boolean> {
  try {
    using _socket = await bindUdp({ ip, port: 0 });
    return true;
  } catch (error) {
    if (error instanceof NetworkError && error.reason === "address-not-available") return false;
    throw error;
  }
}

/** Chosen by us: resolvers that find no name server give up after 10 seconds or more. */
const RESOLVE_MS = 2000;
