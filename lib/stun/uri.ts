/**
 * STUN URIs (RFC 7064), as ICE configurations write them, beside plain `HOST[:PORT]`.
 *
 * @module
 */

import { shownUrl } from "../base/login.ts";
import { parseHostPort } from "../net/address.ts";
import type { StunTransport } from "./transport.ts";

/** A STUN server as it was written. */
export interface StunServer {
  /** A name or an IP address. */
  readonly host: string;
  /** Default: 3478, or 5349 for `stuns`. */
  readonly port: number;
  /** What the URI asks for: `"tls"` for `stuns`; `undefined` if it leaves that open. */
  readonly transport: StunTransport | undefined;
}

/**
 * Reads `HOST[:PORT]`, `stun:HOST[:PORT]` or `stuns:HOST[:PORT]`. Many configurations add `?transport=udp` or
 * `?transport=tcp`, as in TURN URIs.
 *
 * @param defaultPort for what is not `stuns`. Default: 3478
 * @throws {TypeError} if it has another form, or asks for DTLS
 */
export function parseStunServer(text: string, defaultPort: number = STUN_PORT): StunServer {
  const parts = /^(stuns?):([^?/]*)(?:\?transport=(udp|tcp))?$/i.exec(text);
  if (parts === null) {
    if (/^stuns?:/i.test(text)) {
      throw invalid(text, "it must be stun:HOST[:PORT] or stuns:HOST[:PORT]");
    }
    return { ...parseHostPort(text, defaultPort), transport: undefined };
  }
  const [, scheme, target, transport] = parts as unknown as [string, string, string, string?];
  const isSecure = scheme.toLowerCase() === "stuns";
  const asked = transport?.toLowerCase() as "udp" | "tcp" | undefined;
  if (isSecure && asked === "udp") throw invalid(text, "DTLS is not supported; use TLS over TCP");
  const server = parseHostPort(target, isSecure ? STUNS_PORT : defaultPort);
  return { ...server, transport: isSecure ? "tls" : asked };
}

function invalid(text: string, rule: string): TypeError {
  return new TypeError(`Cannot use STUN server ${shownUrl(text)}: ${rule}`);
}

/** RFC 8489 §8.1. */
const STUN_PORT = 3478;
const STUNS_PORT = 5349;
