/**
 * TCP sockets that share their local port with listeners. `node:net` sets SO_REUSEPORT on listeners only, so for dials
 * this uses the internal binding beneath it. Because that is not a public API, its shape is checked before every use, and
 * callers must do without it if `canReusePort()` is false.
 *
 * @module
 */

import { ipFamily, type TransportAddress } from "../address.ts";
import process from "node:process";
import { getSystemErrorName } from "node:util";

/** Whether the platform supports it. Needs no permission. */
export function canReusePort(): boolean {
  return tcpBinding() !== undefined;
}

/**
 * Opens the handle of a TCP socket that is bound with SO_REUSEPORT (on Windows SO_REUSEADDR, which has the same effect),
 * for `net.Socket` to dial with.
 *
 * @throws {Error} with the system's `code`
 */
export function openReusingPort({ ip, port }: TransportAddress): object {
  const binding = tcpBinding();
  if (binding === undefined) {
    throw new TypeError("Cannot share a port: the platform does not support it");
  }
  const { SOCKET, UV_TCP_REUSEPORT, UV_TCP_IPV6ONLY } = binding.constants;
  const handle = new binding.TCP(SOCKET);
  const errno = ipFamily(ip) === 6
    ? handle.bind6(ip, port, UV_TCP_REUSEPORT | UV_TCP_IPV6ONLY)
    : handle.bindWithFlags(ip, port, UV_TCP_REUSEPORT);
  if (errno === 0) return handle;
  handle.close();
  const code = getSystemErrorName(errno);
  throw Object.assign(new Error(`bind ${code}`), { code });
}

interface TcpBinding {
  readonly TCP: new (type: number) => TcpHandle;
  readonly constants: {
    readonly SOCKET: number;
    readonly UV_TCP_IPV6ONLY: number;
    readonly UV_TCP_REUSEPORT: number;
  };
}

interface TcpHandle {
  bindWithFlags(ip: string, port: number, flags: number): number;
  bind6(ip: string, port: number, flags: number): number;
  close(): void;
}

function tcpBinding(): TcpBinding | undefined {
  if (!("binding" in process) || typeof process.binding !== "function") return undefined;
  try {
    const binding: unknown = process.binding("tcp_wrap");
    return isTcpBinding(binding) ? binding : undefined;
  } catch {
    return undefined; // the platform has no such binding
  }
}

function isTcpBinding(binding: unknown): binding is TcpBinding {
  if (!hasKeys(binding, ["TCP", "constants"])) return false;
  const { TCP, constants } = binding;
  return typeof TCP === "function" && hasKeys(TCP.prototype, ["bindWithFlags", "bind6", "close"]) &&
    hasKeys(constants, ["SOCKET", "UV_TCP_IPV6ONLY", "UV_TCP_REUSEPORT"]);
}

function hasKeys<K extends string>(
  value: unknown,
  keys: readonly K[],
): value is Record<K, unknown> {
  return typeof value === "object" && value !== null && keys.every((key) => key in value);
}
