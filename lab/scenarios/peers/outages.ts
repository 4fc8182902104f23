/**
 * What becomes of a connection when one of its sides dies, or the network below it changes.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { nat } from "../../kernel/topology.ts";
import { HostCommand } from "./host_command.ts";
import { PeerLab, RENDEZVOUS_URL, STUN_ADDRESSES } from "./peer_lab.ts";

/** Something that happens to a connection while nobody says anything, and what is expected then. */
export interface Outage {
  readonly setting: string;
  readonly happens: (peers: PeerLab) => Promise<void>;
  /** The side that is killed. */
  readonly kills?: "connect" | "listen";
  /** Within which time each side that is left has noticed. */
  readonly noticedMs: number;
  /** Within which time the connection goes on, or the side that has connected is told that it cannot. */
  readonly settledMs?: number;
}

/** What came of it. Times are in milliseconds from when it happened. */
export interface OutageResult {
  readonly setting: string;
  /** Until all who are left had said that the path is lost, or that there is another one. */
  readonly noticedMs: number;
  /**
   * Until something that was written then was at the other side, and the answer back; where the listening side was
   * killed and started again with the same key, until the other one had ended for that reason.
   */
  readonly settledMs: number | null;
  readonly passed: boolean;
}

/** All that is tried, by a short name. */
export const OUTAGES = {
  connectorKilled: {
    setting: "the connecting side is killed",
    happens: () => Promise.resolve(),
    kills: "connect",
    noticedMs: 1000,
  },
  listenerKilled: {
    setting: "the listening side is killed, and started again",
    happens: () => Promise.resolve(),
    kills: "listen",
    noticedMs: 1000,
    settledMs: 10_000,
  },
  powerLost: {
    setting: "the same, but its link is dead for the first 15 s, so that its kernel says nothing",
    happens: ({ lab }) => lab.outage("b", { forMs: 15_000 }),
    kills: "listen",
    noticedMs: 11_000,
    settledMs: 30_000,
  },
  oneForgets: {
    setting: "the NAT of the connecting side forgets everything",
    happens: ({ lab }) => lab.nat("a/nat").flush(),
    noticedMs: 11_000,
    settledMs: 20_000,
  },
  bothForget: {
    setting: "both NATs forget everything",
    happens: async ({ lab }) => {
      await lab.nat("a/nat").flush();
      await lab.nat("b/nat").flush();
    },
    noticedMs: 11_000,
    settledMs: 20_000,
  },
  addressChanged: {
    setting: "the connecting side gets another address, inside and outside",
    happens: ({ lab }) => setAddress(lab.host("a"), 3),
    noticedMs: 11_000,
    settledMs: 20_000,
  },
  linkDown: {
    setting: "the link of the connecting side is dead for 20 s",
    happens: ({ lab }) => lab.outage("a", { forMs: 20_000 }),
    noticedMs: 11_000,
    settledMs: 40_000,
  },
} as const satisfies Record<string, Outage>;

/** Connects by `connect` and `listen`, says something, and lets it happen. */
export async function runOutage(outage: Outage): Promise<OutageResult> {
  const folder = await Deno.makeTempDir({ prefix: "outage-" });
  try {
    await using peers = await startLab();
    const servers = STUN_ADDRESSES.flatMap((server) => ["--server", server]);
    const startListener = () => {
      const args = ["listen", "--key", `${folder}/key`, "--rendezvous", RENDEZVOUS_URL, ...servers];
      return new HostCommand(peers.lab.host("b"), args);
    };
    await using listener = startListener();
    const { ticket } = await listener.until("ticket");
    await using connector = new HostCommand(peers.lab.host("a"), [
      "connect",
      `${ticket}`,
      ...servers,
    ]);
    await Promise.all([connector.until("connected"), listener.until("connected")]);
    await talk(connector, listener);
    await delay(IDLE_AFTER_MS);

    const startedAtMs = performance.now();
    await outage.happens(peers);
    if (outage.kills === "connect") await connector[Symbol.asyncDispose]();
    if (outage.kills === "listen") await listener[Symbol.asyncDispose]();
    const left = [
      ...outage.kills === "connect" ? [] : [connector],
      ...outage.kills === "listen" ? [] : [listener],
    ];
    const noticed = await Promise.all(left.map((command) => command.until("lost", "path")));
    const noticedMs = Math.max(...noticed.map(({ atMs }) => atMs)) - startedAtMs;
    if (outage.kills === "listen") {
      await using _again = startListener();
      const { code } = await connector.end();
      if (code !== 1) throw new Error(`Cannot judge: connect ended with ${code}`);
    } else if (outage.kills === undefined) {
      await talk(connector, listener);
    }
    const settledMs = outage.settledMs === undefined ? null : performance.now() - startedAtMs;
    const passed = noticedMs <= outage.noticedMs && (settledMs ?? 0) <= (outage.settledMs ?? 0);
    return { setting: outage.setting, noticedMs, settledMs, passed };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Mappings that are forgotten come back as others, so that no connection survives by itself. */
async function startLab(): Promise<PeerLab> {
  const peers = await PeerLab.start({
    internet: { rttMs: 50 },
    hosts: {
      a: { addresses: [2, 3].map((n) => `${LAN}.${n}`), behind: nat(RANDOM, HOME) },
      b: { behind: nat(RANDOM) },
    },
  });
  await setAddress(peers.lab.host("a"), 2);
  return peers;
}

/** Takes away all other addresses; the NAT outside gives each one of its own. */
async function setAddress(
  host: Pick<ReturnType<PeerLab["lab"]["host"]>, "output">,
  last: number,
): Promise<void> {
  const { code, stderr } = await host.output("sh", [
    "-ec",
    `
      ip addr flush dev tun0
      ip addr add ${LAN}.${last}/24 dev tun0
      ip route add default via ${LAN}.1
    `,
  ]);
  if (code !== 0) throw new Error(`Cannot change the address: ${stderr}`);
}

/** A line each way. */
async function talk(a: HostCommand, b: HostCommand): Promise<void> {
  await a.say("anybody there?\n");
  await b.prints("anybody there?\n");
  await b.say("yes\n");
  await a.prints("yes\n");
}

/**
 * Until nobody owes anybody an acknowledgement, or is asked why the stream has stopped: what is owed is missed sooner, and
 * it is the worst case that is of interest.
 */
const IDLE_AFTER_MS = 2000;

const RANDOM = { allocation: { kind: "random" } } as const;
const LAN = "192.168.11";
const HOME = { lan: `${LAN}.0`, addresses: ["198.51.100.11", "198.51.100.12"] };
