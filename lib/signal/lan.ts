/**
 * Signaling within a LAN, without a server: by multicast.
 *
 * ```text
 * magic and version 1 (4) | id (8) | topic (16) | message
 * magic and version 2 (4) | id (8) | topic (16) | index (1) | count (1) | part of a longer message
 * ```
 *
 * @module
 */

import { ByteReader, concat, equalBytes, toBase64url, toHex } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { malformed, NetworkError, undefinedIfMalformed } from "../base/errors.ts";
import { TokenBucket } from "../base/rate_limiter.ts";
import { optionalResolvers } from "../base/tasks.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
} from "../net/address.ts";
import type { Datagram, Network, UdpSocket } from "../net/network.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";
import {
  type OpenSignalingOptions,
  requirePublishable,
  requireSubscribable,
  type SignalingConnection,
  type SignalTransport,
  TOPIC_BYTES,
  type TopicListener,
  TopicListeners,
  topicToBytes,
} from "./transport.ts";

/**
 * Reaches every peer on this host's links, and on this host itself. If the interfaces are not known, for lack of a
 * permission, it uses the link that the system prefers for multicast. The connection is lost when this host's addresses
 * change; `openSignaling()` opens it again.
 *
 * @example
 * ```ts ignore
 * import { lanTransport } from "@punchline/punchline/signal";
 *
 * await using peer = await Peer.open({ signaling: [lanTransport()] }); // or "lan:"
 * ```
 */
export function lanTransport(): SignalTransport {
  return {
    url: LAN_URL,
    open: async ({ network, signal }: OpenSignalingOptions): Promise<SignalingConnection> => {
      signal?.throwIfAborted();
      const ips = await interfaceIps(network);
      await using stack = new AsyncDisposableStack();
      const receiver = stack.use(await joinGroup(network, ips));
      const senders = await onEach(ips, (ip) => {
        return network.bindUdp({ ip, port: 0 }, { multicast: {} });
      });
      for (const sender of senders) stack.use(sender);
      signal?.throwIfAborted();
      stack.move();
      return new LanSignaling(network, ips, { receiver, senders });
    },
  };
}

class LanSignaling implements SignalingConnection {
  readonly url = LAN_URL;
  readonly finished: Promise<void>;
  readonly #network: Network;
  readonly #ips: readonly string[];
  readonly #receiver: UdpSocket;
  readonly #senders: readonly UdpSocket[];
  readonly #listeners = new TopicListeners();
  readonly #seen = new RecentMap<true>(MAX_SEEN);
  readonly #buckets = new RecentMap<TokenBucket>(MAX_SOURCES);
  /** Messages of which some parts have arrived, by source, id and topic. */
  readonly #partial = new RecentMap<(Uint8Array | undefined)[]>(MAX_PARTIAL);
  readonly #checking: ReturnType<typeof setInterval>;
  readonly #end = optionalResolvers<void>();
  readonly #received: Promise<void>;
  #failure: NetworkError | undefined;

  /** @param ips the addresses that it was opened for */
  constructor(
    network: Network,
    ips: readonly string[],
    { receiver, senders }: { receiver: UdpSocket; senders: readonly UdpSocket[] },
  ) {
    this.#network = network;
    this.#ips = ips;
    this.#receiver = receiver;
    this.#senders = senders;
    this.#checking = setInterval(() => this.check(), CHECK_MS);
    this.finished = this.#end.promise;
    this.#received = this.#receiveAll();
  }

