/**
 * Whether the proxy that this host is set up to use connects to a server.
 *
 * @module
 */

import { loginOf } from "../base/login.ts";
import { formatTransportAddress, isIp } from "../net/address.ts";
import type { NamedHost } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import { resolveHost } from "../net/resolve.ts";
import type { ProxyFacts } from "./facts.ts";
import { askHttp } from "./http_head.ts";

/** A proxy that speaks HTTP. */
export interface HttpProxy extends NamedHost {
  /** `USER:PASSWORD`, or `""`. */
  readonly login: string;
}

/**
 * Reads the URL of a proxy, `http://[USER:PASSWORD@]HOST[:PORT]`.
 *
 * @throws {TypeError} if it is another; the message repeats nothing that may be a password
 */
export function parseProxy(url: string): HttpProxy {
  const text = url.includes("://") ? url : `http://${url}`;
  const parsed = URL.parse(text);
  if (parsed === null || parsed.protocol !== "http:" || parsed.hostname === "") {
    throw new TypeError(
      "Cannot use the proxy: write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT",
    );
  }
  const host = parsed.hostname.replace(/^\[(.*)\]$/, "$1");
  const login = loginOf(text, "Cannot use the proxy");
  return { host, port: parsed.port === "" ? HTTP_PORT : Number(parsed.port), login };
}

/** How a proxy is called: without its login. */
export function proxyName({ host, port }: HttpProxy): string {
  return isIp(host) ? formatTransportAddress({ ip: host, port }) : `${host}:${port}`;
}

/**
 * Asks a proxy for a connection to a server (RFC 9110 §9.3.6), and closes it.
 *
 * @throws {NetworkError} `name-not-found` if the proxy's name does not resolve
 * @throws the signal's reason on abort
 */
export async function probeProxy(
  network: Network,
  proxy: HttpProxy,
  server: NamedHost,
  signal: AbortSignal,
): Promise<ProxyFacts> {
  const ip = await resolveHost(network, proxy.host, { signal });
  const to = proxyName({ ...server, login: "" });
  const credential = btoa(String.fromCharCode(...new TextEncoder().encode(proxy.login)));
  const answer = await askHttp(network, { ip, port: proxy.port }, [
    `CONNECT ${to} HTTP/1.1`,
    `Host: ${to}`,
    ...proxy.login === "" ? [] : [`Proxy-Authorization: Basic ${credential}`],
  ], signal);
  const status = answer?.status ?? null;
  return { name: proxyName(proxy), answer: meaningOf(status), status };
}

function meaningOf(status: number | null): ProxyFacts["answer"] {
  if (status === null) return "is silent";
  if (status >= 200 && status < 300) return "connects";
  return status === LOGIN_REQUIRED ? "asks for a login" : "refuses";
}

const HTTP_PORT = 80;

/** RFC 9110 §15.5.8. */
const LOGIN_REQUIRED = 407;
