/**
 * A session over Noise, without signaling: for benchmarks of two processes.
 *
 * @module
 */

import type { TcpConnection } from "../lib/net/network.ts";
import { generateKeyPair, KeyPair } from "../lib/noise/handshake.ts";
import { secureConnection } from "../lib/noise/secure_connection.ts";
import type { SessionRole } from "../lib/session/migration_engine.ts";
import { StreamSession } from "../lib/session/streams.ts";

/** Shakes hands, and runs a session over the connection. */
export async function overNoise(
  connection: TcpConnection,
  role: SessionRole,
): Promise<StreamSession> {
  const isInitiator = role === "controlling";
  const path = await secureConnection(connection, {
    pattern: "IK",
    role: isInitiator ? "initiator" : "responder",
    signal: AbortSignal.timeout(10_000),
    staticKey: isInitiator ? generateKeyPair() : RECEIVER_KEY,
    remoteStaticKey: isInitiator ? RECEIVER_KEY.publicKey : undefined,
  });
  const session = new StreamSession({ role });
  await session.attach(path);
  return session;
}

/** The same in both processes. */
const RECEIVER_KEY = new KeyPair(new Uint8Array(32).fill(0x42));
