/**
 * A network whose TCP and TLS connections go through a proxy, HTTP or SOCKS5, which looks up their names too.
 *
 * @module
 */

import {
  MalformedMessageError,
  messageOf,
  NetworkError,
  type NetworkErrorReason,
  PunchlineError,
} from "../../base/errors.ts";
import { decodeLogin, shownUrl } from "../../base/login.ts";
import { BufferedReader, writeAll } from "../../base/reader.ts";
import { Deadline } from "../../base/timers.ts";
import { formatTransportAddress, ipFamily, isIp, type TransportAddress } from "../address.ts";
import { UnreadConnection } from "../deno_conn.ts";
import type { ConnectTlsOptions, Network, TcpConnection } from "../network.ts";
import { networkWith } from "../local_address.ts";
import { resolveHost } from "../resolve.ts";
import {
  type ConnectAnswer,
  decodeConnectAnswer,
  type Decoded,
  decodeSocksAnswer,
  decodeSocksLoginAnswer,
  decodeSocksMethod,
  encodeConnect,
  encodeSocksConnect,
  encodeSocksGreeting,
  encodeSocksLogin,
  MAX_ANSWER_BYTES,
  type ProxyLogin,
  type ProxyTarget,
} from "./message.ts";
import { directHosts } from "./no_proxy.ts";

/** A proxy, and what goes around it. */
export interface ProxyOptions {
  /** `http://`, `https://` or `socks5://`, with `USER:PASSWORD@` if it wants a login, `HOST` and `:PORT`. */
  readonly url: string;
  /** Hosts that are reached without it, as in `NO_PROXY`. Loopback always is. Default: no others. */
  readonly noProxy?: string;
}

/** A proxy that is in use. */
export interface Proxy {
  /** Without its login: `http://192.0.2.1:3128`. */
  readonly url: string;
  /** The network for connections to a host: through the proxy, or the one below it. */
  networkFor(host: string): Network;
  /** A text in which names stand for the addresses that {@linkcode Network.resolve} made up for them. */
  withNames(text: string): string;
}

/**
 * Opens a way through a proxy. Nothing is sent yet.
 *
 * Names are looked up by the proxy. So that everything above can go on with addresses, each name gets an address that no
 * host has, and a connection to that address becomes one to the name.
 *
 * @param network what the proxy is reached over
 * @throws {TypeError} if the URL is not one of a proxy; the message does not show the login
 *
 * @example
 * ```ts
 * import { throughProxy } from "./client.ts";
 * import { systemNetwork } from "../system.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const proxy = throughProxy(systemNetwork, { url: "http://me:secret@192.0.2.1:3128" });
 * assertEquals(proxy.url, "http://192.0.2.1:3128");
 * assertEquals(proxy.networkFor("localhost") === systemNetwork, true);
 * ```
 */
export function throughProxy(network: Network, { url, noProxy }: ProxyOptions): Proxy {
  const server = parseProxyUrl(url);
  const goesDirect = directHosts(noProxy);
  const names = new StandInNames();
  const targetOf = ({ ip, port }: TransportAddress) => ({ host: names.nameOf(ip) ?? ip, port });
  /** Where the target is, if the proxy does not reach it. */
  const directly = async (remote: TransportAddress, signal: AbortSignal | undefined) => {
    const { host, port } = targetOf(remote);
    if (!goesDirect(host)) return undefined;
    return { ip: await resolveHost(network, host, { signal }), port };
  };
  const proxied = networkWith(network, {
    connectTcp: async (remote, { signal } = {}) => {
      const direct = await directly(remote, signal);
      if (direct !== undefined) return await network.connectTcp(direct, { signal });
      return await openTunnel(network, server, targetOf(remote), signal);
    },
    connectTls: async (remote, options) => {
      const { signal } = options;
      const direct = await directly(remote, signal);
      if (direct !== undefined) return await network.connectTls(direct, options);
      const tunnel = await openTunnel(network, server, targetOf(remote), signal);
      return await startTls(network, tunnel, options, server);
    },
    // deno-lint-ignore require-await -- rejects where the synchronous call throws
    resolve: async (hostname, family) => {
      if (isIp(hostname) && ipFamily(hostname) === family) return [hostname];
      if (!isIp(hostname) && family === 4) return [names.standInFor(hostname)];
      const message = `Cannot resolve ${hostname} to an IPv${family} address: a proxy does that`;
      throw new NetworkError(message, "name-not-found");
    },
  });
  return {
    url: urlOf(server),
    networkFor: (host) => goesDirect(host) ? network : proxied,
    withNames: (text) => names.replaceIn(text),
  };
}

/**
 * Checks that a text is the URL of a proxy.
 *
 * @returns the text, unchanged
 * @throws {TypeError} if it is not; the message does not show the login
 */
