/**
 * Roaming: a network changes below a connection that is idle or busy. When is it noticed, when does the connection go on,
 * and is a byte lost or repeated?
 *
 * @module
 */

import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";
import { Deadline } from "../../../lib/base/timers.ts";
import { nat } from "../../kernel/topology.ts";
import { type CommandEvent, HostCommand } from "./host_command.ts";
import { setAddress } from "./outages.ts";
import { PeerLab, RENDEZVOUS_URL, RENDEZVOUS_URL_IPV6, STUN_ADDRESSES } from "./peer_lab.ts";

/** A change of a network, and what is expected then. */
export interface Change {
  readonly setting: string;
  readonly happens: (peers: PeerLab) => Promise<void>;
  /** Whose network it is. Default: that of the side that connects. */
  readonly side?: "listen";
  /** Whether a side can see it in its own network. Otherwise a byte has to go unanswered. */
  readonly isLocal?: boolean;
  /** Whether it is over by itself, and must move nothing. */
  readonly isHarmless?: boolean;
  /** Whether b's NAT lets everything in, so that a path over UDP goes on by itself. */
  readonly isOpen?: boolean;
  /** Whether signaling goes by IPv6, which the change leaves alone. */
  readonly isSignaledByIpv6?: boolean;
  /** Whether the change is an outage, so that times count from its end. */
  readonly isOutage?: boolean;
  /** Who writes in each run. Default: all of them. */
  readonly traffic?: readonly Traffic[];
}

/**
 * Who writes while the network changes: the side that connects or the side that listens, all the time; or, over an idle
 * connection, the side whose network has changed, or the other one. A host behind a NAT that has rebooted is not reached
 * before it sends something itself, so that the last one has to wait for the next keep-alive.
 */
export type Traffic = "connect" | "listen" | "idle" | "idle, other side";

/** In this order. */
export const TRAFFIC: readonly Traffic[] = ["idle", "connect", "listen", "idle, other side"];

/** How one run went. Times are in milliseconds since the change, or since the first byte that went unanswered. */
export interface RoamingResult {
  /** Until a side reported that the path has stalled or is lost, or that there is a new one; `null` if none did. */
  readonly noticedMs: number | null;
  /** Until what was written after the change had arrived, and its answer. */
  readonly goesOnMs: number;
  /** Whether every byte arrived, once and in order. */
  readonly isWhole: boolean;
  /** What both sides reported. */
  readonly events: readonly string[];
  readonly passed: boolean;
}

/** The changes, by short name. */
export const CHANGES: Readonly<Record<string, Change>> = {
  "connect-address": {
    setting: "the connecting side gets new addresses, inside and outside",
    happens: ({ lab }) => setAddress(lab.host("a"), 3),
    isLocal: true,
  },
  "listen-address": {
    setting: "the listening side gets new addresses, inside and outside",
    happens: ({ lab }) => setAddress(lab.host("b"), 3, LANS.b),
    side: "listen",
    isLocal: true,
  },
  "open-address": {
    setting: "the connecting side gets new addresses, and the other side's NAT lets everything in",
    happens: ({ lab }) => setAddress(lab.host("a"), 3),
    isLocal: true,
    isOpen: true,
  },
  "connect-reboot": {
    setting: "the NAT of the connecting side reboots",
    happens: ({ lab }) => lab.nat("a/nat").flush(),
  },
  "listen-reboot": {
    setting: "the NAT of the listening side reboots",
    happens: ({ lab }) => lab.nat("b/nat").flush(),
    side: "listen",
  },
  "connect-renumbered": {
    setting: "the public address of the connecting side changes",
    happens: ({ lab }) => lab.nat("a/nat").renumber(),
  },
  "listen-renumbered": {
    setting: "the public address of the listening side changes",
    happens: ({ lab }) => lab.nat("b/nat").renumber(),
    side: "listen",
  },
  "connect-reboot-ipv6": {
    setting: "the NAT of the connecting side reboots, and signaling goes by IPv6 beside it",
    happens: ({ lab }) => lab.nat("a/nat").flush(4),
    isSignaledByIpv6: true,
    traffic: ["idle, other side"],
  },
  "listen-reboot-ipv6": {
    setting: "the NAT of the listening side reboots, and signaling goes by IPv6 beside it",
    happens: ({ lab }) => lab.nat("b/nat").flush(4),
    side: "listen",
    isSignaledByIpv6: true,
    traffic: ["idle, other side"],
  },
  "connect-restart": {
    setting: "the NAT of the connecting side is off for 30 s, and comes back with nothing",
    happens: (peers) => restart(peers, "a"),
    isOutage: true,
    traffic: ["idle", "idle, other side"],
  },
  "listen-restart": {
    setting: "the NAT of the listening side is off for 30 s, and comes back with nothing",
    happens: (peers) => restart(peers, "b"),
    side: "listen",
    isOutage: true,
    traffic: ["idle", "idle, other side"],
  },
  "bloat": {
    setting: "each packet of the connecting side waits for 3 s in a buffer",
    happens: async ({ lab }) => {
      await lab.setLink("a", { delayMs: BLOAT_MS / 2 });
      await delay(BLOAT_MS);
      await lab.setLink("a", {});
    },
    isHarmless: true,
  },
};

