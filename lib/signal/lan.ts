/**
 * Signalling within a LAN, without any server: by multicast.
 *
 * @module
 */

import {
  ByteReader,
  concat,
  equalBytes,
  fromBase64url,
  toBase64url,
  toHex,
} from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { TokenBucket } from "../base/rate_limiter.ts";
import { ipFamily, ipScope } from "../net/address.ts";
import type { Datagram, Network, UdpSocket } from "../net/network.ts";
import { requirePublishable, type TopicListener, TopicListeners, topicToBytes } from "./topic.ts";
import type { OpenSignalingOptions, SignalingConnection, SignalTransport } from "./transport.ts";

/** One datagram. */
export interface LanMessage {
  /** 16 hexadecimal digits: what is said again is another datagram, what comes over two interfaces is the same. */
  readonly id: string;
  /** 22 characters of base64url. */
  readonly topic: string;
  readonly message: Uint8Array;
}

/**
 * The bytes of a datagram.
 *
 * @param id 8 random bytes
 * @throws {TypeError} if the topic is none
 */
export function encodeLanMessage(
  id: Uint8Array,
  topicText: string,
  message: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const topic = fromBase64url(topicText);
  if (topic?.length !== TOPIC_BYTES || id.length !== ID_BYTES) {
    throw new TypeError(`Cannot use topic ${JSON.stringify(topicText)}: it is none`);
  }
  return concat(MAGIC, id, topic, message);
}

/**
 * Reads a datagram.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeLanMessage(bytes: Uint8Array): LanMessage {
  const reader = new ByteReader(bytes, "LAN message");
  if (!equalBytes(reader.bytes(MAGIC.length, "magic"), MAGIC)) {
    throw new MalformedMessageError("Cannot read LAN message: it is of another program");
  }
  const id = toHex(reader.bytes(ID_BYTES, "id"));
  const topic = toBase64url(reader.bytes(TOPIC_BYTES, "topic"));
  return { id, topic, message: reader.bytes(reader.remaining, "message") };
}

/** "PNC", and version 1. */
const MAGIC = Uint8Array.of(0x50, 0x4e, 0x43, 1);
const TOPIC_BYTES = 16;

/** How long an id is. */
export const ID_BYTES = 8;