export function requireProxyUrl(text: string): string {
  parseProxyUrl(text);
  return text;
}

/** A proxy, as its URL names it. */
interface ProxyServer {
  readonly protocol: keyof typeof DEFAULT_PORTS;
  readonly host: string;
  readonly port: number;
  readonly login: ProxyLogin | undefined;
}

function parseProxyUrl(text: string): ProxyServer {
  const [, scheme, rest] = /^(?:([a-z0-9]+):\/\/)?([^\s\\]+)$/i.exec(text) ?? [];
  const protocol = PROTOCOLS.get(scheme?.toLowerCase() ?? "http");
  // `URL` hides the default ports of the schemes that it knows, and checks the hosts of no others.
  const url = URL.parse(`http://${rest}`);
  const isPlain = url !== null && url.hostname !== "" && /^\/?$/.test(url.pathname) &&
    url.search === "" && url.hash === "";
  // Without a scheme, what is before an @ may be a login or a misspelt scheme.
  const isWhole = scheme !== undefined || !text.includes("@");
  if (protocol === undefined || !isPlain || !isWhole) {
    throw new TypeError(
      `Cannot use the proxy ${
        shownUrl(text)
      }: use http://, https:// or socks5://, a host and a port`,
    );
  }
  const [, port] = /:(\d+)\/?$/.exec(rest!.replace(/^.*@/, "")) ?? [];
  const cannot = "Cannot use the proxy";
  const login = {
    username: decodeLogin(url.username, cannot),
    password: decodeLogin(url.password, cannot),
  };
  return {
    protocol,
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: port === undefined ? DEFAULT_PORTS[protocol] : Number(port),
    login: login.username === "" && login.password === "" ? undefined : login,
  };
}

