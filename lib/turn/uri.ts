/**
 * TURN URIs: RFC 7065.
 *
 * @module
 */

import { parseHostPort } from "../net/address.ts";
import type { StunTransport } from "../stun/transport.ts";

/** What a TURN URI says. */
export interface TurnServer {
  /** A name or an IP address. */
  readonly host: string;
  /** The URI's, or the scheme's: 3478, and 5349 for `turns`. */
  readonly port: number;
  /** How to talk to the server. What it relays is another matter. */
  readonly transport: StunTransport;
}

/**
 * Reads `turn:host`, `turn:host:3478?transport=tcp`, `turns:[2001:db8::1]:5349`.
 *
 * @example
 * ```ts
 * import { parseTurnUri } from "@punchline/punchline/turn";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(parseTurnUri("turn:turn.example.org?transport=tcp"), {
 *   host: "turn.example.org",
 *   port: 3478,
 *   transport: "tcp",
 * });
 * ```
 *
 * @throws {TypeError} if it is not a TURN URI, or asks for DTLS (`turns` over UDP), which is not spoken here
 */
export function parseTurnUri(uri: string): TurnServer {
  if (uri.includes("@")) { // it may hold a password: it is not repeated
    throw new TypeError(
      "Cannot parse TURN URI: there is an @ in it; the user and the password go into the credential",
    );
  }
  const parts = /^(turns?):([^?/@#]+)(?:\?transport=(.*))?$/i.exec(uri);
  if (parts === null) {
    throw new TypeError(
      `Cannot parse TURN URI: it is turn:host[:port][?transport=udp|tcp] or turns:..., not ${
        JSON.stringify(uri)
      }`,
    );
  }
  const secure = parts[1]!.toLowerCase() === "turns";
  const { host, port } = parseHostPort(parts[2]!, secure ? TURNS_PORT : TURN_PORT);
  return { host, port, transport: transportOf(uri, secure, parts[3]?.toLowerCase()) };
}

function transportOf(uri: string, secure: boolean, transport?: string): StunTransport {
  const cannot = `Cannot use ${JSON.stringify(uri)}`;
  if (transport !== undefined && transport !== "udp" && transport !== "tcp") {
    throw new TypeError(`${cannot}: the transport is udp or tcp, not ${JSON.stringify(transport)}`);
  }
  if (!secure) return transport ?? "udp";
  if (transport !== "udp") return "tls";
  throw new TypeError(`${cannot}: it asks for DTLS; leave out transport=udp to use TLS over TCP`);
}

/** RFC 8656 §3.1. */
const TURN_PORT = 3478;
const TURNS_PORT = 5349;
