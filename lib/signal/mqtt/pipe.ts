/**
 * What carries MQTT: TCP, TLS, or the binary messages of a WebSocket (MQTT 5.0 §6).
 *
 * @module
 */

import { NetworkError, RefusedError } from "../../base/errors.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import { resolveHost } from "../../net/resolve.ts";
import { writeAll } from "../../base/reader.ts";
import { CLOSE, dialWebSocket, type WebSocketConnection } from "../websocket/connection.ts";

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

/** Bytes to a broker and back. */
export interface BrokerPipe {
  /** What comes next, or `null` at the end. @throws {NetworkError} as the network fails */
  read(): Promise<Uint8Array | null>;
  /** Sends a packet, after those before it. @throws {NetworkError} as the network fails, or the broker does not read */
  write(packet: Uint8Array): Promise<void>;
  /** Ends it, once what was written is on its way; reading ends too then. */
  close(): Promise<void>;
  /** Ends it at once. */
  reset(): void;
}

/** How to reach a broker. */
export interface OpenPipeOptions {
  readonly network: Network;
  /** Certificate authorities to trust beside the platform's, PEM. */
  readonly caCerts?: readonly string[];
  readonly signal?: AbortSignal;
}

/**
 * Connects.
 *
 * @throws {NetworkError} if that fails
 * @throws {RefusedError} if the server speaks no WebSocket there
 */
export async function openPipe(
  { protocol, host, port, path }: BrokerUrl,
  { network, caCerts, signal }: OpenPipeOptions,
): Promise<BrokerPipe> {
  if (protocol === "ws" || protocol === "wss") {
    const url = new URL(`${protocol}://${host.includes(":") ? `[${host}]` : host}:${port}${path}`);
    const limits = { maxMessageBytes: MAX_MESSAGE_BYTES, maxQueuedBytes: MAX_QUEUED_BYTES };
    const options = { network, limits, subprotocol: "mqtt", caCerts, signal };
    return new WebSocketPipe(await dialWebSocket(url, options));
  }
  const remote = { ip: await resolveHost(network, host, { signal }), port };
  return new TcpPipe(
    protocol === "tls"
      ? await network.connectTls(remote, { hostname: host, caCerts, signal })
      : await network.connectTcp(remote, { signal }),
  );
}

class TcpPipe implements BrokerPipe {
  readonly #connection: TcpConnection;
  readonly #buffer = new Uint8Array(READ_BYTES);
  #writing: Promise<void> = Promise.resolve();
  #queuedBytes = 0;

  constructor(connection: TcpConnection) {
    this.#connection = connection;
  }

  async read(): Promise<Uint8Array | null> {
    const count = await this.#connection.read(this.#buffer);
    return count === null ? null : this.#buffer.slice(0, count);
  }

  async write(packet: Uint8Array): Promise<void> {
    if (this.#queuedBytes + packet.length > MAX_QUEUED_BYTES) throw deadline(this);
    this.#queuedBytes += packet.length;
    await (this.#writing = this.#writing.then(() => writeAll(this.#connection, packet)));
    this.#queuedBytes -= packet.length;
  }

  async close(): Promise<void> {
    try {
      await this.#writing;
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the broker has gone
    }
    this.#connection.close();
  }

  reset(): void {
    this.#connection.reset();
  }
}

class WebSocketPipe implements BrokerPipe {
  readonly #socket: WebSocketConnection;

  constructor(socket: WebSocketConnection) {
    this.#socket = socket;
  }

  async read(): Promise<Uint8Array | null> {
    for (;;) {
      const message = await this.#receive();
      if (message.kind === "binary") return message.data;
      if (message.kind === "close") {
        this.#socket.close(CLOSE.normal, "");
        await this.#socket.finish();
        return null;
      }
      if (message.kind === "ping") this.#socket.send("pong", message.data);
    }
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async write(packet: Uint8Array): Promise<void> {
    if (!this.#socket.send("binary", packet)) throw deadline(this);
  }

  // deno-lint-ignore require-await -- as above
  async close(): Promise<void> {
    this.#socket.close(CLOSE.normal, ""); // the broker says the same, and reading ends
  }

  reset(): void {
    this.#socket.abort();
  }

  async #receive() {
    try {
      return await this.#socket.receive();
    } catch (error) {
      this.#socket.abort();
      await this.#socket.finish();
      if (!(error instanceof RefusedError)) throw error;
      throw new NetworkError("Cannot read from the broker: a message is too long", "other", {
        cause: error,
      });
    }
  }
}

/** What is not read piles up here otherwise, and whoever made the broker say something made us answer. */
function deadline(pipe: BrokerPipe): NetworkError {
  pipe.reset();
  return new NetworkError("Cannot send to the broker: it reads too slowly", "other");
}

const READ_BYTES = 16_384;

/** Ours: several packets may share a message. */
const MAX_MESSAGE_BYTES = 65_536;

/** Ours: dozens of messages of the longest kind. */
const MAX_QUEUED_BYTES = 262_144;
