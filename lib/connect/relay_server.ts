/**
 * TURN servers as users name them.
 *
 * @module
 */

import type { LongTermCredential } from "../stun/credentials.ts";
import { parseTurnUri } from "../turn/uri.ts";

/** A TURN server, and how to be let in. */
export interface RelayServer {
  /** `turn:host[:port]` or `turns:host[:port]`; streams take TCP or TLS, so `?transport=tcp` may be left out. */
  readonly url: string;
  /** Who is known to the server. */
  readonly credential?: LongTermCredential;
  /** Certificate authorities to trust beside the platform's, PEM. */
  readonly caCerts?: readonly string[];
}

/**
 * A server that relays streams, from a text as `turn:USER:PASSWORD@host:port`, or `turns:...`, in which a `:` or a `@`
 * of the user or the password is percent-encoded.
 *
 * @throws {TypeError} if it is none; the message repeats nothing that may be a password
 */
export function parseRelay(server: string | RelayServer): RelayServer {
  const { url: text, ...rest } = typeof server === "string" ? { url: server } : server;
  const parts = /^(turns?:)(?:([^:@/]+):([^:@]*)@)?([^@]*)$/i.exec(text);
  if (parts === null) {
    throw new TypeError(
      text.includes("@")
        ? "Cannot use relay: it is turn:USER:PASSWORD@HOST, with %3A for a : and %40 for an @ in user or password"
        : `Cannot use relay ${text}: it is turn:... or turns:...`,
    );
  }
  const [, scheme, username, password, target] = parts as unknown as string[];
  const plain = `${scheme}${target}`;
  const url = parseTurnUri(plain).transport === "udp" && !target!.includes("?")
    ? `${plain}?transport=tcp`
    : plain;
  if (parseTurnUri(url).transport === "udp") {
    throw new TypeError(`Cannot use relay ${url}: streams take transport=tcp`);
  }
  if (username === undefined) return { ...rest, url };
  return {
    ...rest,
    url,
    credential: { username: decode(username), password: decode(password!) },
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new TypeError("Cannot use relay: its user or password is not percent-encoded", { cause });
  }
}
