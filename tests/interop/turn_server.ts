/**
 * Coturn as a TURN server that relays to loopback, and common parts of the relay tests.
 *
 * @module
 */

import { systemNetwork } from "../../lib/net/system.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection, UdpSocket } from "../../lib/net/network.ts";
import type { StunTransport } from "../../lib/stun/transport.ts";
import {
  type OpenDatagramRelayOptions,
  openRelay,
  openStreamRelay,
  type OpenStreamRelayOptions,
} from "../../lib/turn/open_relay.ts";
import { type Coturn, type CoturnOptions, startCoturn } from "./coturn.ts";

/** The one user of the server. */
export const CREDENTIAL = { username: "someone", password: "secret" };

/** A port of loopback that the system chooses. */
export const LOOPBACK: TransportAddress = { ip: "127.0.0.1", port: 0 };

/** Starts coturn with one user, and with loopback peers allowed. */
export function startTurn({ args = [], ...options }: CoturnOptions = {}): Promise<Coturn> {
  const users = ["--lt-cred-mech", "-u", "someone:secret", "-r", "example.org"];
  return startCoturn({ ...options, args: ["--allow-loopback-peers", ...users, ...args] });
}

/** The URI of a server. */
export function uriOf(coturn: Coturn, transport: StunTransport): string {
  return transport === "tls"
    ? `turns:localhost:${coturn.tlsAddress.port}`
    : `turn:127.0.0.1:${coturn.address.port}?transport=${transport}`;
}

/** A relay for datagrams. */
export function datagrams(
  coturn: Coturn,
  { transport = "udp", ...options }: OpenDatagramRelayOptions & { transport?: StunTransport } = {},
): ReturnType<typeof openRelay> {
  const caCerts = [coturn.caCert];
  return openRelay(uriOf(coturn, transport), { credential: CREDENTIAL, caCerts, ...options });
}

/** A relay for byte streams. */
export function streams(
  coturn: Coturn,
  { transport = "tcp", ...options }: OpenStreamRelayOptions & { transport?: StunTransport } = {},
): ReturnType<typeof openStreamRelay> {
  const caCerts = [coturn.caCert];
  return openStreamRelay(uriOf(coturn, transport), { credential: CREDENTIAL, caCerts, ...options });
}

/** A peer that echoes datagrams. */
export async function startEcho(local = LOOPBACK): Promise<UdpSocket> {
  const socket = await systemNetwork.bindUdp(local);
  (async () => {
    while (true) {
      const { data, from } = await socket.receive();
      await socket.send(data, from);
    }
  })().catch(() => {}); // closed by the test
  return socket;
}

/** Sends a datagram and returns the reply as text. */
export async function echoed(
  socket: UdpSocket,
  to: TransportAddress,
  text: string,
): Promise<{ text: string; from: TransportAddress }> {
  await socket.send(new TextEncoder().encode(text), to);
  const { data, from } = await socket.receive({ signal: AbortSignal.timeout(5000) });
  return { text: new TextDecoder().decode(data), from };
}

/** Writes this many bytes, each of which depends on its position. */
export async function writePattern(connection: TcpConnection, length: number): Promise<void> {
  for (let written = 0; written < length;) {
    const chunk = Uint8Array.from(
      { length: Math.min(CHUNK, length - written) },
      (_, i) => patternAt(written + i),
    );
    for (let sent = 0; sent < chunk.length;) sent += await connection.write(chunk.subarray(sent));
    written += chunk.length;
  }
}

/** Reads this many bytes, and returns how many differ from what was written. */
export async function readPattern(connection: TcpConnection, length: number): Promise<number> {
  const buffer = new Uint8Array(CHUNK);
  let wrong = 0;
  for (let at = 0; at < length;) {
    const count = await connection.read(buffer.subarray(0, Math.min(CHUNK, length - at)));
    if (count === null) throw new Error(`Cannot read ${length} bytes: the stream ends at ${at}`);
    for (let i = 0; i < count; i++) if (buffer[i] !== patternAt(at + i)) wrong++;
    at += count;
  }
  return wrong;
}

function patternAt(index: number): number {
  return (index ^ (index >> 8) ^ (index >> 16)) & 0xff;
}

const CHUNK = 64 * 1024;
