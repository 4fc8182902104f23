/**
 * TURN URIs (RFC 7065).
 *
 * @module
 */

import { shownUrl } from "../base/login.ts";
import { parseHostPort } from "../net/address.ts";
import type { StunTransport } from "../stun/transport.ts";

/** The parts of a TURN URI (RFC 7065). */
export interface TurnServer {
  /** A name or an IP address. */
  readonly host: string;
  /** The port of the URI. Default: 3478, or 5349 for `turns`. */
  readonly port: number;
  /** The transport to the server. It is independent of what the server relays. */
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
 * @throws {TypeError} if it is not a TURN URI, or asks for DTLS (`turns` over UDP), which is not supported
 */
export function parseTurnUri(uri: string): TurnServer {
  if (uri.includes("@")) { // the message does not repeat the URI, which may hold a password
    throw new TypeError(
      "Cannot parse TURN URI: it contains an @; pass the username and the password as the credential",
    );
  }
  const parts = /^(turns?):([^?/@#]+)(?:\?transport=(.*))?$/i.exec(uri);
  if (parts === null) {
    throw new TypeError(
      `Cannot parse TURN URI: it must be turn:host[:port][?transport=udp|tcp] or turns:..., not ${
        shownUrl(uri)
      }`,
    );
  }
  const secure = parts[1]!.toLowerCase() === "turns";
  const { host, port } = parseHost(uri, parts[2]!, secure ? TURNS_PORT : TURN_PORT);
  return { host, port, transport: transportOf(uri, secure, parts[3]?.toLowerCase()) };
}

/** Its own error repeats the text, which may hold a password if the host was forgotten. */
function parseHost(uri: string, text: string, defaultPort: number): { host: string; port: number } {
  try {
    return parseHostPort(text, defaultPort);
  } catch {
    throw new TypeError(
      `Cannot parse TURN URI: ${shownUrl(uri)} has no valid host, or no valid port`,
    );
  }
}

function transportOf(uri: string, secure: boolean, transport?: string): StunTransport {
  if (transport !== undefined && transport !== "udp" && transport !== "tcp") {
    // The message does not repeat it: it may be a password in the wrong place.
    throw new TypeError("Cannot parse TURN URI: its transport must be udp or tcp");
  }
  if (!secure) return transport ?? "udp";
  if (transport !== "udp") return "tls";
  throw new TypeError(
    `Cannot use ${JSON.stringify(uri)}: it asks for DTLS; remove transport=udp to use TLS over TCP`,
  );
}

/** RFC 8656 §3.1. */
const TURN_PORT = 3478;
const TURNS_PORT = 5349;