  check(): void {
    this.#checkAddresses().catch(() => {}); // addresses that cannot be read have not changed
  }

  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    if (this.#failure !== undefined) throw this.#failure;
    const id = crypto.getRandomValues(new Uint8Array(ID_BYTES));
    this.#seen.set(digest(encodeLanMessage(id, topic, message)), true); // multicast comes back to the sender
    const datagrams = encodeLanDatagrams(id, topic, message);
    const sent = await Promise.allSettled(this.#senders.map(async (socket) => {
      for (const datagram of datagrams) {
        await socket.send(datagram, { ip: LAN_GROUP, port: LAN_PORT });
      }
    }));
    // A link that is down does not matter while another one is up.
    const failed = sent.find((each) => each.status === "rejected");
    if (failed !== undefined && sent.every((each) => each.status === "rejected")) {
      this.check();
      throw failed.reason;
    }
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    requireSubscribable(topic, signal);
    if (this.#failure !== undefined) throw this.#failure;
    return this.#listeners.subscribe(topic, onMessage);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new NetworkError(`Cannot use ${LAN_URL}: it is closed`, "closed"));
    await this.#received;
  }

  /** A group that was joined on one interface is not joined on the interface that replaces it. */
  async #checkAddresses(): Promise<void> {
    const ips = await interfaceIps(this.#network);
    if (ips.length === this.#ips.length && ips.every((ip) => this.#ips.includes(ip))) return;
    this.#fail(new NetworkError(`Cannot use ${LAN_URL}: this host's addresses changed`, "reset"));
  }

  #fail(failure: NetworkError): void {
    this.#failure ??= failure;
    clearInterval(this.#checking);
    this.#receiver.close();
    for (const socket of this.#senders) socket.close();
  }

  /** Never rejects: `finished` does. */
  async #receiveAll(): Promise<void> {
    try {
      for (;;) this.#accept(await this.#receiver.receive());
    } catch (error) {
      if (!(error instanceof NetworkError)) return this.#end.reject(error); // a listener threw
      this.#fail(error);
      if (this.#failure!.reason === "closed") this.#end.resolve();
      else this.#end.reject(this.#failure);
    }
  }

  /**
   * The cheapest check comes first, but what is not delivered takes nothing from the source's rate: anyone on the link, or
   * another program on the peer's host, can send in the peer's name.
   */
  #accept({ data, from }: Datagram): void {
    if (data[VERSION_AT] === PART_VERSION) return this.#acceptPart(data, from);
    const received = undefinedIfMalformed(() => decodeLanMessage(data)); // the group may have other users
    if (received === undefined || !this.#listeners.has(received.topic)) return;
    // A digest of the whole: if an id sufficed, a faster sender could copy it, and the genuine message would be dropped.
    const key = digest(data);
    if (this.#seen.get(key) || !this.#isAllowed(from.ip)) return;
    this.#seen.set(key, true);
    this.#listeners.deliver(received.topic, received.message);
  }

  #acceptPart(data: Uint8Array, from: TransportAddress): void {
    const part = undefinedIfMalformed(() => decodeLanPart(data));
    if (part === undefined || !this.#listeners.has(part.topic)) return;
    const { id, topic, index, count } = part;
    const key = `${formatTransportAddress(from)} ${toHex(id)} ${topic} ${count}`;
    let parts = this.#partial.get(key);
    if (parts === undefined) {
      if (!this.#isAllowed(from.ip)) return;
      parts = Array.from({ length: count }, () => undefined);
      this.#partial.set(key, parts);
    }
    parts[index] ??= part.chunk;
    const complete = parts.filter((each) => each !== undefined);
    if (complete.length < count) return;
    this.#partial.delete(key);
    const message = concat(...complete);
    const whole = digest(encodeLanMessage(id, topic, message));
    if (message.length > MAX_SIGNAL_BYTES || this.#seen.get(whole)) return;
    this.#seen.set(whole, true);
    this.#listeners.deliver(topic, message);
  }

  #isAllowed(ip: string): boolean {
    const nowMs = performance.now();
    const bucket = this.#buckets.get(ip) ?? new TokenBucket(SOURCE_RATE, nowMs);
    this.#buckets.set(ip, bucket);
    return bucket.take(nowMs);
  }
}

/** The values that were set last, up to a number of them. */
class RecentMap<T> {
  readonly #capacity: number;
  readonly #values = new Map<string, T>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  delete(key: string): void {
    this.#values.delete(key);
  }

  set(key: string, value: T): void {
    this.#values.delete(key);
    this.#values.set(key, value);
    const [oldest] = this.#values.keys();
    if (this.#values.size > this.#capacity) this.#values.delete(oldest!);
  }
}

/** One datagram. */
export interface LanMessage {
  /** 16 hexadecimal digits: copies that arrive over two interfaces share it, a message that is repeated does not. */
  readonly id: string;
  /** 22 characters of base64url. */
  readonly topic: string;
  readonly message: Uint8Array;
}

/**
 * The bytes of a datagram.
 *
 * @param id 8 random bytes
 * @throws {TypeError} if the topic is not one
 */
export function encodeLanMessage(
  id: Uint8Array,
  topic: string,
  message: Uint8Array,
): Uint8Array<ArrayBuffer> {
  if (id.length !== ID_BYTES) throw new TypeError(`Cannot use id: it has ${id.length} bytes`);
  return concat(MAGIC, id, topicToBytes(topic), message);
}

/**
 * Reads a datagram.
 *
 * @throws {MalformedMessageError} if it is too short or belongs to another program
 */
export function decodeLanMessage(bytes: Uint8Array): LanMessage {
  const reader = new ByteReader(bytes, "LAN message");
  if (!equalBytes(reader.bytes(MAGIC.length, "magic"), MAGIC)) {
    throw malformed("LAN message", "magic belongs to another program or version");
  }
  const id = toHex(reader.bytes(ID_BYTES, "id"));
  const topic = toBase64url(reader.bytes(TOPIC_BYTES, "topic"));
  return { id, topic, message: reader.bytes(reader.remaining, "message") };
}

/** A part of a message that is too long for one datagram. */
export interface LanPart {
  /** The same for all parts of a message. */
  readonly id: Uint8Array;
  readonly topic: string;
  /** From 0. */
  readonly index: number;
  /** From 2 to {@linkcode MAX_PARTS}. */
  readonly count: number;
  readonly chunk: Uint8Array;
}

/** The datagrams of a message, none longer than {@linkcode MAX_LAN_DATAGRAM_BYTES}. */
export function encodeLanDatagrams(
  id: Uint8Array,
  topic: string,
  message: Uint8Array,
): Uint8Array<ArrayBuffer>[] {
  const whole = encodeLanMessage(id, topic, message);
  if (whole.length <= MAX_LAN_DATAGRAM_BYTES) return [whole];
  const count = Math.ceil(message.length / CHUNK_BYTES);
  return Array.from({ length: count }, (_, index) => {
    const head = Uint8Array.of(...MAGIC.subarray(0, VERSION_AT), PART_VERSION);
    const chunk = message.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
    return concat(head, id, topicToBytes(topic), Uint8Array.of(index, count), chunk);
  });
}

/**
 * Reads a part.
 *
 * @throws {MalformedMessageError} if it is too short or too long, belongs to another program, or cannot be a part
 */
export function decodeLanPart(bytes: Uint8Array): LanPart {
  const reader = new ByteReader(bytes, "LAN part");
  const head = reader.bytes(MAGIC.length, "magic");
  if (head[VERSION_AT] !== PART_VERSION || !equalBytes(head.subarray(0, VERSION_AT), NAME)) {
    throw malformed("LAN part", "magic belongs to another program or version");
  }
  const id = reader.bytes(ID_BYTES, "id");
  const topic = toBase64url(reader.bytes(TOPIC_BYTES, "topic"));
  const index = reader.bytes(1, "index")[0]!;
  const count = reader.bytes(1, "count")[0]!;
  const chunk = reader.bytes(reader.remaining, "chunk");
  if (count < 2 || count > MAX_PARTS) {
    throw malformed("LAN part", `count must be 2 to ${MAX_PARTS}`);
  }
  if (index >= count) throw malformed("LAN part", "index must be less than count");
  const isLast = index === count - 1;
  if (isLast ? chunk.length === 0 || chunk.length > CHUNK_BYTES : chunk.length !== CHUNK_BYTES) {
    throw malformed("LAN part", `a chunk has ${CHUNK_BYTES} bytes, and the last one the rest`);
  }
  return { id, topic, index, count, chunk };
}

/** Whether the decoder would read it. Errors are costly, so a flood of junk must not reach the decoder. */
function mayBeLanMessage(data: Uint8Array): boolean {
  return data.length >= MAGIC.length + ID_BYTES + TOPIC_BYTES &&
    NAME.every((byte, index) => data[index] === byte) &&
    (data[VERSION_AT] === MAGIC[VERSION_AT] || data[VERSION_AT] === PART_VERSION);
}

function digest(datagram: Uint8Array): string {
  return toHex(hash("sha256", datagram));
}

/** A socket that has joined the group on as many of the interfaces as possible. */
async function joinGroup(network: Network, ips: readonly string[]): Promise<UdpSocket> {
  const join = (ips: readonly string[]) =>
    network.bindUdp({ ip: "0.0.0.0", port: LAN_PORT }, {
      accepts: mayBeLanMessage,
      multicast: { groups: ips.map((interfaceIp) => ({ group: LAN_GROUP, interfaceIp })) },
    });
  try {
    return await join(ips);
  } catch (error) {
    if (!(error instanceof NetworkError) || ips.length === 1) throw error;
  }
  const joinable = await onEach(ips, async (ip) => {
    using _joined = await join([ip]);
    return ip;
  });
  return await join(joinable);
}

/**
 * The results from those interfaces on which the job succeeds: one may be gone, or not support multicast.
 *
 * @throws the first failure if the job fails on all of them
 */
async function onEach<T>(ips: readonly string[], job: (ip: string) => Promise<T>): Promise<T[]> {
  const results = await Promise.allSettled(ips.map(job));
  const done = results.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
  const failed = results.find((each) => each.status === "rejected");
  if (done.length === 0 && failed !== undefined) throw failed.reason;
  return done;
}

/**
 * This host's IPv4 addresses, one per interface, as a group is joined once on each; or the wildcard address if the
 * interfaces are not known.
 */
async function interfaceIps(network: Network): Promise<string[]> {
  const byInterface = new Map<string, string>();
  for (const { interfaceName, ip } of await network.localAddresses() ?? []) {
    if (ipFamily(ip) !== 4 || ipScope(ip) === "loopback") continue;
    if (!byInterface.has(interfaceName)) byInterface.set(interfaceName, ip);
  }
  const ips = [...byInterface.values()];
  return ips.length > 0 ? ips.slice(0, MAX_INTERFACES) : ["0.0.0.0"];
}

/** How tickets name this transport. */
const LAN_URL = "lan:";

/** Chosen by us from the addresses that an organization may use as it likes (RFC 2365 §6.2). */
export const LAN_GROUP = "239.255.80.67";

/** Chosen by us from the dynamic ports, which are never assigned (RFC 6335 §6). */
export const LAN_PORT = 50_672;

/** "PNC", and version 1. */
const MAGIC = Uint8Array.of(0x50, 0x4e, 0x43, 1);
const NAME = MAGIC.subarray(0, 3);
const VERSION_AT = 3;

/** In place of version 1, for a part of a message. */
const PART_VERSION = 2;

const ID_BYTES = 8;

/** What fits the smallest MTU that a link may have (RFC 8200 §5), with the headers of IPv4 and UDP. */
export const MAX_LAN_DATAGRAM_BYTES = 1252;

const CHUNK_BYTES = MAX_LAN_DATAGRAM_BYTES - MAGIC.length - ID_BYTES - TOPIC_BYTES - 2;

/** Enough for the longest message. */
const MAX_PARTS: number = Math.ceil(MAX_SIGNAL_BYTES / CHUNK_BYTES);

/** Chosen by us: the parts of a message are sent together, so few messages are incomplete at a time. */
const MAX_PARTIAL = 64;

/** Chosen by us: hosts with more have virtual interfaces that reach no other host. */
const MAX_INTERFACES = 8;

/** Chosen by us: how soon a host that has moved to another network can be reached there. */
const CHECK_MS = 15_000;

/**
 * New messages of one source, of topics that have a listener. Chosen by us: some dozen peers that connect at the same time,
 * over as many interfaces.
 */
const SOURCE_RATE = { burst: 1024, perSecond: 256 };

/** Chosen by us: a busy LAN. Beyond it, the source that has been silent longest starts with a full bucket again. */
const MAX_SOURCES = 256;

/** Chosen by us: what a few peers publish in some seconds. */
const MAX_SEEN = 1024;
