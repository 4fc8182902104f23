/**
 * A rendezvous server in the simulated internet, and clients that send it any bytes.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { MAX_SIGNAL_BYTES } from "../../lib/signal/channel.ts";
import {
  type RendezvousLimits,
  type RendezvousServer,
  serveRendezvous,
} from "../../lib/signal/rendezvous/server.ts";
import {
  openWebSocketChannel,
  type WebSocketChannel,
} from "../../lib/signal/rendezvous/channel.ts";
import { dialWebSocket } from "../../lib/signal/websocket/connection.ts";
import type { WebSocketConnection } from "../../lib/signal/websocket/connection.ts";
import { encodeWebSocketFrame } from "../../lib/signal/websocket/frame.ts";
import { webSocketTransport } from "../../lib/signal/rendezvous/transport.ts";
import { encodeUpgradeRequest } from "../../lib/signal/websocket/handshake.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";

/** One-way, of each client and of the server. */
export const LINK = { delayMs: 5 };

/** A server, and the means to reach it. */
export interface RendezvousPlace {
  readonly server: RendezvousServer;
  readonly internet: Internet;
  readonly time: VirtualTime;
  /** A new host each time. */
  newHost(): Host;
  /** Enters a room from a host of its own. */
  enter(room: string): Promise<WebSocketChannel>;
  /** Opens a WebSocket from a host of its own, for frames of any kind. */
  open(room: string): Promise<WebSocketConnection>;
  /** Dials the server from a host of its own. */
  dial(host?: Host): Promise<TcpConnection>;
}

/** Runs a job with a server, in virtual time; nothing may be left open. */
export async function withRendezvous(
  job: (place: RendezvousPlace) => Promise<void>,
  limits: Partial<RendezvousLimits> = {},
): Promise<void> {
  await simulate(async ({ internet, time }) => {
    const host = internet.host("server", { link: LINK });
    const local: TransportAddress = { ip: host.addresses[0]!, port: 3480 };
    await using server = await serveRendezvous({ network: host.network, local, limits });
    let hosts = 0;
    const newHost = () => internet.host(`client ${hosts++}`, { link: LINK });
    await job({
      server,
      internet,
      time,
      newHost,
      enter: (room) => openWebSocketChannel(server.url, room, { network: newHost().network }),
      open: (room) =>
        dialWebSocket(new URL(`${server.url}/${room}`), {
          network: newHost().network,
          limits: { maxMessageBytes: 100_000, maxQueuedBytes: 10_000_000 },
        }),
      dial: (client = newHost()) => client.network.connectTcp(local),
    });
  });
}

/** A signaling connection to the server, from a host of its own. */
export async function join({ server, newHost }: RendezvousPlace): Promise<SignalingConnection> {
  return await webSocketTransport(server.url).open({ network: newHost().network });
}

/** The next message of a topic. */
export async function next(signaling: SignalingConnection, topic: string): Promise<Uint8Array> {
  const received = Promise.withResolvers<Uint8Array>();
  await signaling.subscribe(topic, received.resolve);
  return await received.promise;
}

/** An upgrade request as the client sends it, with a fixed key. */
export function upgradeRequest(path: string): string {
  const key = "dGhlIHNhbXBsZSBub25jZQ==";
  return new TextDecoder().decode(encodeUpgradeRequest("203.0.113.1:3480", path, key));
}

/** Writes all of a text or of some bytes. */
export async function write(connection: TcpConnection, data: string | Uint8Array): Promise<void> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  await writeAll(connection, bytes);
}

/** Everything until the end of the stream, one character per byte. */
export async function readAll(connection: TcpConnection): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(4096);
  for (let length; (length = await connection.read(buffer)) !== null;) {
    text += String.fromCharCode(...buffer.subarray(0, length));
  }
  return text;
}

/** The longest message, as a client's frame. */
export function longestFrame(): Uint8Array {
  return encodeWebSocketFrame("binary", new Uint8Array(MAX_SIGNAL_BYTES), new Uint8Array(4));
}
