/**
 * Both sides of a nomination and connections between them, for tests.
 *
 * @module
 */

import type { TcpConnection } from "../../lib/net/network.ts";
import { Nomination, type NominationOutcome } from "../../lib/punch/nomination.ts";
import type { PunchRole } from "../../lib/punch/offer.ts";
import { connected } from "../simnet/fixtures.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";

/** What a test gets. */
export interface NominationPlace {
  readonly internet: Internet;
  readonly a: Host;
  readonly b: Host;
  /** Both ends of a new connection between them. */
  connect(): Promise<[TcpConnection, TcpConnection]>;
  /** One side, which waits {@linkcode TIMEOUT_MS} for a proof. */
  nomination(role: PunchRole, secret?: Uint8Array): Nomination;
}

/** Runs a test in virtual time, with 20 ms from one host to the other. */
export async function meet(test: (place: NominationPlace) => Promise<void>): Promise<void> {
  await simulate(async ({ internet }) => {
    const link = { delayMs: 10 };
    const [a, b] = [internet.host("a", { link }), internet.host("b", { link })];
    await test({
      internet,
      a,
      b,
      connect: () => connected(a, b),
      nomination: (role, secret = SECRET) => new Nomination(role, secret, TIMEOUT_MS),
    });
  });
}

/** Adds the ends of one connection to both sides. */
export async function addBoth(
  [mine, theirs]: readonly [TcpConnection, TcpConnection],
  [controlling, controlled]: readonly [Nomination, Nomination],
): Promise<[NominationOutcome, NominationOutcome]> {
  return await Promise.all([controlling.add(mine), controlled.add(theirs)]);
}

/** Everything that the other end sends until it ends or resets the connection. */
export async function readAll(connection: TcpConnection): Promise<Uint8Array> {
  const received: number[] = [];
  const buffer = new Uint8Array(256);
  try {
    for (;;) {
      const count = await connection.read(buffer);
      if (count === null) break;
      received.push(...buffer.subarray(0, count));
    }
  } catch { /* reset */ }
  return Uint8Array.from(received);
}

/** Exactly `length` bytes. */
export async function readExactly(connection: TcpConnection, length: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = await connection.read(buffer.subarray(filled));
    if (count === null) throw new Error("the stream ended early");
    filled += count;
  }
  return buffer;
}

export const SECRET = new TextEncoder().encode("the secret of two offers");
export const TIMEOUT_MS = 4000;
export const HELLO_BYTES = 64;
export const NOMINATION_BYTES = 32;
