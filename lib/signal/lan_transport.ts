/**
 * Signalling within a LAN, without any server: by multicast.
 *
 * @module
 */

import { toHex } from "../bytes.ts";
import { MalformedMessageError, NetworkError } from "../errors.ts";
import { ipFamily, ipScope } from "../net/address.ts";
import type { Network, UdpSocket } from "../net/network.ts";
import type { OpenBusOptions, SignalBus, SignalTransport } from "./bus.ts";
import { decodeLanMessage, encodeLanMessage, ID_BYTES, type LanMessage } from "./lan_message.ts";
import {
  requirePublishable,
  requireTopic,
  type TopicListener,
  TopicSubscribers,
} from "./topic_subscribers.ts";

/**
 * Everybody on this host's links, and on this host. Where the interfaces are not known, for lack of a permission, it is
 * the link that the system prefers for multicast.
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
    open: async ({ network, signal }: OpenBusOptions): Promise<SignalBus> => {
      signal?.throwIfAborted();
      const ips = await interfaceIps(network);
      await using stack = new AsyncDisposableStack();
      const listener = stack.use(
        await network.bindUdp({ ip: "0.0.0.0", port: LAN_PORT }, {
          multicast: { groups: ips.map((interfaceIp) => ({ group: LAN_GROUP, interfaceIp })) },
        }),
      );
      const speakers: UdpSocket[] = [];
      for (const ip of ips) {
        speakers.push(stack.use(await network.bindUdp({ ip, port: 0 }, { multicast: {} })));
      }
      signal?.throwIfAborted();
      stack.move();
      return new LanBus(listener, speakers);
    },
  };
}

class LanBus implements SignalBus {
  readonly url = LAN_URL;
  readonly finished: Promise<void>;
  readonly #listener: UdpSocket;
  readonly #speakers: readonly UdpSocket[];
  readonly #subscribers = new TopicSubscribers();
  readonly #known = new RecentIds();
  readonly #closed = new NetworkError(`Cannot use ${LAN_URL}: it is closed`, "closed");
  #isClosed = false;

  constructor(listener: UdpSocket, speakers: readonly UdpSocket[]) {
    this.#listener = listener;
    this.#speakers = speakers;
    this.finished = this.#receiveAll();
    this.finished.catch(() => {}); // whoever waits for it is told; nobody may
  }

  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    if (this.#isClosed) throw this.#closed;
    const id = crypto.getRandomValues(new Uint8Array(ID_BYTES));
    this.#known.add(toHex(id)); // it comes back to whoever says it
    const datagram = encodeLanMessage(id, topic, message);
    const sent = await Promise.allSettled(
      this.#speakers.map((socket) => socket.send(datagram, { ip: LAN_GROUP, port: LAN_PORT })),
    );
    // A link that is down does not matter while there is another.
    const failed = sent.find((each) => each.status === "rejected");
    if (failed !== undefined && sent.every((each) => each.status === "rejected")) {
      throw failed.reason;
    }
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    requireTopic(topic);
    signal?.throwIfAborted();
    if (this.#isClosed) throw this.#closed;
    this.#subscribers.add(topic, onMessage);
    return {
      [Symbol.asyncDispose]: async () => void await this.#subscribers.remove(topic, onMessage),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#listener.close();
    for (const socket of this.#speakers) socket.close();
    await this.finished.catch(() => {});
  }

  async #receiveAll(): Promise<void> {
    try {
      for (;;) {
        const said = tryDecode((await this.#listener.receive()).data);
        if (said !== undefined && this.#known.add(said.id)) {
          this.#subscribers.deliver(said.topic, said.message);
        }
      }
    } catch (error) {
      if (!this.#isClosed) throw error;
    }
  }
}

/** What has been heard lately. */
class RecentIds {
  readonly #ids = new Set<string>();

  /** Whether it is a new one. */
  add(id: string): boolean {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    const [oldest] = this.#ids;
    if (this.#ids.size > MAX_IDS) this.#ids.delete(oldest!);
    return true;
  }
}

function tryDecode(datagram: Uint8Array): LanMessage | undefined {
  try {
    return decodeLanMessage(datagram);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined; // the group may be in use for something else
    throw error;
  }
}

/** This host's IPv4 addresses, one for each link, or the wildcard if that is all that is known. */
async function interfaceIps(network: Network): Promise<string[]> {
  const addresses = await network.localAddresses();
  const ips = (addresses ?? [])
    .map(({ ip }) => ip).filter((ip) => ipFamily(ip) === 4 && ipScope(ip) !== "loopback");
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

/** Ours: what a few peers say in some seconds. */
const MAX_IDS = 1024;
