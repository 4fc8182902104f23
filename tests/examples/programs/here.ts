/**
 * The library as the README imports it, except that what it uses by default is on this machine: a rendezvous, a STUN server
 * and a router, in place of public ones and that of the network.
 *
 * @module
 */

import * as library from "../../../mod.ts";
import { openWebSocketChannel as openChannel } from "../../../lib/signal/mod.ts";

const [signaling, server, gateway] = Deno.env.get("HERE")!.split(" ") as [string, string, string];

export const Peer = {
  open: (options: library.PeerOptions = {}): Promise<library.Peer> =>
    library.Peer.open({ signaling: [signaling], servers: [server], mapPorts: false, ...options }),
};

export const testNat = (): Promise<library.NatReport> =>
  library.testNat({ servers: [server], families: [4] });

export const mapPort = (options: library.MapPortOptions): Promise<library.PortMapping> =>
  library.mapPort({ ...options, gateway });

export const punch = (options: library.PunchOptions): Promise<library.PunchedConn> =>
  library.punch({ ...options, servers: [server] });

export const openWebSocketChannel = (
  _url: string,
  room: string,
): ReturnType<typeof openChannel> => openChannel(signaling, room);
