/**
 * A host with IPv6 alone, behind a NAT64, in the simulated internet: at the seam to the network, since its routers translate
 * IPv4 alone.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { ipFamily, synthesizeIp, type TransportAddress, unwrapIp } from "../../lib/net/address.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import "../../lib/net/nat64_network.ts"; // loaded where it is needed, which virtual time does not wait for

/** The prefix of the NAT64. */
export const PREFIX = { ip: "2001:db8:64::", bits: 96 };

/** The address of the host. */
export const HOST_IP = "2001:db8:1::2";

/** A host with IPv6 alone, behind a NAT64 whose resolver tells its prefix. Beyond it is the given network, with IPv4. */
export function behindNat64(beyond: Network, { hasDns64 = true } = {}): Network {
  const out = ({ ip, port }: TransportAddress) => {
    if (ipFamily(ip) === 4) throw new NetworkError(`Cannot send to ${ip}`, "unreachable");
    return { ip: unwrapIp(ip, [PREFIX]), port };
  };
  const back = ({ ip, port }: TransportAddress) => ({ ip: synthesizeIp(ip, PREFIX), port });
  const here = ({ port }: TransportAddress) => ({ ip: "0.0.0.0", port });
  return {
    ...beyond,
    canReusePort: beyond.canReusePort,
    bindUdp: async (local) => {
      const socket = await beyond.bindUdp(here(local));
      return {
        local: { ip: local.ip, port: socket.local.port },
        // deno-lint-ignore require-await -- rejects where the synchronous call throws
        send: async (data, to) => socket.send(data, out(to)),
        receive: async (options) => {
          const { data, from } = await socket.receive(options);
          return { data, from: back(from) };
        },
        close: () => socket.close(),
        [Symbol.dispose]: () => socket.close(),
      };
    },
    connectTcp: async (remote, options) => {
      const local = options?.local && here(options.local);
      const connection = await beyond.connectTcp(out(remote), { ...options, local });
      return readdressed(connection, remote);
    },
    listenTcp: async (local, options) => {
      const listener = await beyond.listenTcp(here(local), options);
      return {
        local: { ip: local.ip, port: listener.local.port },
        accept: async (options) => {
          const connection = await listener.accept(options);
          return readdressed(connection, back(connection.remote));
        },
        close: () => listener.close(),
        [Symbol.dispose]: () => listener.close(),
      };
    },
    resolve: async (name, family, options) => {
      if (name === "ipv4only.arpa" && family === 6) {
        return [synthesizeIp("192.0.0.170", PREFIX)];
      }
      if (family === 6 && hasDns64) {
        return (await beyond.resolve(name, 4, options)).map((ip) => synthesizeIp(ip, PREFIX));
      }
      return await beyond.resolve(name, family, options);
    },
    localAddresses: () => Promise.resolve([{ interfaceName: "eth0", ip: HOST_IP }]),
    ownsAddress: (ip) => Promise.resolve(ip === HOST_IP),
  };
}

function readdressed(connection: TcpConnection, remote: TransportAddress): TcpConnection {
  const from: TransportAddress = { ip: HOST_IP, port: connection.local.port };
  return new Proxy(connection, {
    get: (target, name: keyof TcpConnection) => {
      if (name === "local") return from;
      if (name === "remote") return remote;
      const value = target[name];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** The NATs of two homes, the first a NAT64, and whether there is a direct path between them. */
export const NAT64_PAIRS = [
  ["portRestricted", "portRestricted", true],
  ["portRestricted", "fullCone", true],
  ["fullCone", "symmetric", true],
  ["symmetric", "fullCone", true],
  ["symmetric", "symmetric", false],
] as const;
