/**
 * Certificates for `localhost` and `127.0.0.1`, valid until 2126, and a client that trusts their authority.
 *
 * @module
 */

import type { Network, TcpConnection, TlsAcceptor } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";

/** The path of a file in `tests/fixtures/tls`. */
export function tlsFixture(name: string): string {
  return new URL(`../fixtures/tls/${name}`, import.meta.url).pathname;
}

/** The certificate authority, PEM. */
export const TEST_CA = Deno.readTextFileSync(tlsFixture("ca.pem"));

/** The system's network, for a client that trusts the authority. */
export const TRUSTING_NETWORK: Network = {
  ...systemNetwork,
  get canReusePort() {
    return systemNetwork.canReusePort;
  },
  connectTls: (remote, options) =>
    systemNetwork.connectTls(remote, { ...options, caCerts: [TEST_CA] }),
  startTls: (connection, options) =>
    systemNetwork.startTls!(connection, { ...options, caCerts: [TEST_CA] }),
};

/** Runs a job with one listener on loopback, and a way to dial it. */
export async function withListener(
  job: (place: {
    accept(): Promise<TcpConnection>;
    dial(): Promise<TcpConnection>;
    dialTls(): Promise<TcpConnection>;
  }) => Promise<void>,
): Promise<void> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  await job({
    accept: () => listener.accept(),
    dial: () => systemNetwork.connectTcp(listener.local),
    dialTls: () => TRUSTING_NETWORK.connectTls(listener.local, { hostname: "127.0.0.1" }),
  });
}

/** Both ends of a connection inside of TLS. */
export async function tlsPair(
  acceptor: TlsAcceptor,
  place: { accept(): Promise<TcpConnection>; dialTls(): Promise<TcpConnection> },
): Promise<[server: TcpConnection, client: TcpConnection]> {
  const server = place.accept().then((raw) => acceptor.accept(raw, 5000));
  return await Promise.all([server, place.dialTls()]);
}