/**
 * Everybody on this host's links, and on this host. Where the interfaces are not known, for lack of a permission, it is
 * the link that the system prefers for multicast. Ends, as lost, when this host gets other addresses.
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
      const listener = stack.use(await listen(network, ips));
      const speakers = await anyOf(
        ips,
        (ip) => network.bindUdp({ ip, port: 0 }, { multicast: {} }),
      );
      for (const speaker of speakers) stack.use(speaker);
      signal?.throwIfAborted();
      stack.move();
      return new LanSignaling(network, ips, { listener, speakers });
    },
  };
}

class LanSignaling implements SignalingConnection {
  readonly url = LAN_URL;
  readonly finished: Promise<void>;
  readonly #network: Network;
  readonly #ips: readonly string[];
  readonly #listener: UdpSocket;
  readonly #speakers: readonly UdpSocket[];
  readonly #listeners = new TopicListeners();
  readonly #known = new Recent<true>(MAX_KNOWN);
  readonly #buckets = new Recent<TokenBucket>(MAX_SOURCES);
  readonly #looking: ReturnType<typeof setInterval>;
  #failure: NetworkError | undefined;

  /** @param ips what it was opened for */
  constructor(
    network: Network,
    ips: readonly string[],
    { listener, speakers }: { listener: UdpSocket; speakers: readonly UdpSocket[] },
  ) {
    this.#network = network;
    this.#ips = ips;
    this.#listener = listener;
    this.#speakers = speakers;
    this.#looking = setInterval(() => this.check(), LOOK_MS);
    this.finished = this.#receiveAll();
    this.finished.catch(() => {}); // whoever waits for it is told; nobody may
  }

  check(): void {
    this.#look().catch(() => {}); // not known is not changed
  }

  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    if (this.#failure !== undefined) throw this.#failure;
    const id = crypto.getRandomValues(new Uint8Array(ID_BYTES));
    const datagram = encodeLanMessage(id, topic, message);
    this.#known.set(digest(datagram), true); // it comes back to whoever says it
    const sent = await Promise.allSettled(
      this.#speakers.map((socket) => socket.send(datagram, { ip: LAN_GROUP, port: LAN_PORT })),
    );
    // A link that is down does not matter while there is another.
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
    topicToBytes(topic);
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    this.#listeners.add(topic, onMessage);
    return {
      [Symbol.asyncDispose]: async () => void await this.#listeners.remove(topic, onMessage),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(new NetworkError(`Cannot use ${LAN_URL}: it is closed`, "closed"));
    await this.finished.catch(() => {});
  }

  /** What was joined on an interface that is gone is not joined on the next. */
  async #look(): Promise<void> {
    const ips = await interfaceIps(this.#network);
    if (ips.length === this.#ips.length && ips.every((ip) => this.#ips.includes(ip))) return;
    this.#end(new NetworkError(`Cannot use ${LAN_URL}: this host has other addresses`, "reset"));
  }

  #end(failure: NetworkError): void {
    this.#failure ??= failure;
    clearInterval(this.#looking);
    this.#listener.close();
    for (const socket of this.#speakers) socket.close();
  }

  async #receiveAll(): Promise<void> {
    try {
      for (;;) this.#accept(await this.#listener.receive());
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      this.#end(error);
      if (this.#failure!.reason !== "closed") throw this.#failure;
    }
  }

  /** What costs least comes first. */
  #accept({ data, from }: Datagram): void {
    if (!this.#isAllowed(from.ip)) return;
    const said = tryDecode(data);
    if (said === undefined || !this.#listeners.has(said.topic)) return;
    // Of the whole: somebody who is faster could make us take the id for known.
    const name = digest(data);
    if (this.#known.get(name)) return;
    this.#known.set(name, true);
    this.#listeners.deliver(said.topic, said.message);
  }

  #isAllowed(ip: string): boolean {
    const nowMs = performance.now();
    const bucket = this.#buckets.get(ip) ?? new TokenBucket(ALLOWANCE, nowMs);
    this.#buckets.set(ip, bucket);
    return bucket.take(nowMs);
  }
}

/** What was seen lately. */
class Recent<T> {
  readonly #capacity: number;
  readonly #values = new Map<string, T>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: T): void {
    this.#values.delete(key);
    this.#values.set(key, value);
    const [oldest] = this.#values.keys();
    if (this.#values.size > this.#capacity) this.#values.delete(oldest!);
  }
}

function digest(datagram: Uint8Array): string {
  return toHex(hash("sha256", datagram));
}

function tryDecode(datagram: Uint8Array): LanMessage | undefined {
  try {
    return decodeLanMessage(datagram);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined; // the group may be in use for something else
    throw error;
  }
}

/** On as many of the interfaces as can be listened on. */
async function listen(network: Network, ips: readonly string[]): Promise<UdpSocket> {
  const join = (ips: readonly string[]) =>
    network.bindUdp({ ip: "0.0.0.0", port: LAN_PORT }, {
      multicast: { groups: ips.map((interfaceIp) => ({ group: LAN_GROUP, interfaceIp })) },
    });
  try {
    return await join(ips);
  } catch (error) {
    if (!(error instanceof NetworkError) || ips.length === 1) throw error;
  }
  const able = await anyOf(ips, async (ip) => {
    using _joined = await join([ip]);
    return ip;
  });
  return await join(able);
}

/** What comes of those interfaces with which something can be done: one may have gone, or take no multicast. */
async function anyOf<T>(ips: readonly string[], job: (ip: string) => Promise<T>): Promise<T[]> {
  const tried = await Promise.allSettled(ips.map(job));
  const done = tried.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
  const failed = tried.find((each) => each.status === "rejected");
  if (done.length === 0 && failed !== undefined) throw failed.reason;
  return done;
}

/**
 * This host's IPv4 addresses, one for each link, as a group is joined on an interface once; or the wildcard if that is
 * all that is known.
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

/** How tickets name it. */
export const LAN_URL = "lan:";

/** Ours: of those that an organisation may use as it likes (RFC 2365 §6.2). */
export const LAN_GROUP = "239.255.80.67";

/** Ours: of the dynamic ports, which nobody owns (RFC 6335 §6). */
export const LAN_PORT = 50_672;

/** Ours; beyond it hosts have virtual interfaces that nobody else is on. */
const MAX_INTERFACES = 8;

/** Ours: how soon a host that was carried to another network is heard of there. */
const LOOK_MS = 15_000;

/** Of one source. Ours: some dozen peers that connect at the same time, over as many interfaces. */
const ALLOWANCE = { burst: 1024, perSecond: 256 };

/** Ours: a busy LAN. Of more, those that were heard least lately have a new allowance. */
const MAX_SOURCES = 256;

/** Ours: what a few peers say in some seconds. */
const MAX_KNOWN = 1024;