/** Connects, lets the network change, and watches what both sides say and receive. */
export async function runRoaming(
  change: Change,
  transport: "tcp" | "udp",
  traffic: Traffic,
): Promise<RoamingResult> {
  await using peers = await startLab(change);
  const rendezvous = change.isSignaledByIpv6 ? RENDEZVOUS_URL_IPV6 : RENDEZVOUS_URL;
  const servers = STUN_ADDRESSES.flatMap((server) => ["--server", server]);
  const options = [...servers, "--strategy", `punch-${transport},direct`];
  await using listener = new HostCommand(peers.lab.host("b"), [
    ...["listen", "--rendezvous", rendezvous],
    ...options,
  ]);
  const { ticket } = await listener.until("ticket");
  await using connector = new HostCommand(peers.lab.host("a"), [
    "connect",
    `${ticket}`,
    ...options,
  ]);
  await Promise.all([connector.until("connected"), listener.until("connected")]);
  const [a, b] = [new Side(connector), new Side(listener)];
  const isIdle = traffic === "idle" || traffic === "idle, other side";
  const isListener = isIdle
    ? (change.side === "listen") === (traffic === "idle")
    : traffic === "listen";
  const [writer, reader] = isListener ? [b, a] : [a, b];
  await writer.write("first");
  await reader.has(writer);
  await delay(traffic === "idle, other side" ? PINGED_MS : SETTLED_MS);

  const busy = new AbortController();
  const writing = isIdle ? undefined : writer.writeUntil(busy.signal);
  await delay(isIdle ? 0 : BUSY_MS);
  if (change.isOutage) await change.happens(peers);
  const changedAtMs = performance.now();
  if (change.isOutage) await writer.write("after the outage");
  else if (change.isLocal && isIdle) {
    await change.happens(peers);
    using deadline = new Deadline(LONGEST_MS);
    const moved = Promise.race([a.next("path", "resumed"), b.next("path", "resumed")]);
    await abortable(moved, deadline.signal).catch(() => {}); // what did not happen in time shows below
  } else await Promise.all([change.happens(peers), writer.write("after the change")]);
  await writer.write("what must arrive");
  await reader.has(writer);
  await reader.write("and the answer");
  await writer.has(reader);
  const goesOnMs = performance.now() - changedAtMs;
  busy.abort();
  await writing;
  await reader.has(writer);
  if (change.isHarmless) await delay(LATER_MS);

  const noticed = [...a.events, ...b.events].filter(({ atMs }) => atMs >= changedAtMs)
    .sort((one, other) => one.atMs - other.atMs);
  const noticedMs = noticed.length === 0 ? null : noticed[0]!.atMs - changedAtMs;
  const isWhole = a.isWhole && b.isWhole;
  const events = noticed.map(({ event, atMs }) => `${event} ${(atMs - changedAtMs).toFixed(0)}`);
  const hasMoved = noticed.some(({ event }) => event === "path" || event === "lost");
  const isUnreachable = traffic === "idle, other side" && !change.isSignaledByIpv6 &&
    !change.isLocal && !change.isOutage;
  const mostMs = GOES_ON_MS + (isUnreachable ? KEEP_ALIVE_MS : 0);
  const isNoticed = change.isOutage || noticedMs !== null && noticedMs <= NOTICED_MS;
  const passed = isWhole &&
    (change.isHarmless ? !hasMoved : isNoticed && goesOnMs <= mostMs);
  return { noticedMs, goesOnMs, isWhole, events, passed };
}

