/**
 * Peer scenes: two peers, each behind its own NAT, in the simulated internet, and a signaling hub between them.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import type { IncomingConnection } from "../../lib/peer/incoming.ts";
import { Peer } from "../../lib/peer/peer.ts";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { SignalingConnection, SignalTransport } from "../../lib/signal/transport.ts";
import type { Nat } from "../../lab/model/nat.ts";
import { NAT_BEHAVIORS, type NatBehavior } from "../../lab/model/nat_behavior.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import type { Router } from "../simnet/router.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";
import { addHome, linkOfRoundTrip, serveSceneStun, STUN_SERVERS } from "./homes.ts";

export class TestHub implements SignalTransport {
  readonly url: string;
  readonly delayMs: number;
  readonly subscribers = new Map<string, Set<(message: Uint8Array) => void>>();
  /** Whether it cannot be opened. */
  isDown = false;
  /** Whether it delivers nothing. */
  isMute = false;
  /** How long it takes to confirm a subscription. */
  confirmMs = 0;
  readonly published: { topic: string; message: Uint8Array }[] = [];
  constructor(url = "ws://192.0.2.9:3480", delayMs = 50) {
    this.url = url;
    this.delayMs = delayMs;
  }

  /** Delivers a message, which anyone who knows the topic can publish. */
  deliver(topic: string, message: Uint8Array): void {
    if (this.isMute) return;
    for (const each of this.subscribers.get(topic) ?? []) each(message.slice());
  }

  open(): Promise<SignalingConnection> {
    if (this.isDown) return Promise.reject(new NetworkError(`${this.url} is down`, "refused"));
    const finished = Promise.withResolvers<void>();
    const subscriptions = new DisposableStack();
    return Promise.resolve({
      url: this.url,
      rttMs: this.delayMs,
      finished: finished.promise,
      publish: (topic, message) => {
        this.published.push({ topic, message });
        setTimeout(() => this.deliver(topic, message), this.delayMs);
        return Promise.resolve();
      },
      subscribe: async (topic, onMessage, { signal } = {}) => {
        const set = this.subscribers.get(topic) ?? new Set();
        this.subscribers.set(topic, set);
        set.add(onMessage);
        subscriptions.defer(() => set.delete(onMessage));
        try {
          if (this.confirmMs > 0) await delay(this.confirmMs, { signal });
        } catch (error) {
          set.delete(onMessage);
          throw error;
        }
        return {
          [Symbol.asyncDispose]: () => {
            set.delete(onMessage);
            return Promise.resolve();
          },
        };
      },
      [Symbol.asyncDispose]: () => {
        subscriptions.dispose();
        finished.resolve();
        return Promise.resolve();
      },
    });
  }
}

const { portRestricted } = NAT_BEHAVIORS;

/** The scene's STUN servers. */
export const SERVERS = STUN_SERVERS;

/** What is between the peers. */
export interface PeerSceneOptions {
  readonly a?: NatBehavior;
  readonly b?: NatBehavior;
  /** The round trip between the NATs, and from each to the STUN server. */
  readonly rttMs?: number;
  /** The virtual time that the test may take. Default: an hour. */
  readonly limitMs?: number;
}

/** What each test gets. */
export interface PeerScene {
  readonly internet: Internet;
  readonly time: VirtualTime;
  readonly hub: TestHub;
  readonly a: Host;
  readonly b: Host;
  readonly nats: { readonly a: Nat; readonly b: Nat };
  readonly routers: { readonly a: Router; readonly b: Router };
  open(host: Pick<Host, "network">, options?: PeerOptions): Promise<Peer>;
  /** Both ends of a connection from a to b. */
  connect(options?: PeerOptions): Promise<Ends>;
}

/** Two peers, and a connection between them; disposed of together. */
export interface Ends extends AsyncDisposable {
  readonly alice: Peer;
  readonly bob: Peer;
  readonly conn: PeerConnection;
  readonly other: PeerConnection;
}

/** Runs a test in virtual time. */
export async function inPeerScene(
  { a = portRestricted, b = portRestricted, rttMs = 80, limitMs = 3_600_000 }: PeerSceneOptions,
  test: (place: PeerScene) => Promise<void>,
): Promise<void> {
  await simulate(async ({ internet, time }) => {
    const link = linkOfRoundTrip(rttMs);
    await using _stun = await serveSceneStun(internet, link);
    const hub = new TestHub();
    const homeA = addHome(internet, "a", { behavior: a, link });
    const homeB = addHome(internet, "b", { behavior: b, link });
    const open: PeerScene["open"] = ({ network }, options = {}) =>
      Peer.open({
        network,
        servers: SERVERS,
        signaling: [hub],
        mapPorts: false,
        ...options,
      });
    await test({
      internet,
      time,
      hub,
      open,
      a: homeA.host,
      b: homeB.host,
      nats: { a: homeA.nat, b: homeB.nat },
      routers: { a: homeA.router, b: homeB.router },
      connect: (options) => connectBoth(open, { a: homeA.host, b: homeB.host }, options),
    });
  }, { limitMs });
}

async function connectBoth(
  open: PeerScene["open"],
  hosts: { readonly a: Host; readonly b: Host },
  options: PeerOptions = {},
): Promise<Ends> {
  const stack = new AsyncDisposableStack();
  const alice = stack.use(await open(hosts.a, { ...options, listen: false }));
  const bob = stack.use(await open(hosts.b, options));
  const accepted = nextOf(bob).then((incoming) => incoming.accept());
  const conn = stack.use(await alice.connect(bob.ticket));
  const other = stack.use(await accepted);
  return { alice, bob, conn, other, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Waits for the next incoming connection. */
export async function nextOf(peer: Peer): Promise<IncomingConnection> {
  for await (const incoming of peer) return incoming;
  throw new Error("the peer was closed");
}

/** Counts the SYNs that the host sends from now on. */
export function countSyns(internet: Internet, name: string): () => number {
  let count = 0;
  internet.onPacket = ({ at, what, packet }) => {
    if (at !== name || what !== "sent" || packet.protocol !== "tcp") return;
    if (packet.tcpFlags.syn && !packet.tcpFlags.ack) count++;
  };
  return () => count;
}
