/**
 * `stunBinding()`: one Binding request to a server given by name, over the system's network.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { type IpFamily, ipFamily, isIp, synthesizeIp } from "../net/address.ts";
import { discoverNat64, hasNoRoute, isOwnAddress } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import { resolveHost } from "../net/resolve.ts";
import { systemNetwork } from "../net/system.ts";
import { requestBinding, type RequestBindingOptions, type StunBinding } from "./client.ts";
import { parseStunServer } from "./uri.ts";

/** Options of {@linkcode stunBinding}. */
export interface StunBindingOptions extends Omit<RequestBindingOptions, "network" | "hostname"> {
  /** Default: the system's network. */
  readonly network?: Network;
  /** The address family to use. Default: IPv4, or IPv6 if the name has no IPv4 address. */
  readonly family?: IpFamily;
}

/**
 * Asks a STUN server for the address that it sees this host at.
 *
 * @example
 * ```ts
 * import { systemNetwork } from "@punchline/punchline/net";
 * import { serveStun, stunBinding } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = await serveStun({ network: systemNetwork, address: "127.0.0.1", port: 0 });
 * const { mapped } = await stunBinding(`127.0.0.1:${server.addresses[0]!.port}`);
 * assertEquals(mapped.ip, "127.0.0.1");
 * ```
 *
 * @param server a name or an IP address, with a port if it is not 3478 (5349 for TLS):
 * `"stun.example.org"`, `"192.0.2.1:3479"`, `"[2001:db8::1]:3478"`; or a URI of RFC 7064, `"stuns:stun.example.org"`, which
 * also names the transport
 * @throws {TypeError} if `server` is invalid, or RFC 8265 does not allow the credential
 * @throws {RefusedError} if the server responds with an error; `code` is the error code (RFC 8489 §14.8)
 * @throws {NoResponseError} if the server does not respond in time
 * @throws {MalformedMessageError} if the response is invalid, or is not STUN
 * @throws {NetworkError} if the name does not resolve, or the network does not carry the request
 */
export async function stunBinding(
  server: string,
  options: StunBindingOptions = {},
): Promise<StunBinding> {
  const { network = systemNetwork } = options;
  const isTls = options.transport === "tls";
  const parsed = parseStunServer(server, isTls ? STUNS_PORT : STUN_PORT);
  const { host, port } = parsed;
  const transport = options.transport ?? parsed.transport ?? "udp";
  const ask = (ip: string) =>
    requestBinding({ ip, port }, { ...options, transport, network, hostname: host });
  const ip = await resolveHost(network, host, options);
  const binding = await ask(ip).catch(async (error) => {
    const other = hasNoRoute(error) ? await otherAddress(network, host, ip, options) : undefined;
    if (other === undefined) throw error;
    return await ask(other);
  });
  if (binding.local !== "unknown" || !await isOwnAddress(network, binding.mapped.ip)) {
    return binding;
  }
  return { ...binding, local: binding.mapped }; // there is no NAT in between
}

/** An IPv6 address of a host whose IPv4 address cannot be reached: its own, or the one by which a NAT64 reaches it. */
async function otherAddress(
  network: Network,
  host: string,
  ip: string,
  { family, local, socket, signal }: StunBindingOptions,
): Promise<string | undefined> {
  const isFixed = family !== undefined || local !== undefined || socket !== undefined;
  if (isFixed || ipFamily(ip) === 6) return undefined;
  try {
    if (!isIp(host)) return (await network.resolve(host, 6, { signal }))[0];
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // otherwise it has none of its own
  }
  const [prefix] = await discoverNat64(network, { signal });
  return prefix && synthesizeIp(ip, prefix);
}

/** RFC 8489 §8.1. */
const STUN_PORT = 3478;
const STUNS_PORT = 5349;
