/**
 * What TLS costs a server, on loopback: a handshake, both sides together, beside a plain connection; and a message there
 * and back.
 *
 * @module
 */

import type { TcpConnection, TcpListener } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { openTlsAcceptor } from "../lib/net/system/tls_server.ts";
import { tlsFixture, TRUSTING_NETWORK } from "../tests/net/tls_fixtures.ts";

const acceptor = await openTlsAcceptor({
  cert: tlsFixture("server.pem"),
  key: tlsFixture("server.key"),
});
const [plain, secure] = await Promise.all(
  [1, 2].map(() => systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 })),
) as [TcpListener, TcpListener];
echo(plain, (connection) => Promise.resolve(connection));
echo(secure, (connection) => acceptor.accept(connection, 5000));

const MESSAGE = new Uint8Array(200);

Deno.bench(
  "TCP: connect, a message there and back",
  { group: "connect", baseline: true },
  async () => {
    using connection = await systemNetwork.connectTcp(plain.local);
    await roundTrip(connection);
  },
);

Deno.bench("TLS: connect, a message there and back", { group: "connect" }, async () => {
  using connection = await TRUSTING_NETWORK.connectTls(secure.local, { hostname: "localhost" });
  await roundTrip(connection);
});

const open = await Promise.all([
  systemNetwork.connectTcp(plain.local),
  TRUSTING_NETWORK.connectTls(secure.local, { hostname: "localhost" }),
]);

Deno.bench("TCP: a message there and back", { group: "message", baseline: true }, async () => {
  await roundTrip(open[0]);
});

Deno.bench("TLS: a message there and back", { group: "message" }, async () => {
  await roundTrip(open[1]);
});

async function roundTrip(connection: TcpConnection): Promise<void> {
  await connection.write(MESSAGE);
  await connection.read(new Uint8Array(1000));
}

async function echo(
  listener: TcpListener,
  open: (connection: TcpConnection) => Promise<TcpConnection>,
): Promise<void> {
  for (;;) serve(await listener.accept());

  async function serve(raw: TcpConnection): Promise<void> {
    using connection = await open(raw);
    const buffer = new Uint8Array(1000);
    for (;;) {
      const length = await connection.read(buffer);
      if (length === null) return;
      await connection.write(buffer.subarray(0, length));
    }
  }
}
