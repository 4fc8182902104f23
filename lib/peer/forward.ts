/**
 * Forwarding: connections to a port of one side go to a service of the other, each over a stream of its own, as with
 * `ssh -L`. The side with the service decides alone what it offers.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { malformed, MalformedMessageError, NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { Deadline, ResettableTimer } from "../base/timers.ts";
import { formatTransportAddress, ipFamily, parseIp, whyNotPublic } from "../net/address.ts";
import { type ByteStream, closeStream, resetStream } from "../net/deno_conn.ts";
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
import { explained, FORWARD_CODES, type ForwardEvent, NotOfferedError } from "./forward_outcome.ts";
import type { DatagramCarrier, UdpFront, UdpService } from "./forward_udp.ts";
import { abortable } from "@std/async/abortable";

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
  /** What the other side calls it, such as a port. The command `connect` asks for no name with a colon, except for a path. */
  readonly name: string;
  /** Connects to it. */
  connect(signal: AbortSignal): Promise<ByteStream>;
}

/** What {@linkcode serveForwards} offers. */
export interface ServeForwardsOptions {
  /** The first is for a side that names no target. */
  readonly targets?: readonly (number | ForwardTarget)[];
  /** UDP ports on 127.0.0.1, likewise. Their datagrams are those of the connection, which nothing else may read then. */
  readonly udp?: readonly number[];
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
  try {
    const request = encodeForwardRequest(
      dial === undefined ? { kind: "target", name: target } : { kind: "dial", ...dial },
    );
    const stream = await connection.openStream({ signal });
    try {
      const dialled = dial === undefined ? 0 : stream.read(new Uint8Array(1));
      const [first] = await Promise.all([dialled, stream.write(request)]);
      if (first === null) throw broken("peer");
      if (dial !== undefined) await onDialled?.();
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
 * @throws {TypeError} if a host in `allow` is invalid, or the connection carries no datagrams and `udp` is not empty
 */
export async function serveForwards(
  connection: Pick<PeerConnection, "streams"> & Partial<DatagramCarrier>,
  options: ServeForwardsOptions = {},
): Promise<void> {
  const { network = systemNetwork, signal, onEvent = () => {} } = options;
  const rules = (options.allow ?? []).map(parseRule);
  const targets = (options.targets ?? []).map((each) => toTarget(each, network));
  await using streams = new TaskGroup((error) => onEvent({ event: "failed", target: "", error }));
  const open = new Set<SessionStream>();
  const resetAll = () => {
    for (const stream of open) stream.reset();
  };
  const onAbort = () => {
    streams.stop(signal!.reason);
    resetAll();
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    const udp = await serveUdp(connection, options.udp ?? [], network);
    if (udp !== undefined) streams.run((stopped) => udp.receive(stopped));
    for await (const stream of openedUntil(streams.signal, connection.streams)) {
      open.add(stream);
      streams.run(async (stopped) => {
        try {
          await answer(stream, { targets, rules, udp, network, onEvent, stopped });
        } finally {
          open.delete(stream);
        }
      });
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
    resetAll();
  }
}

/**
 * Forwards the datagrams of local UDP sockets, and the answers to each of their clients, until the connection ends. Nothing
 * else may read the datagrams of the connection.
 *
 * @example
 * ```ts ignore
 * await forwardUdp(connection, [{ socket, target: "53" }]);
 * ```
 *
 * @param options.onEvent called for each flow that is opened, closed or refused
 * @throws {NetworkError} if a socket breaks
 * @throws the signal's reason on abort
 */
export async function forwardUdp(
  connection: Pick<PeerConnection, "openStream" | "finished"> & DatagramCarrier,
  fronts: readonly UdpFront[],
  options: { readonly signal?: AbortSignal; readonly onEvent?: (event: ForwardEvent) => void } = {},
): Promise<void> {
  const { signal, onEvent } = options;
  const { UdpForwarder } = await import("./forward_udp.ts");
  await using forwarder = new UdpForwarder(connection, onEvent);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  connection.finished.then(resolve, () => resolve());
  await using receiving = new TaskGroup(reject);
  for (const front of fronts) {
    receiving.run(async (signal) => {
      for (;;) forwarder.forward(front, await front.socket.receive({ signal }));
    });
  }
  await (signal === undefined ? promise : abortable(promise, signal));
}

/** The streams that the other side opens until the signal is aborted. */
async function* openedUntil(
  signal: AbortSignal,
  streams: AsyncIterable<SessionStream>,
): AsyncGenerator<SessionStream> {
  const iterator = streams[Symbol.asyncIterator]();
  try {
    while (!signal.aborted) {
      const next = iterator.next();
      const result = await abortable(next, signal).catch((error) => {
        if (!signal.aborted) throw error;
      });
      if (result === undefined) return void next.then(({ value }) => value?.reset());
      if (result.done) return;
      yield result.value;
    }
  } finally {
    iterator.return?.(); // not awaited: a generator would wait for one more stream first
  }
}

/** Loaded only where UDP is offered. */
async function serveUdp(
  connection: Partial<DatagramCarrier>,
  ports: readonly number[],
  network: Network,
): Promise<UdpService | undefined> {
  if (ports.length === 0) return undefined;
  if (!hasDatagrams(connection)) {
    throw new TypeError("Cannot forward UDP: the connection carries no datagrams");
  }
  const { UdpService } = await import("./forward_udp.ts");
  return new UdpService(connection, network, ports);
}

function hasDatagrams(connection: Partial<DatagramCarrier>): connection is DatagramCarrier {
  return connection.sendDatagram !== undefined && connection.datagrams !== undefined;
}

interface Offer {
  readonly targets: readonly ForwardTarget[];
  readonly rules: readonly Rule[];
  /** Where UDP is offered. */
  readonly udp: UdpService | undefined;
  readonly network: Network;
  readonly onEvent: (event: ForwardEvent) => void;
  readonly stopped: AbortSignal;
}

async function answer(stream: SessionStream, offer: Offer): Promise<void> {
  const { onEvent, stopped } = offer;
  let target = "";
  try {
    const request = await readRequest(stream);
    target = nameOf(request);
    if (request.kind === "udp") {
      if (offer.udp === undefined) throw new NotOfferedError(target);
      await offer.udp.serve(stream, request.name, () => onEvent({ event: "opened", target }));
      return onEvent({ event: "closed", target });
    }
    const local = await connect(request, stream, offer);
    if (request.kind === "dial") await stream.write(Uint8Array.of(0));
    onEvent({ event: "opened", target });
    const which = await join(stream, local);
    if (which === undefined) onEvent({ event: "closed", target });
    else onEvent({ event: "failed", target, broken: which, error: broken(which) });
  } catch (error) {
    stream.reset(codeOf(error));
    const by = stream.resetCode === undefined ? {} : { broken: "peer" as const };
    if (!stopped.aborted) onEvent({ event: "failed", target, ...by, error });
  }
}

/** What the other side is told. */
function codeOf(error: unknown): number {
  if (error instanceof NotOfferedError) return FORWARD_CODES.notOffered;
  return error instanceof MalformedMessageError
    ? FORWARD_CODES.malformed
    : FORWARD_CODES.unreachable;
}

/** What the other side calls it, for people. */
function nameOf(request: ForwardRequest): string {
  if (request.kind === "dial") return hostName(request);
  return request.kind === "udp" ? `UDP ${request.name}`.trimEnd() : request.name;
}

async function readRequest(stream: SessionStream): Promise<ForwardRequest> {
  const timer = new ResettableTimer(() => {
    const message = "Cannot forward: the other side has not said in time to what";
    stream.abort(new NetworkError(message, "timed-out"));
  });
  timer.set(REQUEST_MS);
  try {
    const header = await readExactly(stream, FORWARD_HEADER_LENGTH);
    const text = await readExactly(stream, forwardTextLength(header));
    return decodeForwardRequest(concat(header, text));
  } finally {
    timer.clear();
  }
}

async function readExactly(stream: SessionStream, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = await stream.read(bytes.subarray(filled));
    if (count === null) throw malformed("forward request", "it ends early");
    filled += count;
  }
  return bytes;
}

/** Until the stream is reset: its place is free for another one then. */
async function connect(
  request: Exclude<ForwardRequest, { kind: "udp" }>,
  stream: SessionStream,
  { targets, rules, network, stopped }: Offer,
): Promise<ByteStream> {
  using deadline = new Deadline(CONNECT_MS, stopped);
  stream.finished.catch((reason) => deadline.expire(reason));
  if (request.kind === "dial") return await dial(request, rules, network, deadline.signal);
  const target = request.name === ""
    ? targets[0]
    : targets.find(({ name }) => name === request.name);
  if (target === undefined) {
    throw targets.length === 0
      ? new NotOfferedError(request.name || "the first port", "no port is offered")
      : new NotOfferedError(request.name);
  }
  return await target.connect(deadline.signal);
}

function toTarget(target: number | ForwardTarget, network: Network): ForwardTarget {
  if (typeof target !== "number") return target;
  return {
    name: `${target}`,
    connect: (signal) =>
      network.connectTcp({ ip: "127.0.0.1", port: target }, {
        signal,
        firstReadBytes: FIRST_COPY_BYTES,
      }),
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
  { host, port }: Rule,
  rules: readonly Rule[],
  network: Network,
  signal: AbortSignal,
): Promise<ByteStream> {
  const ip = asIp(host);
  const isNamed = (name: string) => rules.some((rule) => rule.host === name && rule.port === port);
  const isOffered = isNamed(ip ?? host) || isNamed("*");
  if (!isOffered) throw new NotOfferedError(hostName({ host, port }));
  const addresses = ip === undefined ? await resolveAll(host, network, signal) : [ip];
  let failure: unknown;
  for (const address of addresses) {
    if (!isNamed(address) && await isInside(address, network, signal)) {
      // An address that is asked for shows itself; a name does not show where it leads.
      failure ??= ip === undefined
        ? new NotOfferedError(hostName({ host, port }), `${address} must be allowed by its address`)
        : new NotOfferedError(hostName({ host, port }));
      continue;
    }
    try {
      return await network.connectTcp({ ip: address, port }, {
        signal,
        firstReadBytes: FIRST_COPY_BYTES,
      });
    } catch (error) {
      signal.throwIfAborted();
      failure = error;
    }
  }
  throw failure;
}

/** As {@linkcode formatTransportAddress}, also for a name. */
function hostName({ host, port }: Rule): string {
  return asIp(host) === undefined ? `${host}:${port}` : formatTransportAddress({ ip: host, port });
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
    closeStream(local);
  }
  return which;
}

/**
 * Without `pipeTo`, which costs a chunk and several promises for each read. The buffer grows with what is read: a hundred
 * short connections at once would leave 26 MB to the garbage collector.
 */
async function copy({ from, to, onBroken, names: [source, target] }: {
  readonly from: ByteStream;
  readonly to: ByteStream;
  readonly onBroken: (which: "peer" | "local") => void;
  readonly names: readonly ["peer" | "local", "peer" | "local"];
}): Promise<void> {
  let buffer = new Uint8Array(FIRST_COPY_BYTES);
  let breaks = source;
  try {
    for (;;) {
      breaks = source;
      const length = await from.read(buffer);
      breaks = target;
      if (length === null) return await to.closeWrite();
      let written = await to.write(buffer.subarray(0, length));
      while (written < length) written += await to.write(buffer.subarray(written, length));
      if (length === buffer.length && length < COPY_BYTES) buffer = new Uint8Array(COPY_BYTES);
    }
  } catch {
    onBroken(breaks);
  }
}

function broken(which: "peer" | "local"): NetworkError {
  const end = which === "peer" ? "the other side" : "this side";
  return new NetworkError(`Cannot forward: the connection of ${end} broke`, "reset");
}

/** Chosen by us: the request is in the first record of its stream. */
const REQUEST_MS = 10_000;

/** Chosen by us: as long as a system tries to connect before most people give up. */
const CONNECT_MS = 20_000;

/** Chosen by us: a request, and most answers. */
export const FIRST_COPY_BYTES = 16_384;

/** Chosen by us: as much as one read of a socket returns. */
const COPY_BYTES = 65_536;
