/**
 * What carries MQTT: TCP, TLS, or the binary messages of a WebSocket (MQTT 5.0 §6).
 *
 * @module
 */

import { NetworkError, RefusedError } from "../../base/errors.ts";
import { decodeLogin, shownUrl } from "../../base/login.ts";
import { type ByteSource, writeAll } from "../../base/reader.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import { withHostAddress } from "../../net/resolve.ts";
import {
  CLOSE_CODES,
  dialWebSocket,
  type WebSocketConnection,
  type WebSocketMessage,
} from "../websocket/connection.ts";

/** A broker's address, and the login. */
export interface BrokerUrl {
  /** What carries MQTT. */
  readonly protocol: "tcp" | "tls" | "ws" | "wss";
  /** A name or an IP address. */
  readonly host: string;
  /** The port in the URL, or the default port of its scheme. */
  readonly port: number;
  /** The path of a WebSocket, with its query. */
  readonly path: string;
  /** The login, percent-decoded. */
  readonly username?: string;
  /** The login, percent-decoded. */
  readonly password?: string;
}

/**
 * Reads `mqtt://HOST`, `mqtts://USER:PASSWORD@HOST:PORT`, `mqtt+ws://HOST/PATH` or `mqtt+wss://HOST`.
 *
 * @throws {TypeError} if the URL has another form; the message does not show the login
 *
 * @example
 * ```ts
 * import { parseBrokerUrl } from "./pipe.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const { protocol, port } = parseBrokerUrl("mqtts://broker.example");
 * assertEquals([protocol, port], ["tls", 8883]);
 * ```
 */
export function parseBrokerUrl(text: string): BrokerUrl {
  const [, scheme, rest] = /^(mqtt|mqtts|mqtt\+ws|mqtt\+wss):\/\/(.+)$/.exec(text) ?? [];
  // `URL` neither knows the default ports of unknown schemes nor checks their hosts.
  const url = URL.parse(`http://${rest}`);
  if (scheme === undefined || url === null || url.hostname === "") {
    throw new TypeError(
      `Cannot use broker ${
        shownUrl(text)
      }: use mqtt://, mqtts://, mqtt+ws:// or mqtt+wss://, and a host`,
    );
  }
  const { protocol, defaultPort } = SCHEMES[scheme as keyof typeof SCHEMES];
  const [, port] = /^[^/?#]*:(\d+)(?:[/?#]|$)/.exec(rest!.replace(/^[^/?#]*@/, "")) ?? [];
  const hasPassword = url.password !== "";
  // A password needs a user name, if only an empty one: MQTT 3.1.1 §3.1.2.9.
  const hasUsername = url.username !== "" || hasPassword;
  return {
    protocol,
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: port === undefined ? defaultPort : Number(port),
    path: url.pathname === "/" ? "/mqtt" : url.pathname + url.search,
    username: hasUsername ? decodeLogin(url.username, CANNOT) : undefined,
    password: hasPassword ? decodeLogin(url.password, CANNOT) : undefined,
  };
}

/** A byte stream to a broker and back. */
export interface BrokerPipe extends ByteSource {
  /**
   * Fills part of the buffer; how much, or `null` at the end.
   *
   * @throws {NetworkError} if the connection fails
   */
  read(buffer: Uint8Array): Promise<number | null>;
  /**
   * Sends a packet, after those before it.
   *
   * @throws {NetworkError} if the connection fails, or the broker does not read
   */
  write(packet: Uint8Array): Promise<void>;
  /** Ends the stream once everything written is on its way; reading ends too then. */
  close(): Promise<void>;
  /** Ends the stream at once. */
  reset(): void;
}

/** How to reach a broker. */
export interface OpenPipeOptions {
  readonly network: Network;
  /** Certificate authorities to trust in addition to the platform's, PEM. */
  readonly caCerts?: readonly string[];
  readonly signal?: AbortSignal;
}

/**
 * Connects to a broker.
 *
 * @throws {NetworkError} if it cannot be reached
 * @throws {RefusedError} if the server does not accept a WebSocket at the path
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
  const connect = (ip: string) =>
    protocol === "tls"
      ? network.connectTls({ ip, port }, { hostname: host, caCerts, signal })
      : network.connectTcp({ ip, port }, { signal });
  return new TcpPipe(await withHostAddress(network, host, { signal }, connect));
}

class TcpPipe implements BrokerPipe {
  readonly #connection: TcpConnection;
  #writing: Promise<void> = Promise.resolve();
  #queuedBytes = 0;

  constructor(connection: TcpConnection) {
    this.#connection = connection;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#connection.read(buffer);
  }

  async write(packet: Uint8Array): Promise<void> {
    if (this.#queuedBytes + packet.length > MAX_QUEUED_BYTES) throw dropSlowBroker(this);
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
  /** What was received and not read. */
  #unread: Uint8Array = new Uint8Array(0);

  constructor(socket: WebSocketConnection) {
    this.#socket = socket;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    while (this.#unread.length === 0) {
      const message = await this.#receive();
      if (message.kind === "binary") this.#unread = message.data;
      if (message.kind === "ping") this.#socket.send("pong", message.data);
      if (message.kind === "close") {
        this.#socket.close(CLOSE_CODES.normal, "");
        await this.#socket.finish();
        return null;
      }
    }
    const part = this.#unread.subarray(0, buffer.length);
    buffer.set(part);
    this.#unread = this.#unread.subarray(part.length);
    return part.length;
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async write(packet: Uint8Array): Promise<void> {
    if (!this.#socket.send("binary", packet)) throw dropSlowBroker(this);
  }

  // deno-lint-ignore require-await -- as above
  async close(): Promise<void> {
    this.#socket.close(CLOSE_CODES.normal, ""); // the broker closes too, which ends reading
  }

  reset(): void {
    this.#socket.abort();
  }

  async #receive(): Promise<WebSocketMessage> {
    try {
      return await this.#socket.receive();
    } catch (error) {
      this.#socket.abort();
      await this.#socket.finish();
      if (!(error instanceof RefusedError)) throw error;
      throw new NetworkError("Cannot read from the broker: a message is too long", "other", {
        cause: error,
        remedy: "Use another broker",
      });
    }
  }
}

/** Without a limit, anyone who provokes answers could fill this side's memory. */
function dropSlowBroker(pipe: BrokerPipe): NetworkError {
  pipe.reset();
  const remedy = "Try later, or another broker";
  return new NetworkError("Cannot send to the broker: it reads too slowly", "other", { remedy });
}

/** The ports that IANA assigned to MQTT, and the default ports of WebSocket. */
const SCHEMES = {
  mqtt: { protocol: "tcp", defaultPort: 1883 },
  mqtts: { protocol: "tls", defaultPort: 8883 },
  "mqtt+ws": { protocol: "ws", defaultPort: 80 },
  "mqtt+wss": { protocol: "wss", defaultPort: 443 },
} as const;

/** Chosen by us: several packets may share a message. */
const MAX_MESSAGE_BYTES = 65_536;

/** Chosen by us: dozens of the longest messages. */
const MAX_QUEUED_BYTES = 262_144;

const CANNOT = "Cannot use broker";
