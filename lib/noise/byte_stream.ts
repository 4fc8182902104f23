/**
 * The connections that can be secured: those of this library and those of Deno.
 *
 * @module
 */

import { parseIp, type TransportAddress } from "../net/address.ts";
import type { DenoAddress, DenoConnLike } from "../net/deno_conn.ts";
import type { TcpConnection } from "../net/network.ts";

/** A connection of this library, or a `Deno.Conn`. */
export type ByteStream = TcpConnection | DenoConnLike;

/**
 * The addresses of both ends of a connection.
 *
 * @throws {TypeError} if the connection is not between IP addresses
 */
export function addressesOf(
  stream: ByteStream,
): { local: TransportAddress; remote: TransportAddress } {
  if ("remote" in stream) return { local: stream.local, remote: stream.remote };
  return {
    local: toTransportAddress(stream.localAddr),
    remote: toTransportAddress(stream.remoteAddr),
  };
}

/** Resets the connection; closes one of Deno's, which cannot be reset. */
export function resetStream(stream: ByteStream): void {
  if ("reset" in stream) stream.reset();
  else stream.close();
}

function toTransportAddress({ transport, hostname, port }: DenoAddress): TransportAddress {
  if (hostname === undefined || port === undefined) {
    throw new TypeError(`Cannot secure a connection: ${transport} has no IP address and port`);
  }
  return { ip: parseIp(hostname), port };
}
