/**
 * Outages: what happens to a connection when one of its sides dies, or the network changes.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { nat } from "../../kernel/topology.ts";
import { HostCommand } from "./host_command.ts";
import { PeerLab, RENDEZVOUS_URL, STUN_ADDRESSES } from "./peer_lab.ts";

/** Something that happens to an idle connection, and what is expected then. */
export interface Outage {
  readonly setting: string;
  readonly happens: (peers: PeerLab) => Promise<void>;
  /** The side that is killed. */
  readonly kills?: "connect" | "listen";
  /** The time limit within which each remaining side must notice. */
  readonly noticedMs: number;
  /** The time limit within which the connection must work again, or the connecting side must end with an error. */
  readonly settledMs?: number;
}

/** The result of an outage. Times are in milliseconds since it happened. */
export interface OutageResult {
  readonly setting: string;
  /** Until all remaining sides had reported that the path is lost, or that there is a new one. */
  readonly noticedMs: number;
  /**
   * Until a message had arrived at the other side, and its answer had come back. If the listening side was killed and
   * restarted with the same key: until the connecting side had ended for that reason.
   */
  readonly settledMs: number | null;
  readonly passed: boolean;
}

/** All outages, by short name. */
export const OUTAGES = {
  connectorKilled: {
    setting: "the connecting side is killed",
    happens: () => Promise.resolve(),
    kills: "connect",
    noticedMs: 1000,
  },
  listenerKilled: {
    setting: "the listening side is killed and restarted",
    happens: () => Promise.resolve(),
    kills: "listen",
    noticedMs: 1000,
    settledMs: 10_000,
  },
  powerLost: {
    setting: "the same, but its link is down for the first 15 s, so that its kernel cannot answer",
    happens: ({ lab }) => lab.outage("b", { forMs: 15_000 }),
    kills: "listen",
    noticedMs: 11_000,
    settledMs: 30_000,
  },
  oneForgets: {
    setting: "the NAT of the connecting side forgets all mappings",
    happens: ({ lab }) => lab.nat("a/nat").flush(),
    noticedMs: 11_000,
    settledMs: 20_000,
  },
  bothForget: {
    setting: "both NATs forget all mappings",
    happens: async ({ lab }) => {
      await lab.nat("a/nat").flush();
      await lab.nat("b/nat").flush();
    },
    noticedMs: 11_000,
    settledMs: 20_000,
  },
  addressChanged: {
    setting: "the connecting side gets new addresses, inside and outside",
    happens: ({ lab }) => setAddress(lab.host("a"), 3),
    noticedMs: 11_000,
    settledMs: 20_000,
  },
  linkDown: {
    setting: "the link of the connecting side is down for 20 s",
    happens: ({ lab }) => lab.outage("a", { forMs: 20_000 }),
    noticedMs: 11_000,
    settledMs: 40_000,
  },
} as const satisfies Record<string, Outage>;

/** Connects `connect` with `listen`, exchanges a message, and lets the outage happen. */
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

/** The NATs choose ports at random, so that no connection survives a flush by itself. */
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

/** Replaces all addresses by this one. The NAT has a different external address for each. */
export async function setAddress(
  host: Pick<ReturnType<PeerLab["lab"]["host"]>, "output">,
  last: number,
  lan = LAN,
): Promise<void> {
  const { code, stderr } = await host.output("sh", [
    "-ec",
    `
      ip -4 addr flush dev tun0
      ip addr add ${lan}.${last}/24 dev tun0
      ip route add default via ${lan}.1
    `,
  ]);
  if (code !== 0) throw new Error(`Cannot change the address: ${stderr}`);
}

/** Sends a line each way. */
async function talk(a: HostCommand, b: HostCommand): Promise<void> {
  await a.write("are you there?\n");
  await b.expect("are you there?\n");
  await b.write("yes\n");
  await a.expect("yes\n");
}

/**
 * Until no acknowledgment and no probe is outstanding. A side that expects one notices an outage sooner, and the
 * worst case is of interest.
 */
const IDLE_AFTER_MS = 2000;

const RANDOM = { allocation: { kind: "random" } } as const;
const LAN = "192.168.11";
const HOME = { lan: `${LAN}.0`, addresses: ["198.51.100.11", "198.51.100.12"] };
