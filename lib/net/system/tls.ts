/**
 * TLS connections of the system, made by Deno.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { parseIp, type TransportAddress } from "../address.ts";
import { closeStream } from "../deno_conn.ts";
import type { ConnectTlsOptions, TcpConnection } from "../network.ts";
import {
  action,
  INTERCEPTION_REMEDY,
  isUnknownIssuer,
  requireNet,
  toNetworkError,
} from "./platform.ts";

/** As {@linkcode Network.connectTls}. */
export async function connectTls(
  remote: TransportAddress,
  options: ConnectTlsOptions,
): Promise<TcpConnection> {
  const { hostname, caCerts, signal } = options;
  requireNet(action("connect to", remote), remote.ip, remote.port);
  requireNet(action("connect to", remote), hostname, remote.port);
  signal?.throwIfAborted();
  let conn: Deno.Conn | undefined;
  const onAbort = () => conn && closeStream(conn);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    // Deno.connect takes no signal: an abort takes effect when it returns.
    const tcp = conn = await Deno.connect({ hostname: remote.ip, port: remote.port });
    signal?.throwIfAborted();
    // Otherwise the first request would wait for the acknowledgement of the handshake's last record: 40 ms on Linux.
    tcp.setNoDelay(true);
    const tls = conn = await Deno.startTls(tcp, { hostname, caCerts: [...caCerts ?? []] });
    await tls.handshake();
    return new TlsConnection(tls, remote);
  } catch (error) {
    if (conn) closeStream(conn);
    signal?.throwIfAborted();
    if (!isUnknownIssuer(error)) throw toNetworkError(action("connect to", remote), error);
    const message = `${
      action("connect to", remote)
    }: the certificate of ${hostname} is of an unknown authority`;
    throw new NetworkError(message, "tls", { cause: error, remedy: INTERCEPTION_REMEDY });
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

class TlsConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #conn: Deno.TlsConn;
  #closed = false;

  constructor(conn: Deno.TlsConn, remote: TransportAddress) {
    this.#conn = conn;
    const { hostname, port } = conn.localAddr as Deno.NetAddr;
    this.local = { ip: parseIp(hostname), port };
    this.remote = remote;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    try {
      return await this.#conn.read(buffer);
    } catch (error) {
      throw toNetworkError(action("read from", this.remote), error);
    }
  }

  async write(data: Uint8Array): Promise<number> {
    try {
      return await this.#conn.write(data);
    } catch (error) {
      throw toNetworkError(action("write to", this.remote), error);
    }
  }

  async closeWrite(): Promise<void> {
    await this.#conn.closeWrite();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeStream(this.#conn);
  }

  reset(): void {
    this.close(); // Deno offers no RST under TLS
  }

  ref(): void {
    refer(this.#conn, "ref");
  }

  unref(): void {
    refer(this.#conn, "unref");
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** TLS connections have these methods as well, although the types lack them. */
function refer(conn: Deno.Conn, how: "ref" | "unref"): void {
  const { [how]: apply } = conn as Partial<Pick<Deno.TcpConn, "ref" | "unref">>;
  apply?.call(conn);
}
