/**
 * What the command line says about forwarding: what `listen` offers, and where `connect` takes connections and datagrams.
 *
 * @module
 */

import { formatTransportAddress, isIp, parseIp } from "../net/address.ts";
import { type Arguments, readInteger } from "./arguments.ts";
import { UsageError } from "./io.ts";

/** The protocol that `connect` asks for if it forwards. */
export const FORWARD_PROTOCOL = "forward";

/** What `listen` offers. */
export interface Offers {
  /** TCP ports of this machine. */
  readonly tcp: readonly number[];
  /** Paths of Unix sockets. */
  readonly unix: readonly string[];
  /** UDP ports of this machine. */
  readonly udp: readonly number[];
  /** Hosts for `connect --socks`. */
  readonly allow: readonly string[];
}

/** Where `connect` takes what it forwards. */
export type Front = PortFront | PathFront;

/** A local port. */
export interface PortFront {
  readonly kind: "tcp" | "udp" | "socks";
  /** The address to listen on. */
  readonly ip: string;
  readonly port: number;
  /** What the other side calls the target; `undefined` for its first. */
  readonly target: string | undefined;
}

/** A Unix socket. */
export interface PathFront {
  readonly kind: "unix";
  readonly path: string;
  readonly target: string | undefined;
}

/**
 * What `listen` offers; `undefined` if it forwards nothing.
 *
 * @throws {UsageError} if a port, a path or a host is invalid, or named twice
 */
export function readOffers({ lists }: Pick<Arguments, "lists">): Offers | undefined {
  const portsOf = (name: "tcp" | "udp") =>
    lists.get(name)!.map((text) => readInteger(name, text, PORTS)!);
  const [tcp, udp] = [portsOf("tcp"), portsOf("udp")];
  const unix = lists.get("unix")!;
  for (const path of unix) checkPath(path);
  const allow = lists.get("allow-to")!;
  for (const text of allow) {
    const [, port] = /^(?:\*|[\w.-]+|\[[\da-f:.]+\]):([1-9]\d{0,4})$/i.exec(text) ?? [];
    if (port !== undefined && Number(port) <= PORTS.max) continue;
    throw new UsageError(`--allow-to takes HOST:PORT or *:PORT, not ${text}`);
  }
  refuseTwice([
    ...tcp.map((port) => `port ${port}`),
    ...udp.map((port) => `UDP port ${port}`),
    ...unix,
    ...allow,
  ]);
  const isAnything = tcp.length + unix.length + udp.length + allow.length > 0;
  return isAnything ? { tcp, unix, udp, allow } : undefined;
}

/**
 * Where `connect` takes what it forwards; nothing if stdin and stdout are the connection.
 *
 * @throws {UsageError} if a port or a path is invalid, or named twice
 */
export function readFronts({ lists, values }: Pick<Arguments, "lists" | "values">): Front[] {
  const bind = values.get("bind") ?? LOOPBACK;
  if (!isIp(bind)) throw new UsageError(`--bind takes an IP address, not ${bind}`);
  const ip = parseIp(bind);
  const portsOf = (kind: "tcp" | "udp") =>
    lists.get(kind)!.map((text): PortFront => {
      const [local, target] = splitTarget(kind, text);
      if (kind === "udp") readInteger("udp", target, PORTS);
      return { kind, ip, port: readInteger(kind, local, PORTS)!, target };
    });
  const unix = lists.get("unix")!.map((text): PathFront => {
    const [path, target] = splitTarget("unix", text);
    checkPath(path);
    const folder = path.slice(0, path.lastIndexOf("/") + 1);
    if (new TextEncoder().encode(folder).length > MAX_FOLDER_BYTES) {
      throw new UsageError(
        `--unix takes a path whose folder has at most ${MAX_FOLDER_BYTES} bytes`,
      );
    }
    return { kind: "unix", path, target };
  });
  const port = readInteger("socks", values.get("socks"), PORTS);
  const socks: PortFront[] = port === undefined
    ? []
    : [{ kind: "socks", ip, port, target: undefined }];
  const ports = [...portsOf("tcp"), ...portsOf("udp"), ...socks];
  if (values.has("bind") && ports.length === 0) {
    throw new UsageError("--bind needs --tcp, --udp or --socks");
  }
  const fronts = [...ports, ...unix];
  refuseTwice(
    fronts.map((front) =>
      front.kind === "unix"
        ? front.path
        : `${front.kind === "udp" ? "UDP port" : "port"} ${front.port}`
    ),
  );
  return fronts;
}

/** A front as people read it, such as `127.0.0.1:2222` or `127.0.0.1:5353 (UDP)`. */
export function frontName(front: Front): string {
  if (front.kind === "unix") return front.path;
  const notes = { tcp: "", udp: " (UDP)", socks: " (SOCKS5)" };
  return formatTransportAddress(front) + notes[front.kind];
}

/** @throws {UsageError} if two names are the same */
function refuseTwice(names: readonly string[]): void {
  const twice = names.find((name, index) => names.indexOf(name) < index);
  if (twice !== undefined) throw new UsageError(`${twice} is named twice`);
}

/** `LOCAL[:REMOTE]`; only in a path may `REMOTE` have a colon. */
function splitTarget(
  name: "tcp" | "udp" | "unix",
  text: string,
): [local: string, target: string | undefined] {
  const colon = text.indexOf(":");
  if (colon < 0) return [text, undefined];
  const [local, target] = [text.slice(0, colon), text.slice(colon + 1)];
  const isHost = target.includes(":") && !target.includes("/");
  if (local !== "" && target !== "" && !isHost) return [local, target];
  const placeholder = name === "unix" ? "PATH" : "LOCAL";
  throw new UsageError(`--${name} takes ${placeholder}[:REMOTE], not ${text}`, {
    remedy: isHost
      ? "For a host behind the peer, use --socks; the peer allows it with --allow-to"
      : undefined,
  });
}

/** The socket's name has to fit what systems have room for; with a name that does not, `listen` would fail much later. */
function checkPath(path: string): void {
  if (new TextEncoder().encode(path).length <= MAX_PATH_BYTES && !path.includes("\0")) return;
  throw new UsageError(`--unix takes a path of at most ${MAX_PATH_BYTES} bytes`);
}

const LOOPBACK = "127.0.0.1";

const PORTS = { min: 1, max: 65_535 };

/** What macOS has room for; Linux has four bytes more. */
const MAX_PATH_BYTES = 103;

/** With room for the folder in which the socket is made: see `listenUnix()`. */
const MAX_FOLDER_BYTES = 94;
