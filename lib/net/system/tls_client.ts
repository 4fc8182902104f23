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
  let secure: TcpConnection;
  try {
    secure = await secureStream(socket, carrier, { event: "secureConnect", signal });
  } catch (error) {
    const cause = error instanceof NetworkError ? error.cause : undefined;
    if (!isUnknownIssuer(cause)) throw error;
    // node:tls of Deno has one code for both.
    const message = `${cannot}: its certificate is of an unknown authority, or not valid now`;
    throw new NetworkError(message, "tls", { cause, remedy: INTERCEPTION_REMEDY });
  }
  if (isValidNow(socket.getPeerCertificate())) return secure;
  secure.reset();
  throw carrier.broken("its certificate has expired, or is not valid yet");
}

/** node:tls of Deno 2.9 does not look at the dates of X.509 version 1 certificates, which `openssl x509 -req` makes. */
function isValidNow({ valid_from, valid_to }: tls.PeerCertificate): boolean {
  const nowMs = Date.now();
  return Date.parse(valid_from) <= nowMs && nowMs <= Date.parse(valid_to);
}

/** Chosen by us: a chain of certificates has less than 10 KiB, and proxies that make them up add one or two. */
const MAX_HANDSHAKE_BYTES = 65_536;
