/**
 * Helpers for tests of the simulated internet.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, type NetworkErrorReason } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection, UdpSocket } from "../../lib/net/network.ts";
import type { Host, HostOptions } from "./host.ts";
import { Internet } from "./internet.ts";
import type { PacketEvent } from "./subnet.ts";

/** An internet with a default client, and a server with these options. */
export function twoHosts(
  serverOptions: HostOptions = {},
): { internet: Internet; client: Host; server: Host } {
  const internet = new Internet();
  const client = internet.host("client");
  return { internet, client, server: internet.host("server", serverOptions) };
}

/** A port of a host, at its first address. */
export function at(host: Host, port: number): TransportAddress {
  return { ip: host.addresses[0]!, port };
}

/** Both ends of a connection to port 80. */
export async function connected(
  client: Host,
  server: Host,
): Promise<[TcpConnection, TcpConnection]> {
  using listener = await server.network.listenTcp(at(server, 80));
  const connection = await client.network.connectTcp(at(server, 80));
  return [connection, await listener.accept()];
}

/** Whether a datagram arrives within a second. */
export async function arrives(socket: UdpSocket): Promise<boolean> {
  const signal = AbortSignal.timeout(1000);
  try {
    await socket.receive({ signal });
    return true;
  } catch (error) {
    if (error === signal.reason) return false;
    throw error;
  }
}

/** Reads this many bytes. */
export async function readText(connection: TcpConnection, length: number): Promise<string> {
  const buffer = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const read = await connection.read(buffer.subarray(filled));
    assert(read !== null, "the stream ended early");
    filled += read;
  }
  return toText(buffer);
}

/** Records which node sends which TCP flags, in order. */
export function recordFlags(internet: Internet): string[] {
  const flags: string[] = [];
  internet.onPacket = ({ at, what, packet }: PacketEvent) => {
    if (what !== "sent" || packet.protocol !== "tcp") return;
    const { syn, rst, fin, ack } = packet.tcpFlags;
    const names = [syn && "syn", rst && "rst", fin && "fin", ack && "ack"];
    flags.push(`${at} ${names.filter(Boolean).join("+")}`);
  };
  return flags;
}

/** Asserts that a call rejects with a {@linkcode NetworkError} of this reason. */
export async function assertNetworkError(
  reason: NetworkErrorReason,
  act: () => Promise<unknown>,
): Promise<void> {
  assertEquals((await assertRejects(act, NetworkError)).reason, reason);
}

export function toBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function toText(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
