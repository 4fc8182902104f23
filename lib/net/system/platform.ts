/**
 * Shared by the files of this folder: permission checks that never prompt, conversion of the platform's errors to
 * {@linkcode NetworkError}s, and SO_REUSEPORT, which only an internal call reaches.
 *
 * @module
 */

import { NetworkError, type NetworkErrorReason } from "../../base/errors.ts";
import { formatTransportAddress, ipFamily, type TransportAddress } from "../address.ts";
import process from "node:process";
import { getSystemErrorName } from "node:util";

/**
 * Checks the permission that the next call needs. Otherwise Deno would stop the program with a prompt.
 *
 * @throws {NetworkError} `not-permitted` if it has not been granted
 */
export function requireNet(action: string, host: string, port?: number): void {
  if (isFullyGranted("net")) return;
  const target = targetOf(host, port);
  if (isGranted(target)) return;
  throw new NetworkError(
    `${action}: network access to ${target} is not granted`,
    "not-permitted",
    { remedy: "Run the program with --allow-net" },
  );
}

/** Whether the program may send to an address. */
export function mayReach({ ip, port }: TransportAddress): boolean {
  return isGranted(targetOf(ip, port));
}

function targetOf(host: string, port: number | undefined): string {
  const name = ipFamily(host) === 6 ? `[${host}]` : host;
  return port === undefined ? name : `${name}:${port}`;
}

function isGranted(target: string): boolean {
  return Deno.permissions.querySync({ name: "net", host: target }).state === "granted";
}

/** Whether the permission was given without a list of what it is for, as by `--allow-net`. */
export function isFullyGranted(name: "net" | "read" | "write"): boolean {
  return Deno.permissions.querySync({ name }).state === "granted";
}

/** Converts an error of the platform. `action` is the start of the message, such as `Cannot bind 127.0.0.1:53`. */
export function toNetworkError(action: string, cause: unknown): NetworkError {
  if (cause instanceof NetworkError) return cause;
  const reason = reasonOf(cause);
  const isUnnamed = reason === "other" && cause instanceof Error;
  const code = codeOf(cause);
  const detail = TEXT_OF_CODE[code] ?? (isUnnamed ? cause.message : TEXT[reason]);
  const remedy = code === "EAI_AGAIN" ? NAME_SERVER_REMEDY : undefined;
  return new NetworkError(`${action}: ${detail}`, reason, { cause, remedy });
}

/** What to do if no name server answers, which says nothing about the server that was named. */
export const NAME_SERVER_REMEDY =
  "Set a name server that works in this machine's network settings, or sign in to the network";

/**
 * Whether a certificate comes from an authority that this machine does not trust: what Deno says for its own TLS, and Node's
 * codes.
 */
export function isUnknownIssuer(error: unknown): boolean {
  return /^(?:UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/.test(codeOf(error)) ||
    error instanceof Error && /UnknownIssuer/.test(error.message);
}

/** What to do about a certificate of an unknown authority, which is what a proxy that reads TLS shows. */
export const INTERCEPTION_REMEDY =
  "If a proxy or firewall that you trust intercepts TLS, set DENO_TLS_CA_STORE=system in the environment";

/** The start of an error message: `Cannot bind 192.0.2.1:3478`. */
export function action(verb: string, address: TransportAddress): string {
  return `Cannot ${verb} ${formatTransportAddress(address)}`;
}

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

function reasonOf(error: unknown): NetworkErrorReason {
  if (!(error instanceof Error)) return "other";
  return BY_CODE[codeOf(error)] ?? BY_CLASS[error.name] ?? "other";
}

/** Deno's own APIs set `code` if the system returned one. Otherwise the class of the error tells. */
function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
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

const BY_CODE: Readonly<Record<string, NetworkErrorReason>> = {
  ECONNREFUSED: "refused",
  ECONNRESET: "reset",
  ECONNABORTED: "reset",
  EPIPE: "reset",
  ENETUNREACH: "unreachable",
  EHOSTUNREACH: "unreachable",
  ENETDOWN: "unreachable",
  EHOSTDOWN: "unreachable",
  ETIMEDOUT: "timed-out",
  EADDRINUSE: "address-in-use",
  EADDRNOTAVAIL: "address-not-available",
  EAFNOSUPPORT: "address-not-available",
  ENOTFOUND: "name-not-found",
  EAI_AGAIN: "timed-out",
  EACCES: "not-permitted",
  EPERM: "not-permitted",
};

const BY_CLASS: Readonly<Record<string, NetworkErrorReason>> = {
  ConnectionRefused: "refused",
  ConnectionReset: "reset",
  ConnectionAborted: "reset",
  BrokenPipe: "reset",
  NetworkUnreachable: "unreachable",
  HostUnreachable: "unreachable",
  TimedOut: "timed-out",
  AddrInUse: "address-in-use",
  AddrNotAvailable: "address-not-available",
  PermissionDenied: "not-permitted",
  NotCapable: "not-permitted",
  BadResource: "closed",
  Interrupted: "closed",
  InvalidData: "tls",
  UnexpectedEof: "reset",
};

const TEXT: Readonly<Record<NetworkErrorReason, string>> = {
  refused: "connection refused",
  reset: "connection reset",
  unreachable: "no route, or the network reported it as unreachable",
  "timed-out": "timed out",
  "address-in-use": "address already in use",
  "address-not-available": "not an address of this machine",
  "name-not-found": "name not found",
  "not-permitted": "not permitted",
  "not-allowed": "only the user may name this address",
  tls: "TLS failed",
  proxy: "the proxy refused",
  closed: "closed",
  other: "failed",
};

/** What is clearer than the reason. It may be known at once, without waiting. */
const TEXT_OF_CODE: Readonly<Record<string, string>> = {
  EAI_AGAIN: "no name server answered",
};
