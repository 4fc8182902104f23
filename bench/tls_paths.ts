/**
 * Paths that the platform's TLS encrypts, with keys bound to those of a session as well as Deno's APIs allow.
 *
 * Either TLS is given both sides' certificates, which the session has authenticated: that is as strong as Noise, if TLS
 * accepts no other certificate. Or only the server has one, and the client proves itself inside of TLS with a secret of
 * the session: that is as strong only if no other server's certificate is accepted, because whoever receives the proof can
 * pass it on.
 *
 * @module
 */

import { equalSecrets } from "../lib/base/crypto.ts";
import { writeAll } from "../lib/base/reader.ts";
import type { TransportAddress } from "../lib/net/address.ts";
import { addressesOf } from "../lib/net/deno_conn.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { SocketReader } from "../lib/net/system/socket_reader.ts";
import { TlsCarrier } from "../lib/net/system/tls_stream.ts";
import type { Identity } from "./self_signed.ts";
import net from "node:net";
import tls from "node:tls";

/** What both sides know from their session. */
export interface TlsKeys {
  /** The name in both certificates. */
  readonly name: string;
  readonly own: Identity;
  /** The other side's certificate, PEM. */
  readonly remoteCert: string;
  /** 32 bytes, with which the client proves itself to a server that asks for no certificate. */
  readonly proof: Uint8Array;
}

/** Deno's client, which proves itself with the secret. */
export async function denoClient(conn: Deno.TcpConn, keys: TlsKeys): Promise<TcpConnection> {
  // No certificate of another server is excluded: these authorities are added to the platform's, and the certificate
  // that was accepted cannot be asked for.
  const secured = await Deno.startTls(conn, {
    hostname: keys.name,
    caCerts: [keys.remoteCert],
  });
  const connection = fromDeno(secured);
  await writeAll(connection, keys.proof);
  return connection;
}

/** The server's side of a connection, once the client has proved itself. */
export async function acceptProof(connection: TcpConnection, keys: TlsKeys): Promise<void> {
  const received = new Uint8Array(keys.proof.length);
  for (let length = 0; length < received.length;) {
    const more = await connection.read(received.subarray(length));
    if (more === null) throw new Error("Cannot accept: the client has not proved itself");
    length += more;
  }
  if (!equalSecrets(received, keys.proof)) throw new Error("Cannot accept: the proof is wrong");
}

/** One of Deno's own connections. */
export function fromDeno(conn: Deno.Conn): TcpConnection {
  const { local, remote } = addressesOf(conn as Deno.TcpConn);
  let isClosed = false;
  const close = () => {
    if (!isClosed) conn.close();
    isClosed = true;
  };
  return {
    local,
    remote,
    read: (buffer) => conn.read(buffer),
    write: async (data) => {
      await writeAll(conn, data);
      return data.length;
    },
    closeWrite: () => conn.closeWrite(),
    close,
    reset: close,
    [Symbol.dispose]: close,
  };
}

/** Either side of TLS with both certificates, over a socket of `node:net` or a connection of the library. */
export async function nodeTls(
  below: net.Socket | TcpConnection,
  role: "client" | "server",
  keys: TlsKeys,
): Promise<TcpConnection> {
  const carrier = below instanceof net.Socket
    ? below
    : new TlsCarrier(below, "Cannot speak TLS", Infinity);
  const { own: { cert, key }, remoteCert: ca, name } = keys;
  const context = { cert, key, ca: [ca], minVersion: "TLSv1.3" as const };
  const socket = role === "client"
    ? tls.connect({ ...context, socket: carrier, servername: name })
    : new tls.TLSSocket(carrier, {
      isServer: true,
      secureContext: tls.createSecureContext(context),
      requestCert: true,
      rejectUnauthorized: true,
    });
  await new Promise<void>((resolve, reject) => {
    socket.once(role === "client" ? "secureConnect" : "secure", resolve);
    socket.once("error", reject).once("close", () => reject(new Error("Cannot secure: closed")));
  });
  const found = (socket.getPeerCertificate().raw as Uint8Array | undefined)?.toBase64();
  if (found !== ca.replace(/-----[^-]+-----|\s/g, "")) {
    socket.destroy();
    throw new Error("Cannot secure: the certificate is not the one that the session has announced");
  }
  return new NodeTlsConnection(socket, endsOf(below));
}

class NodeTlsConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #socket: tls.TLSSocket;
  readonly #reader = new SocketReader();

  constructor(socket: tls.TLSSocket, { local, remote }: Pick<TcpConnection, "local" | "remote">) {
    this.local = local;
    this.remote = remote;
    this.#socket = socket;
    this.#reader.attach(socket, (error) => error ?? new Error("Cannot read: closed"));
    socket.on("data", (chunk: Uint8Array) => {
      if (!this.#reader.onread.callback(chunk.length, chunk)) socket.pause();
    });
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#reader.read(buffer);
  }

  async write(data: Uint8Array): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#socket.write(data, (error) => error ? reject(error) : resolve());
    });
    return data.length;
  }

  async closeWrite(): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.end(() => resolve()));
  }

  close(): void {
    this.#socket.destroy();
  }

  reset(): void {
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function endsOf(below: net.Socket | TcpConnection): Pick<TcpConnection, "local" | "remote"> {
  if (!(below instanceof net.Socket)) return below;
  return {
    local: { ip: below.localAddress!, port: below.localPort! },
    remote: { ip: below.remoteAddress!, port: below.remotePort! },
  };
}

/** Dials with `node:net`, as the library does. */
export async function dialSocket(port: number): Promise<net.Socket> {
  const socket = net.connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve).once("error", reject);
  });
  return socket;
}

/** Listens with `node:net`; returns the port. */
export async function listenSocket(onSocket: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, onSocket);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  return (server.address() as net.AddressInfo).port;
}