function urlOf({ protocol, host, port }: ProxyServer): string {
  return `${protocol}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** A connection to the target. Whatever the proxy does, it ends in time. */
async function openTunnel(
  network: Network,
  server: ProxyServer,
  target: ProxyTarget,
  signal: AbortSignal | undefined,
): Promise<TcpConnection> {
  using deadline = new Deadline(TUNNEL_MS, signal);
  const connection = await connectToProxy(network, server, deadline.signal, signal);
  const onAbort = () => connection.reset();
  deadline.signal.addEventListener("abort", onAbort, { once: true });
  try {
    deadline.signal.throwIfAborted();
    const dialogue = new Dialogue(connection);
    if (server.protocol === "socks5") await askSocks(dialogue, server, target);
    else await askHttp(dialogue, server, target);
    deadline.signal.throwIfAborted();
    return new UnreadConnection(connection, dialogue.rest);
  } catch (error) {
    connection.reset();
    signal?.throwIfAborted();
    if (deadline.signal.aborted) {
      throw failed(server, target, `no answer in ${TUNNEL_MS / 1000} s`, "timed-out");
    }
    if (error instanceof MalformedMessageError) {
      const why = messageOf(error).replace(/^Cannot read the answer of the proxy: /, "");
      throw failed(server, target, why, "proxy", { cause: error, remedy: OTHER_PROTOCOL });
    }
    if (error instanceof RangeError) throw failed(server, target, messageOf(error), "proxy");
    if (error instanceof NetworkError && error.reason === "reset") {
      throw failed(server, target, "it closed the connection without an answer", "reset", {
        cause: error,
        remedy: OTHER_PROTOCOL,
      });
    }
    throw error;
  } finally {
    deadline.signal.removeEventListener("abort", onAbort);
  }
}

async function connectToProxy(
  network: Network,
  server: ProxyServer,
  either: AbortSignal,
  signal: AbortSignal | undefined,
): Promise<TcpConnection> {
  const { protocol, host: hostname, port } = server;
  try {
    const remote = { ip: await resolveHost(network, hostname, { signal: either }), port };
    return await (protocol === "https"
      ? network.connectTls(remote, { hostname, signal: either })
      : network.connectTcp(remote, { signal: either }));
  } catch (error) {
    signal?.throwIfAborted();
    const isLate = either.aborted;
    const why = isLate ? "it does not accept the connection" : messageOf(error);
    const reason = error instanceof NetworkError ? error.reason : isLate ? "timed-out" : "other";
    throw new NetworkError(`Cannot reach the proxy ${urlOf(server)}: ${why}`, reason, {
      cause: error,
      remedy: "Check the address and the port of the proxy, and that it runs",
    });
  }
}

async function startTls(
  network: Network,
  tunnel: TcpConnection,
  options: ConnectTlsOptions,
  server: ProxyServer,
): Promise<TcpConnection> {
  if (network.startTls === undefined) {
    tunnel.reset();
    throw new NetworkError("Cannot speak TLS through a proxy: the network has no startTls", "tls");
  }
  try {
    return await network.startTls(tunnel, options);
  } catch (error) {
    if (!(error instanceof NetworkError && error.reason === "tls")) throw error;
    const message = `${error.message}, through the proxy ${urlOf(server)}`;
    throw new NetworkError(message, "tls", { cause: error });
  }
}

/** What is said to a proxy before it passes anything on. */
class Dialogue {
  readonly #connection: TcpConnection;
  readonly #reader: BufferedReader;

  constructor(connection: TcpConnection) {
    this.#connection = connection;
    this.#reader = new BufferedReader(connection, { initialLength: READ_BYTES });
  }

  /** What has been read after the last answer. */
  get rest(): Uint8Array {
    return this.#reader.unread.slice();
  }

  async send(bytes: Uint8Array): Promise<void> {
    await writeAll(this.#connection, bytes);
  }

  /** The next answer. */
  async answer<T extends { readonly byteLength: number }>(
    decode: (bytes: Uint8Array) => Decoded<T>,
  ): Promise<T> {
    for (;;) {
      const decoded = decode(this.#reader.unread);
      if (decoded.kind === "message") {
        this.#reader.take(decoded.byteLength);
        return decoded;
      }
      const needed = Math.min(decoded.neededLength, MAX_ANSWER_BYTES + 1);
      if (await this.#reader.fill(needed)) continue;
      const from = formatTransportAddress(this.#connection.remote);
      throw new NetworkError(`Cannot read from ${from}: the connection was cut`, "reset");
    }
  }
}

async function askHttp(
  dialogue: Dialogue,
  server: ProxyServer,
  target: ProxyTarget,
): Promise<void> {
  await dialogue.send(encodeConnect(target, server.login));
  let answer = await dialogue.answer(decodeConnectAnswer);
  for (let left = MAX_INTERIM; left > 0 && answer.status < 200; left--) {
    answer = await dialogue.answer(decodeConnectAnswer);
  }
  if (answer.status < 200 || answer.status > 299) throw httpRefusal(server, target, answer);
}

async function askSocks(
  dialogue: Dialogue,
  server: ProxyServer,
  target: ProxyTarget,
): Promise<void> {
  const { login } = server;
  await dialogue.send(encodeSocksGreeting(login !== undefined));
  const { method } = await dialogue.answer(decodeSocksMethod);
  if (method === "refused") throw loginRefusal(server, target, SOCKS_WANTS_LOGIN);
  if (method === "user and password") {
    if (login === undefined) throw loginRefusal(server, target, SOCKS_WANTS_LOGIN);
    await dialogue.send(encodeSocksLogin(login));
    const { isAccepted } = await dialogue.answer(decodeSocksLoginAnswer);
    if (!isAccepted) throw loginRefusal(server, target, "it does not accept this login");
  }
  await dialogue.send(encodeSocksConnect(target));
  const { code } = await dialogue.answer(decodeSocksAnswer);
  if (code === 0) return;
  const { why, reason, remedy } = SOCKS_REFUSALS[code] ??
    { why: "an unknown refusal", reason: "proxy" };
  throw failed(server, target, `${why} (SOCKS ${code})`, reason, { remedy });
}

function httpRefusal(
  server: ProxyServer,
  target: ProxyTarget,
  { status, reason, schemes }: ConnectAnswer,
): NetworkError {
  const said = `(${`${status} ${reason}`.trim()})`;
  if (status === 407 || status === 401) { // what tinyproxy answers to a wrong login
    const isSpoken = schemes.length === 0 || schemes.includes("basic");
    const why = !isSpoken
      ? `it accepts logins by ${schemes.join(" or ")} only, and Punchline knows basic only`
      : server.login === undefined
      ? "it wants a login"
      : "it does not accept this login";
    return loginRefusal(server, target, `${why} ${said}`);
  }
  if (status >= 300 && status < 400) {
    const why = `it answers with a redirection ${said}, as a page to log in on does`;
    return failed(server, target, why, "proxy", { remedy: "Open a web page in a browser first" });
  }
  const refusal = HTTP_REFUSALS[status] ?? { why: "it refuses", reason: "proxy" };
  return failed(server, target, `${refusal.why} ${said}`, refusal.reason, {
    remedy: refusal.remedy,
  });
}

function loginRefusal(server: ProxyServer, target: ProxyTarget, why: string): NetworkError {
  const remedy = server.login === undefined ? LOG_IN : CHECK_LOGIN;
  return failed(server, target, why, "proxy", { remedy });
}

function failed(
  server: ProxyServer,
  { host, port }: ProxyTarget,
  why: string,
  reason: NetworkErrorReason,
  { cause, remedy }: { readonly cause?: unknown; readonly remedy?: string } = {},
): NetworkError {
  const to = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  const message = `Cannot connect to ${to} through the proxy ${urlOf(server)}: ${why}`;
  return new NetworkError(message, reason, { cause, remedy }); // by default that of the reason
}

/** Addresses that stand for names. */
class StandInNames {
  readonly #byName = new Map<string, string>();
  readonly #byIp = new Map<string, string>();

  standInFor(name: string): string {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const number = this.#byName.size + 1;
    if (number > MAX_NAMES) {
      throw new NetworkError(TOO_MANY_NAMES, "other", { remedy: "Open another peer" });
    }
    const ip = `240.0.${number >> 8}.${number & 0xff}`;
    this.#byName.set(name, ip);
    this.#byIp.set(ip, name);
    return ip;
  }

  nameOf(ip: string): string | undefined {
    return this.#byIp.get(ip);
  }

  replaceIn(text: string): string {
    return text.replaceAll(/\b240\.0\.\d{1,3}\.\d{1,3}\b/g, (ip) => this.#byIp.get(ip) ?? ip);
  }
}

/**
 * Does a job whose errors may name addresses that stand for names.
 *
 * @throws what the job throws, with the names
 */
export async function withNames<T>(proxy: Proxy, job: () => Promise<T>): Promise<T> {
  try {
    return await job();
  } catch (error) {
    if (error instanceof PunchlineError) error.message = proxy.withNames(error.message);
    throw error;
  }
}

const DEFAULT_PORTS = { http: 3128, https: 443, socks5: 1080 } as const;

/** In every one, the proxy looks up names; some programs ask for that by the name of `socks5h`. */
const PROTOCOLS: ReadonlyMap<string, keyof typeof DEFAULT_PORTS> = new Map([
  ["http", "http"],
  ["https", "https"],
  ["socks5", "socks5"],
  ["socks5h", "socks5"],
]);

interface Refusal {
  readonly why: string;
  readonly reason: NetworkErrorReason;
  readonly remedy?: string;
}

const CHECK_SERVER = "Check the name and the port of the server, and that it runs";

const FORBIDDEN =
  "Ask whoever runs the proxy to allow it, or use a server on port 443, which most proxies allow";

/** The answers of proxies that people meet: RFC 9110 §15. */
const HTTP_REFUSALS: Readonly<Record<number, Refusal>> = {
  400: { why: "it does not understand the request", reason: "proxy" },
  403: { why: "the proxy forbids it", reason: "proxy", remedy: FORBIDDEN },
  404: { why: "it cannot find the host", reason: "name-not-found" },
  405: { why: "it opens no tunnels", reason: "proxy", remedy: "Use another proxy" },
  429: { why: "too many requests", reason: "proxy", remedy: "Try later" },
  500: { why: "it failed", reason: "unreachable", remedy: CHECK_SERVER },
  501: { why: "it opens no tunnels", reason: "proxy", remedy: "Use another proxy" },
  502: { why: "it cannot reach the host", reason: "unreachable", remedy: CHECK_SERVER },
  503: {
    why: "it cannot reach the host, or is overloaded",
    reason: "unreachable",
    remedy: CHECK_SERVER,
  },
  504: { why: "the host does not answer it", reason: "timed-out", remedy: CHECK_SERVER },
};

/** RFC 1928 §6. */
const SOCKS_REFUSALS: Readonly<Record<number, Refusal>> = {
  1: { why: "it failed", reason: "unreachable", remedy: CHECK_SERVER },
  2: { why: "the proxy forbids it", reason: "proxy", remedy: FORBIDDEN },
  3: { why: "its network is unreachable", reason: "unreachable" },
  4: { why: "it cannot reach the host", reason: "unreachable", remedy: CHECK_SERVER },
  5: { why: "the host refuses the connection", reason: "refused" },
  6: { why: "the host does not answer it", reason: "timed-out", remedy: CHECK_SERVER },
  7: { why: "it opens no connections", reason: "proxy", remedy: "Use another proxy" },
  8: { why: "it does not know this type of address", reason: "proxy" },
};

const SOCKS_WANTS_LOGIN = "it wants a login";

const LOG_IN =
  "Write the login into the URL of the proxy, in front of its host: USER:PASSWORD@HOST";

const CHECK_LOGIN = "Check the user and the password in the URL of the proxy";

const OTHER_PROTOCOL =
  "Check that the proxy speaks this protocol at this port: http:// or socks5://";

const TOO_MANY_NAMES = "Cannot look up another name through the proxy: there are too many";

/** Chosen by us: less than the time to open signaling, and enough for a proxy that dials over a slow link. */
const TUNNEL_MS = 12_000;

/** Chosen by us: an answer of HTTP with a cookie or two. */
const READ_BYTES = 2048;

/** Chosen by us: 102 (Processing), repeated. */
const MAX_INTERIM = 4;

/** Chosen by us: far more servers than a program names. */
const MAX_NAMES = 0xffff;
