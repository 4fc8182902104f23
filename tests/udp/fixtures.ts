/**
 * Two ends of a UDP path in a simulated internet.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import type { UdpSocket } from "../../lib/net/network.ts";
import { UdpDemultiplexer } from "../../lib/udp/demultiplexer.ts";
import { derivePathKeys } from "../../lib/udp/path_keys.ts";
import { UdpConnection, type UdpConnectionOptions } from "../../lib/udp/udp_connection.ts";
import type { Internet } from "../simnet/internet.ts";
import type { LinkBehavior } from "../simnet/link.ts";

/** Both ends; disposal resets them and closes their sockets. */
export interface UdpPair extends Disposable {
  readonly a: UdpConnection;
  readonly b: UdpConnection;
  readonly aSocket: UdpDemultiplexer;
  readonly bSocket: UdpDemultiplexer;
}

/** The secret of all paths in tests. */
export const SECRET: Uint8Array = new Uint8Array(32).fill(0x5e);

/** Connects two new hosts by links that behave like this. */
export async function udpPair(
  internet: Internet,
  link: LinkBehavior = {},
  options: Partial<UdpConnectionOptions> = {},
  name = "",
  { isDropped = () => false }: { isDropped?: (bytes: Uint8Array) => boolean } = {},
): Promise<UdpPair> {
  const hosts = [`a${name}`, `b${name}`].map((each) => internet.host(each, { link }));
  const sockets = await Promise.all(
    hosts.map((host) => host.network.bindUdp({ ip: host.addresses[0]!, port: 4000 })),
  );
  const [one, other] = sockets.map((socket) => dropping(socket, isDropped));
  return connectSockets(one!, other!, options);
}

/** Connects two sockets. */
export function connectSockets(
  one: UdpSocket,
  other: UdpSocket,
  options: Partial<UdpConnectionOptions> = {},
): UdpPair {
  const [aSocket, bSocket] = [new UdpDemultiplexer(one), new UdpDemultiplexer(other)];
  const open = (
    socket: UdpDemultiplexer,
    role: "controlling" | "controlled",
    remote: TransportAddress,
  ) => new UdpConnection(socket, { remote, keys: derivePathKeys(SECRET, role), ...options });
  const a = open(aSocket, "controlling", other.local);
  const b = open(bSocket, "controlled", one.local);
  const dispose = () => {
    a.reset();
    b.reset();
    aSocket.close();
    bSocket.close();
  };
  return { a, b, aSocket, bSocket, [Symbol.dispose]: dispose };
}

/** A socket that drops some of what it sends. */
function dropping(socket: UdpSocket, isDropped: (bytes: Uint8Array) => boolean): UdpSocket {
  const send = socket.send.bind(socket);
  socket.send = (data, to) => isDropped(data) ? Promise.resolve() : send(data, to);
  return socket;
}
