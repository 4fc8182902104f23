/**
 * Several protocols on one TCP port, told apart by what the client speaks first, as RFC 7983 does for UDP: TLS, STUN or
 * HTTP, and STUN or HTTP inside of TLS.
 *
 * @module
 */

import { UnreadConnection } from "./deno_conn.ts";
import type { TcpConnection, TlsAcceptor } from "./network.ts";

/** What a client speaks. */
export type SpokenProtocol = "stun" | "http";

/** A connection whose first bytes have told what it is for. */
export interface SortedConnection {
  readonly protocol: SpokenProtocol;
  /** Reads from the first byte on. */
  readonly connection: TcpConnection;
  /** Whether it is inside of TLS. */
  readonly isSecure: boolean;
}

/** How to sort connections. */
export interface SortOptions {
  /** Accepts TLS. Without it, a client that speaks TLS is one that speaks something else. */
  readonly tls?: TlsAcceptor;
  /** Called before a TLS handshake, which costs more than anything else here: `false` refuses it. */
  readonly admitTls?: () => Promise<boolean>;
  /** How long a handshake may take. For everything else, the caller closes the connection once it takes too long. */
  readonly handshakeMs: number;
}

/**
 * Waits for a client's first bytes, and completes its TLS handshake if it wants one.
 *
 * @param connection taken over
 * @returns `undefined` if the client has left, was refused, or speaks TLS to a port without TLS
 * @throws {NetworkError} as {@linkcode TlsAcceptor.accept}
 */
export async function sortConnection(
  connection: TcpConnection,
  { tls, admitTls, handshakeMs }: SortOptions,
): Promise<SortedConnection | undefined> {
  const outer = await unreadFirst(connection);
  if (outer === undefined) return undefined;
  if (outer.firstByte !== TLS_HANDSHAKE) {
    return { protocol: protocolOf(outer.firstByte), connection: outer.connection, isSecure: false };
  }
  if (tls === undefined || !await (admitTls?.() ?? true)) return void connection.reset();
  const inner = await unreadFirst(await tls.accept(outer.connection, handshakeMs));
  if (inner === undefined) return undefined;
  return { protocol: protocolOf(inner.firstByte), connection: inner.connection, isSecure: true };
}

/** What a first byte starts; the first two bits of STUN are zero (RFC 8489 §5). */
function protocolOf(firstByte: number): SpokenProtocol {
  return firstByte < 0x40 ? "stun" : "http";
}

/** Reads until there is a byte, and puts all back. */
async function unreadFirst(
  connection: TcpConnection,
): Promise<{ firstByte: number; connection: TcpConnection } | undefined> {
  const buffer = new Uint8Array(FIRST_READ_BYTES);
  const length = await connection.read(buffer);
  if (length === null) return void connection.close();
  const unread = new UnreadConnection(connection, buffer.slice(0, length));
  return { firstByte: buffer[0]!, connection: unread };
}

/** The first byte of a TLS record that carries a handshake (RFC 8446 §5.1). */
const TLS_HANDSHAKE = 0x16;

/** Chosen by us: the start of most requests, so that one read is enough. */
const FIRST_READ_BYTES = 1024;
