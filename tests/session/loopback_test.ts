/**
 * Sessions over real TCP and Noise.
 *
 * @module
 */

import { assert } from "@std/assert";
import type { TcpConnection, TcpListener } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import { secureConnection } from "../../lib/noise/secure_connection.ts";
import { Session } from "../../lib/session/session.ts";

Deno.test("64 MiB arrive complete over secured connections that are cut and replaced", async () => {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  await using one = new Session({ role: "controlling", timeoutMs: 60_000 });
  await using other = new Session({ role: "controlled", timeoutMs: 60_000 });
  let path = await moveToNewPath(listener, one, other);
  const writing = (async () => {
    const data = new Uint8Array(65_536);
    for (let i = 0; i < WRITES; i++) {
      data.fill(i); // the session has taken the previous content
      data[0] = i >> 8;
      await one.write(data);
    }
    await one.closeWrite();
  })();
  const buffer = new Uint8Array(65_536);
  let received = 0;
  let isReplaced = false;
  for (let length; (length = await other.read(buffer)) !== null;) {
    for (let i = 0; i < length; i++) {
      const index = Math.floor((received + i) / 65_536);
      const expected = (received + i) % 65_536 === 0 ? index >> 8 : index & 0xff;
      if (buffer[i] !== expected) throw new Error(`byte ${received + i} is wrong`);
    }
    const movesBefore = Math.floor(received / MOVE_BYTES);
    received += length;
    if (Math.floor(received / MOVE_BYTES) === movesBefore) continue;
    if (isReplaced) path.reset(); // otherwise it is still open when the next one is attached
    isReplaced = !isReplaced;
    path = await moveToNewPath(listener, one, other);
  }
  await writing;
  await other.closeWrite();
  await Promise.all([one.finished, other.finished]);
  assert(received === WRITES * 65_536, `${received} bytes arrived`);
});

/** Attaches a new path. Returns the connection below it, at the controlling side. */
async function moveToNewPath(
  listener: TcpListener,
  one: Session,
  other: Session,
): Promise<TcpConnection> {
  const { signal } = new AbortController();
  const [client, server] = await Promise.all([
    systemNetwork.connectTcp(listener.local),
    listener.accept(),
  ]);
  const staticKey = generateKeyPair();
  const [a, b] = await Promise.all([
    secureConnection(client, {
      pattern: "NK",
      role: "initiator",
      remoteStaticKey: staticKey.publicKey,
      signal,
    }),
    secureConnection(server, { pattern: "NK", role: "responder", staticKey, signal }),
  ]);
  await Promise.all([one.attach(a), other.attach(b)]);
  return client;
}

const WRITES = 1024;
const MOVE_BYTES = 5_000_000;
