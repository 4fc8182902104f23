/**
 * Opens a WebSocket as a client: resolves the name, connects over TCP or TLS, and upgrades (RFC 6455 §4.1).
 *
 * @module
 */

import { RefusedError } from "../../base/errors.ts";
import { type BufferedReader, writeAll } from "../../base/reader.ts";
import { Deadline } from "../../base/timers.ts";
import { isIp, parseIp, type TransportAddress } from "../../net/address.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import {
  newHandshakeReader,
  readHead,
  WebSocketConnection,
  type WebSocketLimits,
} from "./connection.ts";
import { encodeUpgradeRequest, judgeUpgradeResponse } from "./handshake.ts";

/** How to open a WebSocket. */
export interface DialWebSocketOptions {
  /** The sockets to use. */
  readonly network: Network;
  /** How much memory the socket may take. */
  readonly limits: WebSocketLimits;
  /** The name of the protocol on top, if it has one (RFC 6455 §1.9). */
  readonly subprotocol?: string;
  /** Certificate authorities to trust beside the platform's, PEM; for `wss:`. */
  readonly caCerts?: readonly string[];
  /** Aborts the opening. */
  readonly signal?: AbortSignal;
}

/**
 * Opens a WebSocket.
 *
 * @throws {TypeError} if the URL's scheme is not `ws` or `wss`
 * @throws {RefusedError} with the HTTP status if the server does not upgrade
 * @throws {MalformedMessageError} if the server does not speak HTTP
 * @throws {NetworkError} if the server cannot be reached
 * @throws the signal's reason on abort
 */
export async function dialWebSocket(
  url: URL,
  options: DialWebSocketOptions,
): Promise<WebSocketConnection> {
  const { signal, limits } = options;
  const connection = await connect(url, options);
  const onAbort = () => connection.reset();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    const reader = await upgrade(connection, url, options.subprotocol);
    return new WebSocketConnection(connection, { role: "client", reader, limits });
  } catch (error) {
    connection.reset();
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/** The reader that has read the handshake. */
async function upgrade(
  connection: TcpConnection,
  url: URL,
  subprotocol: string | undefined,
): Promise<BufferedReader> {
  const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
  const target = url.pathname + url.search;
  await writeAll(connection, encodeUpgradeRequest(url.host, target, key, subprotocol));
  const reader = newHandshakeReader(connection);
  const response = judgeUpgradeResponse(await readHead(connection, reader), key, subprotocol);
  if (response.kind === "upgraded") return reader;
  const { status, reason } = response;
  throw new RefusedError(`Cannot open ${url}: the server answered ${status} ${reason}`, status);
}

/** Tries the addresses of the name in turn. One that does not answer does not hold up the next for long. */
async function connect(
  url: URL,
  { network, caCerts, signal }: DialWebSocketOptions,
): Promise<TcpConnection> {
  const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port === "" ? DEFAULT_PORTS[url.protocol] : Number(url.port);
  if (port === undefined) throw new TypeError(`Cannot open ${url}: a WebSocket is ws: or wss:`);
  const isSecure = url.protocol === "wss:";
  const addresses = await addressesOf(hostname, { network, signal });
  let failure: unknown;
  for (const [index, ip] of addresses.entries()) {
    const remote: TransportAddress = { ip, port };
    const isLast = index === addresses.length - 1;
    using deadline = new Deadline(NEXT_ADDRESS_MS, signal);
    const options = { signal: isLast ? signal : deadline.signal };
    try {
      return await (isSecure
        ? network.connectTls(remote, { hostname, caCerts, ...options })
        : network.connectTcp(remote, options));
    } catch (error) {
      signal?.throwIfAborted();
      failure = error;
    }
  }
  throw failure;
}

/** IPv4 first. */
async function addressesOf(
  hostname: string,
  { network, signal }: Pick<DialWebSocketOptions, "network" | "signal">,
): Promise<string[]> {
  if (isIp(hostname)) return [parseIp(hostname)];
  const found = await Promise.allSettled(
    ([4, 6] as const).map((family) => network.resolve(hostname, family, { signal })),
  );
  signal?.throwIfAborted();
  const addresses = found.flatMap((each) => each.status === "fulfilled" ? each.value : []);
  if (addresses.length > 0) return addresses;
  throw found[0]!.status === "rejected" ? found[0]!.reason : new Error("no address");
}

/** Chosen by us: two lost SYNs. One of several addresses may be dead, and the next one alive. */
const NEXT_ADDRESS_MS = 4000;

const DEFAULT_PORTS: Readonly<Record<string, number>> = { "ws:": 80, "wss:": 443 };
