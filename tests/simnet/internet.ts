/**
 * A simulated internet in one process: hosts, each with a {@linkcode Network}, links with delay and loss, NATs
 * and firewalls. Only the code under test is real. Time comes from the
 * platform's timers, so that {@linkcode VirtualTime} runs it as fast as the processor can, and randomness from
 * a seed, so that every run is the same. The lab in lab/kernel is the same with real kernels.
 *
 * ```ts
 * using time = new VirtualTime();
 * const internet = new Internet({ seed: 1 });
 * const home = internet.router("home", { behavior: NAT_BEHAVIORS.portRestricted });
 * const alice = internet.host("alice", { behind: home, link: { delayMs: 5 } });
 * const server = internet.host("server", { addresses: ["203.0.113.9", "203.0.113.10"] });
 * await time.run(async () => {
 *   using socket = await alice.network.bindUdp({ ip: "0.0.0.0", port: 0 });
 *   await socket.send(request, { ip: "203.0.113.9", port: 3478 });
 * });
 * assertEquals(internet.openSockets(), []);
 * ```
 *
 * @module
 */

import { parseIp } from "../../lib/net/address.ts";
import { Host, type HostOptions } from "./host.ts";
import { Link, type LinkBehavior } from "./link.ts";
import { labelledRandom, type Random } from "./random.ts";
import { Router, type RouterOptions } from "./router.ts";
import { type Observe, type PacketEvent, Subnet } from "./subnet.ts";

/** The settings of an {@linkcode Internet}. */
export interface InternetOptions {
  /** Seeds all randomness: loss, jitter, ports. Default: 1. */
  readonly seed?: number;
  /** How long names take to resolve. Default: 0. */
  readonly resolveMs?: number;
}

/** The whole network. */
export class Internet {
  /** Addresses by host name. */
  readonly names = new Map<string, readonly string[]>();
  /** Receives every packet event. */
  onPacket: ((event: PacketEvent) => void) | undefined;
  readonly #seed: number;
  readonly #resolveMs: number;
  readonly #hosts: Host[] = [];
  readonly #addresses = new Map<Subnet, AddressPool>();
  readonly #core: Subnet;
  #lans = 0;

  constructor(options: InternetOptions = {}) {
    this.#seed = options.seed ?? 1;
    this.#resolveMs = options.resolveMs ?? 0;
    this.#core = new Subnet("internet", this.#observe);
    this.#addresses.set(this.#core, new AddressPool("203.0.113", { hasGateway: false }));
  }

  /** Adds a host. Names must be unique, because they seed the host's randomness. */
  host(name: string, options: HostOptions = {}): Host {
    const outside = options.behind?.inside ?? this.#core;
    const host = new Host(name, {
      addresses: options.addresses?.map(parseIp) ?? [this.#addressIn(outside)],
      reusePort: options.reusePort ?? false,
      closedPorts: options.closedPorts ?? "reset",
      fault: options.fault,
      gateways: options.gateways ?? this.#addresses.get(outside)!.gateways,
      outside,
      link: this.#link(name, options.link),
      random: this.#random(name),
      observe: this.#observe,
      lookUp: (hostname, signal) => this.#lookUp(hostname, signal),
    });
    this.#hosts.push(host);
    return host;
  }

  /** Adds a router: a NAT, or a firewall. */
  router(name: string, options: RouterOptions): Router {
    const { behavior } = options;
    const outside = options.behind?.inside ?? this.#core;
    const translates = behavior.mapping !== "none";
    const router = new Router(name, {
      behavior,
      externalIps: options.externalIps ?? (translates ? [this.#addressIn(outside)] : []),
      blocks: options.blocks ?? [],
      outside,
      link: this.#link(name, options.link),
      random: this.#random(name),
      observe: this.#observe,
    });
    const pool = translates
      ? new AddressPool(options.lan ?? `192.168.${++this.#lans}`, { hasGateway: true })
      : this.#addresses.get(outside)!;
    this.#addresses.set(router.inside, pool);
    return router;
  }

  /** All open sockets of all hosts, one line each. */
  openSockets(): string[] {
    return this.#hosts.flatMap((host) => host.openSockets());
  }

  readonly #observe: Observe = (at, what, packet) => {
    this.onPacket?.({ atMs: performance.now(), at, what, packet });
  };

  #addressIn(subnet: Subnet): string {
    return this.#addresses.get(subnet)!.next();
  }

  #link(name: string, behavior: LinkBehavior = {}): Link {
    return new Link(behavior, (direction) => this.#random(`${name} ${direction}`));
  }

  #random(label: string): Random {
    return labelledRandom(this.#seed, label);
  }

  async #lookUp(hostname: string, signal?: AbortSignal): Promise<readonly string[]> {
    if (this.#resolveMs > 0) await wait(this.#resolveMs, signal);
    return this.names.get(hostname) ?? [];
  }
}

/** Assigns addresses one after another, from .2. A test that needs the gateway, .1, adds a host for it. */
class AddressPool {
  readonly gateways: readonly string[];
  readonly #prefix: string;
  #last = 1;

  constructor(prefix: string, { hasGateway }: { hasGateway: boolean }) {
    this.#prefix = prefix;
    this.gateways = hasGateway ? [`${prefix}.1`] : [];
  }

  next(): string {
    return `${this.#prefix}.${++this.#last}`;
  }
}

function wait(delayMs: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, delayMs);
  signal?.addEventListener("abort", () => {
    clearTimeout(timer);
    reject(signal.reason);
  }, { once: true });
  return promise;
}
