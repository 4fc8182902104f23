/**
 * Forwarding: connections to a port of one side go to a service of the other, each over a stream of its own, as with
 * `ssh -L`. The side with the service decides alone what it offers.
 *
 * @module
 */

import { NetworkError, PunchlineError, RefusedError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { TaskGroup } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import { ipFamily, parseIp, whyNotPublic } from "../net/address.ts";
import { type ByteStream, resetStream } from "../net/deno_conn.ts";
import { discoverNat64, isOwnAddress } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import type { SessionStream } from "../session/stream.ts";
import type { PeerConnection } from "./connection.ts";
import {
  decodeForwardRequest,
  encodeForwardRequest,
  FORWARD_HEADER_LENGTH,
  type ForwardRequest,
  forwardTextLength,
} from "./forward_message.ts";

/** The codes with which forwarded streams are reset. Those from 0xff00 are this library's. */
export const FORWARD_CODES = {
  /** The other side does not offer that target. */
  notOffered: 0xff03,
  /** The other side offers the target, and cannot connect to it. */
  unreachable: 0xff04,
  /** The connection at the other end of the stream broke. */
  broken: 0xff05,
} as const;

/** What {@linkcode forward} asks for. */
export interface ForwardOptions {
  /** The target, by the name under which the other side offers it. Default: its first one. */
  readonly target?: string;
  /** Or a host that the other side lets this one reach: see `allow` of {@linkcode serveForwards}. */
  readonly dial?: { readonly host: string; readonly port: number };
  /** Called once the other side has connected to that host. */
  readonly onDialled?: () => Promise<void>;
  /** Resets both connections. */
  readonly signal?: AbortSignal;
}

/** Something that {@linkcode serveForwards} offers. */
export interface ForwardTarget {
  /** What the other side calls it, such as a port. */
  readonly name: string;
  /** Connects to it. */
  connect(signal: AbortSignal): Promise<ByteStream>;
}

/** What {@linkcode serveForwards} offers. */
export interface ServeForwardsOptions {
  /** The first is what the other side gets that names none. */
  readonly targets?: readonly (number | ForwardTarget)[];
  /**
   * Hosts that the other side may reach, such as `example.org:443` or `*:80`. Neither `*` nor a name leads to loopback,
   * private or link-local addresses: these must be named themselves. Default: none.
   */
  readonly allow?: readonly string[];
  /** Default: the system's. */
  readonly network?: Network;
  /** Ends forwarding. */
  readonly signal?: AbortSignal;
  /** Called for each stream that is forwarded, and with what went wrong. */
  readonly onEvent?: (event: ForwardEvent) => void;
}

/** What happens to a forwarded stream. */
export interface ForwardEvent {
  /** `"opened"`: it is connected to its target. `"closed"`: it has ended. `"failed"`: it was refused, or it broke. */
  readonly event: "opened" | "closed" | "failed";
  /** The target as the other side calls it. */
  readonly target: string;
  /** Why it failed. */
  readonly error?: unknown;
  /** Which end broke. */
  readonly broken?: "peer" | "local";
}

/**
 * Forwards one connection over a stream of its own. Its data goes out at once: that costs no round trip.
 *
 * @example
 * ```ts ignore
 * for await (const local of Deno.listen({ hostname: "127.0.0.1", port: 2222 })) {
 *   forward(connection, local, { target: "22" }).catch(console.error);
 * }
 * ```
 *
 * @param local owned by this call
 * @throws {RefusedError} with one of {@linkcode FORWARD_CODES}: the other side does not offer the target, cannot connect to
 * it, or its connection broke
 * @throws {NetworkError} if this side's connection breaks, or the one to the peer
 * @throws {RangeError} if the name of the target is too long
 * @throws the signal's reason on abort
 */
export async function forward(
  connection: Pick<PeerConnection, "openStream">,
  local: ByteStream,
  options: ForwardOptions = {},
): Promise<void> {
  const { target = "", dial, onDialled, signal } = options;
  const request: ForwardRequest = dial === undefined
    ? { kind: "target", name: target }
    : { kind: "dial", ...dial };
  try {
    const stream = await connection.openStream({ signal });
    const asked = stream.write(encodeForwardRequest(request));
    try {
      if (dial !== undefined) {
        if (await stream.read(new Uint8Array(1)) === null) throw broken("peer");
        await onDialled?.();
      }
      await asked;
    } catch (error) {
      stream.close();
      throw explained(error, stream);
    }
    const which = await join(stream, local);
    if (which !== undefined) throw explained(broken(which), stream);
    signal?.throwIfAborted();
  } catch (error) {
    resetStream(local);
    signal?.throwIfAborted();
    throw error;
  }
}

/**
 * Connects the streams that the other side opens with what this side offers, until the connection ends.
 *
 * @example
 * ```ts ignore
 * peer.serve((connection) => serveForwards(connection, { targets: [22, 8080] }));
 * ```
 *
 * @throws {TypeError} if a host in `allow` is invalid
 */
export async function serveForwards(
  connection: Pick<PeerConnection, "streams">,
  options: ServeForwardsOptions = {},
): Promise<void> {
  const { network = systemNetwork, signal, onEvent = () => {} } = options;
  const rules = (options.allow ?? []).map(parseRule);
  const targets = (options.targets ?? []).map((each) => toTarget(each, network));
  await using streams = new TaskGroup((error) => onEvent({ event: "failed", target: "", error }));
  const onAbort = () => void streams.stop(signal!.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    for await (const stream of connection.streams) {
      if (signal?.aborted) return;
      streams.run((stopped) => answer(stream, { targets, rules, network, onEvent, stopped }));
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

interface Offer {
  readonly targets: readonly ForwardTarget[];
  readonly rules: readonly Rule[];
  readonly network: Network;
  readonly onEvent: (event: ForwardEvent) => void;
  readonly stopped: AbortSignal;
}

async function answer(stream: SessionStream, offer: Offer): Promise<void> {
  const { onEvent, stopped } = offer;
  const onStopped = () => stream.reset();
  stopped.addEventListener("abort", onStopped, { once: true });
  let target = "";
  try {
    const request = await readRequest(stream);
    target = request.kind === "target" ? request.name : `${request.host}:${request.port}`;
    const local = await connect(request, offer);
    if (request.kind === "dial") await stream.write(Uint8Array.of(0));
    onEvent({ event: "opened", target });
    const which = await join(stream, local);
    if (which === undefined) onEvent({ event: "closed", target });
    else onEvent({ event: "failed", target, broken: which, error: broken(which) });
  } catch (error) {
    stream.reset(
      error instanceof NotOfferedError ? FORWARD_CODES.notOffered : FORWARD_CODES.unreachable,
    );
    if (!stopped.aborted) onEvent({ event: "failed", target, error });
  } finally {
    stopped.removeEventListener("abort", onStopped);
  }
}

async function readRequest(stream: SessionStream): Promise<ForwardRequest> {
  using deadline = new Deadline(REQUEST_MS);
  const onLate = () => stream.reset();
  deadline.signal.addEventListener("abort", onLate, { once: true });
  const header = await readExactly(stream, FORWARD_HEADER_LENGTH);
  const text = await readExactly(stream, forwardTextLength(header));
  const bytes = new Uint8Array(header.length + text.length);
  bytes.set(header);
  bytes.set(text, header.length);
  return decodeForwardRequest(bytes);
}

async function readExactly(stream: SessionStream, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = await stream.read(bytes.subarray(filled));
    if (count === null) throw new NetworkError("Cannot forward: the stream ended early", "closed");
    filled += count;
  }
  return bytes;
}

async function connect(
  request: ForwardRequest,
  { targets, rules, network, stopped }: Offer,
): Promise<ByteStream> {
  using deadline = new Deadline(CONNECT_MS, stopped);
  if (request.kind === "dial") return await dial(request, rules, network, deadline.signal);
  const target = request.name === ""
    ? targets[0]
    : targets.find(({ name }) => name === request.name);
  if (target === undefined) throw new NotOfferedError(request.name);
  return await target.connect(deadline.signal);
}

function toTarget(target: number | ForwardTarget, network: Network): ForwardTarget {
  if (typeof target !== "number") return target;
  return {
    name: `${target}`,
    connect: (signal) => network.connectTcp({ ip: "127.0.0.1", port: target }, { signal }),
  };
}

/** A host that the other side may reach: a name or an address, or `*` for any on the internet. */
interface Rule {
  readonly host: string;
  readonly port: number;
}

/** @throws {TypeError} if it is invalid */
function parseRule(text: string): Rule {
  const [, bracketed, plain, digits] = /^(?:\[([\da-f:.]+)\]|([\w.*-]+)):([1-9]\d{0,4})$/i
    .exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || port > 65_535 || host.includes("*") && host !== "*") {
    throw new TypeError(`Cannot allow "${text}": it is not HOST:PORT or *:PORT`);
  }
  return { host: asIp(host) ?? host.toLowerCase(), port };
}

/** Resolves a name once, and connects to an address that was judged. */
async function dial(
  { host, port }: { readonly host: string; readonly port: number },
  rules: readonly Rule[],
  network: Network,
  signal: AbortSignal,
): Promise<ByteStream> {
  const ip = asIp(host);
  const isNamed = (name: string) => rules.some((rule) => rule.host === name && rule.port === port);
  const isOffered = isNamed(ip ?? host) || isNamed("*");
  if (!isOffered) throw new NotOfferedError(`${host}:${port}`);
  const addresses = ip === undefined ? await resolveAll(host, network, signal) : [ip];
  let failure: unknown = new NotOfferedError(`${host}:${port}`);
  for (const address of addresses) {
    if (!isNamed(address) && await isInside(address, network, signal)) continue;
    try {
      return await network.connectTcp({ ip: address, port }, { signal });
    } catch (error) {
      signal.throwIfAborted();
      failure = error;
    }
  }
  throw failure;
}

/** Whether an address is not on the internet, or this host's own: only who offers it may name it. */
async function isInside(ip: string, network: Network, signal: AbortSignal): Promise<boolean> {
  const prefixes = ipFamily(ip) === 6 ? await discoverNat64(network, { signal }) : [];
  return whyNotPublic(ip, prefixes) !== null || await isOwnAddress(network, ip);
}

async function resolveAll(host: string, network: Network, signal: AbortSignal): Promise<string[]> {
  const found = await Promise.allSettled(
    ([4, 6] as const).map((family) => network.resolve(host, family, { signal })),
  );
  signal.throwIfAborted();
  const addresses = found.flatMap((each) => each.status === "fulfilled" ? each.value : []);
  if (addresses.length > 0) return addresses;
  throw new NetworkError(`Cannot resolve ${host}`, "name-not-found");
}

function asIp(host: string): string | undefined {
  try {
    return parseIp(host);
  } catch {
    return undefined; // a name
  }
}

/**
 * Copies both directions until both have ended or either breaks, then closes both. An end that breaks while the other takes
 * no data ends both, too.
 *
 * @returns which of them broke, if any
 */
async function join(
  stream: SessionStream,
  local: ByteStream,
): Promise<"peer" | "local" | undefined> {
  let which: "peer" | "local" | undefined;
  const breakOff = (by: "peer" | "local") => {
    which ??= by;
    if (which === "local") stream.reset(FORWARD_CODES.broken);
    else stream.close();
    resetStream(local);
  };
  stream.finished.catch(() => breakOff("peer"));
  await Promise.all([
    copy({ from: stream, to: local, onBroken: breakOff, names: ["peer", "local"] }),
    copy({ from: local, to: stream, onBroken: breakOff, names: ["local", "peer"] }),
  ]);
  if (which === undefined) {
    stream.close();
    local.close();
  }
  return which;
}

/** Without `pipeTo`, which costs a chunk and several promises for each read. */
async function copy({ from, to, onBroken, names: [source, target] }: {
  readonly from: ByteStream;
  readonly to: ByteStream;
  readonly onBroken: (which: "peer" | "local") => void;
  readonly names: readonly ["peer" | "local", "peer" | "local"];
}): Promise<void> {
  const buffer = new Uint8Array(COPY_BYTES);
  for (;;) {
    const length = await from.read(buffer).catch(() => undefined); // whatever broke it
    if (length === undefined) return onBroken(source);
    try {
      if (length === null) return await to.closeWrite();
      await writeAll(to, buffer.subarray(0, length));
    } catch {
      return onBroken(target);
    }
  }
}

/** The other side has asked for what is not offered. */
class NotOfferedError extends PunchlineError {
  constructor(target: string) {
    super(`Cannot forward to ${target === "" ? "anything" : target}: it is not offered`, {
      remedy: "Ask for what is offered, or start `listen` with `--tcp` or `--allow-to` for it",
    });
  }
}

function broken(which: "peer" | "local"): NetworkError {
  const end = which === "peer" ? "the other side" : "this side";
  return new NetworkError(`Cannot forward: the connection of ${end} broke`, "reset");
}

/** Why the other side has reset the stream, if it said so. */
function explained(cause: unknown, { resetCode }: SessionStream): unknown {
  const known = REFUSALS.find(({ code }) => code === resetCode);
  if (known === undefined) return cause;
  const { message, code, remedy } = known;
  return new RefusedError(`Cannot forward: ${message}`, code, { cause, remedy });
}

const REFUSALS = [
  {
    code: FORWARD_CODES.notOffered,
    message: "the peer does not offer that",
    remedy: "Ask for a port or a host that the other side's `listen` names",
  },
  {
    code: FORWARD_CODES.unreachable,
    message: "the peer cannot connect to its own service",
    remedy: "Check that the service runs at the other side",
  },
  {
    code: FORWARD_CODES.broken,
    message: "the service at the other side broke the connection off",
    remedy: "Check what the service at the other side says",
  },
];

/** Chosen by us: the request is in the first record of its stream. */
const REQUEST_MS = 10_000;

/** Chosen by us: as long as a system tries to connect before most people give up. */
const CONNECT_MS = 20_000;

/** Chosen by us: as much as one read of a socket returns. */
const COPY_BYTES = 65_536;
