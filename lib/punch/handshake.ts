/**
 * The first bytes on a punched connection: both ends prove that they know the secret of the exchanged offers, and
 * the controlling one nominates a single connection. Whoever cannot prove it hears nothing more.
 *
 * ```text
 * both:         "PNC1" | HMAC-SHA256(secret, "hello " + role)          36 bytes
 * controlling:  HMAC-SHA256(secret, "nominate")                        32 bytes
 * ```
 *
 * The secret is not there to keep the content of the connection from anybody: that is for what runs over it. It
 * tells the peer from a stranger, and this punch from an earlier one.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { equalSecrets, hmac } from "../base/crypto.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import type { PunchOffer, PunchRole } from "./offer.ts";

/** Somebody answered who is not the peer, or is it in another meeting. */
export class StrangerError extends Error {
  override readonly name = "StrangerError";
}

/** What two offers have in common and nobody else has. */
export type PunchSecret = Uint8Array;

/** The secret of two offers, and of whatever else both sides know. */
export function punchSecret(a: PunchOffer, b: PunchOffer, shared: Uint8Array): PunchSecret {
  const [controlling, controlled] = a.role === "controlling" ? [a, b] : [b, a];
  return hmac("sha256", shared, text(`punchline ${controlling.key} ${controlled.key}`));
}

/** What follows from the secret, for those who want to bind something to this connection: 32 bytes. */
export function channelBinding(secret: PunchSecret): Uint8Array<ArrayBuffer> {
  return hmac("sha256", secret, text("channel binding"));
}

/**
 * Sends this side's proof and checks the other's.
 *
 * @throws {StrangerError} if the other end is not the peer, or ends the connection
 * @throws {NetworkError} if the connection breaks
 */
export async function proveBoth(
  connection: TcpConnection,
  secret: PunchSecret,
  role: PunchRole,
): Promise<void> {
  await writeAll(connection, hello(secret, role));
  const expected = hello(secret, role === "controlling" ? "controlled" : "controlling");
  await expect(connection, expected);
}

/** Tells the other side that this is the connection. */
export async function nominate(connection: TcpConnection, secret: PunchSecret): Promise<void> {
  await writeAll(connection, hmac("sha256", secret, text("nominate")));
}

/**
 * Waits to be told that this is the connection.
 *
 * @throws {StrangerError} if the other end says something else, or ends the connection
 * @throws {NetworkError} if the connection breaks
 */
export async function awaitNomination(
  connection: TcpConnection,
  secret: PunchSecret,
): Promise<void> {
  await expect(connection, hmac("sha256", secret, text("nominate")));
}

function hello(secret: PunchSecret, role: PunchRole): Uint8Array {
  return concat(text("PNC1"), hmac("sha256", secret, text(`hello ${role}`)));
}

/** Reads exactly as much as is expected, so that nothing of what follows is taken away. */
async function expect(connection: TcpConnection, expected: Uint8Array): Promise<void> {
  const received = new Uint8Array(expected.length);
  let length = 0;
  while (length < expected.length) {
    const count = await connection.read(received.subarray(length));
    if (count === null) throw strangerError(connection);
    length += count;
  }
  if (!equalSecrets(received, expected)) throw strangerError(connection);
}

async function writeAll(connection: TcpConnection, data: Uint8Array): Promise<void> {
  for (let written = 0; written < data.length;) {
    written += await connection.write(data.subarray(written));
  }
}

function strangerError(connection: TcpConnection): StrangerError {
  const remote = formatTransportAddress(connection.remote);
  return new StrangerError(`Cannot meet the peer at ${remote}: somebody else is there`);
}

function text(ascii: string): Uint8Array {
  return new TextEncoder().encode(ascii);
}
