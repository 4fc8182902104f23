/**
 * What a connection has to be to be secured.
 *
 * @module
 */

import { parseIp, type TransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";

/** A connection of this library, or one of Deno. */
export type ByteStream = TcpConnection | DenoConn;

/** The part of a `Deno.Conn` that is needed here. */
export interface DenoConn {
  readonly localAddr: DenoAddress;
  readonly remoteAddr: DenoAddress;
  read(buffer: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  close(): void;
  ref?(): void;
  unref?(): void;
}

/** A `Deno.Addr`. */
export interface DenoAddress {
  readonly transport: string;
  readonly hostname?: string;
  readonly port?: number;
}

/**
 * The two ends of a connection.
 *
 * @throws {TypeError} if it is not one between IP addresses
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

/** Cuts the connection: with RST where that can be done. */
export function cut(stream: ByteStream): void {
  if ("reset" in stream) stream.reset();
  else stream.close();
}

function toTransportAddress({ transport, hostname, port }: DenoAddress): TransportAddress {
  if (hostname === undefined || port === undefined) {
    throw new TypeError(`Cannot secure a connection: ${transport} has no IP address and port`);
  }
  return { ip: parseIp(hostname), port };
}
