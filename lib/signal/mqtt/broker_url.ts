/**
 * Brokers by their URLs.
 *
 * @module
 */

/** Where a broker is, and how to be let in. */
export interface BrokerUrl {
  /** What carries MQTT. */
  readonly protocol: "tcp" | "tls" | "ws" | "wss";
  /** A name or an IP address. */
  readonly host: string;
  /** The one of the URL, or the usual one. */
  readonly port: number;
  /** Of a WebSocket. */
  readonly path: string;
  /** Who we are to the broker. */
  readonly username?: string;
  /** How we prove it. */
  readonly password?: string;
}

/**
 * Reads `mqtt://HOST`, `mqtts://USER:PASSWORD@HOST:PORT`, `mqtt+ws://HOST/PATH` or `mqtt+wss://HOST`.
 *
 * @throws {TypeError} if it is none of those
 */
export function parseBrokerUrl(text: string): BrokerUrl {
  const [, scheme, rest] = /^(mqtt|mqtts|mqtt\+ws|mqtt\+wss):\/\/(.+)$/.exec(text) ?? [];
  // For URL, an unknown scheme has neither a default port nor a host that is checked.
  const url = URL.parse(`http://${rest}`);
  if (scheme === undefined || url === null || url.hostname === "") {
    const shown = text.replace(/\/\/.*@/, "//...@"); // without the login
    throw new TypeError(
      `Cannot use broker ${shown}: URLs are mqtt://, mqtts://, mqtt+ws:// or mqtt+wss://, and a host`,
    );
  }
  const { protocol, defaultPort } = SCHEMES[scheme as keyof typeof SCHEMES];
  const [, given] = /^[^/?#]*:(\d+)(?:[/?#]|$)/.exec(rest!.replace(/^[^/?#]*@/, "")) ?? [];
  return {
    protocol,
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: given === undefined ? defaultPort : Number(given),
    path: url.pathname === "/" ? "/mqtt" : url.pathname + url.search,
    // A password without a name is none: MQTT 3.1.1 §3.1.2.9.
    ...(url.username !== "" || url.password !== "") && { username: decode(url.username) },
    ...url.password !== "" && { password: decode(url.password) },
  };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new TypeError("Cannot use broker: its login is not percent-encoded UTF-8", { cause });
  }
}

/** The ports are those of IANA, and of WebSocket. */
const SCHEMES = {
  mqtt: { protocol: "tcp", defaultPort: 1883 },
  mqtts: { protocol: "tls", defaultPort: 8883 },
  "mqtt+ws": { protocol: "ws", defaultPort: 80 },
  "mqtt+wss": { protocol: "wss", defaultPort: 443 },
} as const;
