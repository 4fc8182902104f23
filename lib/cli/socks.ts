/**
 * The server's part of SOCKS5 (RFC 1928) that CONNECT needs, without authentication: for `connect --socks`, on loopback.
 *
 * @module
 */

import { malformed, RefusedError } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import { formatIp } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import type { PeerConnection } from "../peer/connection.ts";
import { forward } from "../peer/forward.ts";
import { FORWARD_CODES } from "../peer/forward_outcome.ts";

/** What a client asks for. */
export interface SocksRequest {
  /** A name or an IP address. */
  readonly host: string;
  readonly port: number;
}

/**
 * Reads what a client wants to connect to.
 *
 * @throws {MalformedMessageError} if it speaks another version or asks for anything but CONNECT; it is told so
 */
export async function readSocksRequest(
  client: Pick<TcpConnection, "read" | "write">,
): Promise<SocksRequest> {
  const [version, methods] = await readBytes(client, 2);
  if (version !== 5) throw malformed(WHAT, `version ${version} is not 5`);
  const offered = await readBytes(client, methods!);
  const isOpen = offered.includes(NO_AUTHENTICATION);
  await client.write(Uint8Array.of(5, isOpen ? NO_AUTHENTICATION : 0xff));
  if (!isOpen) throw malformed(WHAT, "the client wants to log in");
  const [again, command, , kind] = await readBytes(client, 4);
  if (again !== 5) throw malformed(WHAT, `version ${again} is not 5`);
  if (![IPV4, NAME, IPV6].includes(kind!)) {
    await replyToSocks(client, SOCKS_REPLIES.badAddressType);
    throw malformed(WHAT, `address type ${kind} is unknown`);
  }
  const host = await readHost(client, kind!);
  const [high, low] = await readBytes(client, 2);
  if (command !== CONNECT) {
    await replyToSocks(client, SOCKS_REPLIES.badCommand);
    throw malformed(WHAT, `command ${command} is not CONNECT`);
  }
  const port = high! << 8 | low!;
  if (port === 0) throw malformed(WHAT, "port is 0");
  return { host, port };
}

/** Tells the client how it went. */
async function replyToSocks(
  client: Pick<TcpConnection, "write">,
  reply: number,
): Promise<void> {
  await client.write(Uint8Array.of(5, reply, 0, IPV4, 0, 0, 0, 0, 0, 0));
}

/**
 * Forwards a client's connection to the host that it asks for.
 *
 * @throws as {@linkcode forward}, and {@linkcode readSocksRequest}; the client is told
 */
export async function forwardSocks(
  local: TcpConnection,
  connection: PeerConnection,
  { signal, onRequest }: {
    readonly signal: AbortSignal;
    /** Called with the host and the port, as `example.org:443`. */
    readonly onRequest?: (target: string) => void;
  },
): Promise<void> {
  const dial = await readInTime(local, signal);
  const target = `${dial.host.includes(":") ? `[${dial.host}]` : dial.host}:${dial.port}`;
  onRequest?.(target);
  let isDialled = false;
  const onDialled = () => {
    isDialled = true;
    return replyToSocks(local, SOCKS_REPLIES.succeeded);
  };
  const kept = new KeptOpen(local);
  try {
    await forward(connection, kept, { dial, onDialled, signal });
  } catch (error) {
    if (!isDialled && !signal.aborted) {
      const isRefused = error instanceof RefusedError && error.code === FORWARD_CODES.notOffered;
      await replyToSocks(local, isRefused ? SOCKS_REPLIES.notAllowed : SOCKS_REPLIES.refused);
      await local.closeWrite();
    }
    if (!(error instanceof RefusedError) || error.code !== FORWARD_CODES.unreachable) throw error;
    throw new RefusedError(`Cannot forward: the peer cannot connect to ${target}`, error.code, {
      cause: error,
      remedy: "Check the name of the host, and that its service runs",
    });
  }
}

/** A client that says nothing must not hold a file descriptor for good, or keep the command from ending. */
async function readInTime(client: TcpConnection, signal: AbortSignal): Promise<SocksRequest> {
  const onAbort = () => client.reset();
  const timer = new ResettableTimer(onAbort);
  timer.set(REQUEST_MS);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await readSocksRequest(client);
  } catch (error) {
    await client.closeWrite(); // what it was told arrives before the reset
    throw error;
  } finally {
    timer.clear();
    signal.removeEventListener("abort", onAbort);
  }
}

async function readHost(client: Pick<TcpConnection, "read">, kind: number): Promise<string> {
  if (kind === IPV4) return formatIp(await readBytes(client, 4));
  if (kind === IPV6) return formatIp(await readBytes(client, 16));
  const [length] = await readBytes(client, 1);
  const name = new TextDecoder().decode(await readBytes(client, length!));
  if (!/^[\w.:-]{1,255}$/.test(name)) throw malformed(WHAT, "its name is not one of a host");
  return name;
}

async function readBytes(
  client: Pick<TcpConnection, "read">,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = await client.read(bytes.subarray(filled));
    if (count === null) throw malformed(WHAT, "it ends early");
    filled += count;
  }
  return bytes;
}

/** A client that is answered before its connection is closed. */
class KeptOpen implements TcpConnection {
  readonly #inner: TcpConnection;
  readonly local;
  readonly remote;
  #isUsed = false;

  constructor(inner: TcpConnection) {
    this.#inner = inner;
    this.local = inner.local;
    this.remote = inner.remote;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    this.#isUsed = true;
    return this.#inner.read(buffer);
  }

  write(data: Uint8Array): Promise<number> {
    return this.#inner.write(data);
  }

  closeWrite(): Promise<void> {
    return this.#inner.closeWrite();
  }

  close(): void {
    this.#inner.close();
  }

  reset(): void {
    if (this.#isUsed) this.#inner.reset();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const WHAT = "SOCKS request";
const NO_AUTHENTICATION = 0;
const CONNECT = 1;
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;

/** The replies of RFC 1928 §6 that are given here. */
const SOCKS_REPLIES = {
  succeeded: 0,
  notAllowed: 2,
  refused: 5,
  badCommand: 7,
  badAddressType: 8,
} as const;

/** Chosen by us: a client asks as soon as it is connected. */
const REQUEST_MS = 10_000;