/** One end of the connection: what it has written, what it has received, and what it reported. */
class Side {
  readonly events: CommandEvent[] = [];
  readonly #command: HostCommand;
  #written = "";
  #received = "";
  #wake = () => {};
  #lines = 0;
  /** The other side's text, as far as it was compared. */
  isWhole = true;

  constructor(command: HostCommand) {
    this.#command = command;
    void this.#watch();
    void this.#read();
  }

  async write(text: string): Promise<void> {
    const line = `${this.#lines++} ${text}\n`;
    this.#written += line;
    await this.#command.write(line);
  }

  /** Writes a line each few milliseconds. */
  async writeUntil(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.write("a line among many, so that something is under way all the time");
      await delay(LINE_MS);
    }
  }

  /** Waits until it has all that the other side has written by now. */
  async has(other: Side): Promise<void> {
    const wanted = other.#written;
    while (this.#received.length < wanted.length) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    this.isWhole &&= this.#received.startsWith(wanted);
  }

  /** Waits for one of these events, from now on. */
  async next(...names: readonly string[]): Promise<void> {
    const from = this.events.length;
    while (!this.events.slice(from).some(({ event }) => names.includes(event))) await delay(5);
  }

  async #watch(): Promise<void> {
    for await (const event of this.#command.events()) {
      if (EVENTS.has(event.event)) this.events.push(event);
    }
  }

  async #read(): Promise<void> {
    for (let text = await this.#command.read(); text !== ""; text = await this.#command.read()) {
      this.#received += text;
      this.#wake();
    }
  }
}

async function restart({ lab }: PeerLab, end: "a" | "b"): Promise<void> {
  await lab.outage(`${end}/nat`, { forMs: OUTAGE_MS });
  await delay(OUTAGE_MS);
  await lab.nat(`${end}/nat`).flush();
}

/** The NATs choose ports at random, so that no connection survives a reboot by itself. */
async function startLab(
  { isOpen = false, isSignaledByIpv6 }: Pick<Change, "isOpen" | "isSignaledByIpv6">,
): Promise<PeerLab> {
  const open = isOpen ? { filtering: "endpoint-independent" } as const : {};
  const home = (end: "a" | "b", behavior: Parameters<typeof nat>[0]) => ({
    addresses: [2, 3].map((last) => `${LANS[end]}.${last}`),
    behind: nat(behavior, { lan: `${LANS[end]}.0`, addresses: POOLS[end] }),
  });
  const peers = await PeerLab.start({
    internet: { rttMs: 50 },
    ipv6: isSignaledByIpv6,
    hosts: { a: home("a", RANDOM), b: home("b", { ...RANDOM, ...open }) },
  });
  await setAddress(peers.lab.host("a"), 2, LANS.a);
  await setAddress(peers.lab.host("b"), 2, LANS.b);
  return peers;
}

/** The figures. */
export const [NOTICED_MS, GOES_ON_MS] = [1500, 3000];

const RANDOM = { allocation: { kind: "random" } } as const;
const LANS = { a: "192.168.11", b: "192.168.12" } as const;
const POOLS = {
  a: ["198.51.100.11", "198.51.100.12"],
  b: ["198.51.100.13", "198.51.100.14"],
} as const;

const EVENTS: ReadonlySet<string> = new Set(["stalled", "resumed", "path", "lost"]);

const BLOAT_MS = 3000;

/** Until nothing is under way any more. */
const SETTLED_MS = 2000;

/** The same, just after a ping: the next one is as far away as it can be. */
const PINGED_MS = 800;

/** A connection over which nothing is sent is pinged so often. */
const KEEP_ALIVE_MS = 5000;

/** How long a NAT takes to restart. */
const OUTAGE_MS = 30_000;

/** How long a busy connection has been busy, and how often it writes. */
const [BUSY_MS, LINE_MS] = [1000, 20];

/** How long a connection that should move may take, before the run goes on without that. */
const LONGEST_MS = 15_000;

/** For what a change that is over may still cause. */
const LATER_MS = 5000;
