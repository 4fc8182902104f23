/**
 * Opens a WebSocket to a URL, over the seam.
 *
 * @module
 */

import { RefusedError } from "../base/errors.ts";
import { GiveUp } from "../base/timers.ts";
import { isIp, parseIp, type TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import {
  readHead,
  WebSocketConnection,
  type WebSocketLimits,
  writeAll,
} from "./websocket/connection.ts";
import { encodeUpgradeRequest, judgeUpgradeResponse } from "./websocket/handshake.ts";

/** How to open a WebSocket. */
export interface DialWebSocketOptions {
  /** Whose sockets to use. */
  readonly network: Network;
  /** What the socket takes and keeps. */
  readonly limits: WebSocketLimits;
  /** What is to be spoken, if that has a name (RFC 6455 §1.9). */
  readonly subprotocol?: string;
  /** Certificate authorities to trust beside the platform's, PEM; for `wss:`. */
  readonly caCerts?: readonly string[];
  /** Gives it up. */
  readonly signal?: AbortSignal;
}

/**
 * Opens a WebSocket.
 *
 * @throws {TypeError} if the URL is not of the scheme `ws` or `wss`
 * @throws {RefusedError} with the HTTP status if the server does not upgrade
 * @throws {MalformedMessageError} if it is no HTTP server
 * @throws {NetworkError} if it cannot be reached
 * @throws the signal's reason on abort
 */
export async function dialWebSocket(
  url: URL,
  options: DialWebSocketOptions,
): Promise<WebSocketConnection> {
  const { signal } = options;
  const connection = await connect(url, options);
  const onAbort = () => connection.reset();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    const first = await shakeHands(connection, url, options.subprotocol);
    return new WebSocketConnection(connection, { role: "client", first, limits: options.limits });
  } catch (error) {
    connection.reset();
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/** What came after the handshake. */
async function shakeHands(
  connection: TcpConnection,
  url: URL,
  subprotocol: string | undefined,
): Promise<Uint8Array> {
  const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
  const target = url.pathname + url.search;
  await writeAll(connection, encodeUpgradeRequest(url.host, target, key, subprotocol));
  const { head, rest } = await readHead(connection);
  const response = judgeUpgradeResponse(head, key, subprotocol);
  if (response.kind === "upgraded") return rest;
  const { status, reason } = response;
  throw new RefusedError(`Cannot open ${url}: the server says ${status} ${reason}`, status);
}

/** The addresses of a name are tried in turn; one that says nothing does not hold up the next for long. */
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
    using patience = new GiveUp(NEXT_ADDRESS_MS, signal);
    const options = { signal: isLast ? signal : patience.signal };
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

/** Ours: two lost SYNs. One of several addresses may be dead, and the next alive. */
const NEXT_ADDRESS_MS = 4000;

const DEFAULT_PORTS: Readonly<Record<string, number>> = { "ws:": 80, "wss:": 443 };
