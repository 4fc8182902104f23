/**
 * The client's side of TLS over a connection that is open already, such as a tunnel through a proxy.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { isIp } from "../address.ts";
import type { ConnectTlsOptions, TcpConnection } from "../network.ts";
import { INTERCEPTION_REMEDY, isUnknownIssuer } from "./platform.ts";
import { secureStream, TlsCarrier } from "./tls_stream.ts";
import tls from "node:tls";

/** As {@linkcode Network.startTls}. */
export async function startTls(
  connection: TcpConnection,
  { hostname, caCerts = [], signal }: ConnectTlsOptions,
): Promise<TcpConnection> {
  const cannot = `Cannot speak TLS with ${hostname}`;
  const carrier = new TlsCarrier(connection, cannot, MAX_HANDSHAKE_BYTES);
  const socket = tls.connect({
    socket: carrier,
    ...isIp(hostname) ? { host: hostname } : { servername: hostname },
    // They take the place of the platform's, which can only be listed with a permission of its own (--allow-sys=ca).
    ca: caCerts.length === 0 ? undefined : [...caCerts],
  });
  try {
    return await secureStream(socket, carrier, { event: "secureConnect", signal });
  } catch (error) {
    const cause = error instanceof NetworkError ? error.cause : undefined;
    if (!isUnknownIssuer(cause)) throw error;
    const message = `${cannot}: its certificate is of an unknown authority`;
    throw new NetworkError(message, "tls", { cause, remedy: INTERCEPTION_REMEDY });
  }
}

/** Chosen by us: a chain of certificates has less than 10 KiB, and proxies that make them up add one or two. */
const MAX_HANDSHAKE_BYTES = 65_536;
