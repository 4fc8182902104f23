/**
 * Two programs that punch, each behind a NAT of its own, in the simulated internet.
 *
 * @module
 */

import type { FamilyReport } from "../../lib/nat/behavior.ts";
import { preparePunch, punch, type PunchedConn, type PunchOptions } from "../../lib/punch/punch.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import type { NatBehavior } from "../../lab/model/nat_behavior.ts";
import { type MemoryChannelOptions, memoryChannelPair } from "../signal/memory_channel.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import type { LinkBehavior } from "../simnet/link.ts";

/** What stands between the two, and how they set about it. */
export interface Scene {
  readonly a: NatBehavior;
  readonly b: NatBehavior;
  /** Between the NATs, and from each to the STUN server. */
  readonly rttMs?: number;
  /** Of the channel, from one side to the other and back. */
  readonly signalRttMs?: number;
  readonly channel?: MemoryChannelOptions;
  /** How much later b calls. */
  readonly skewMs?: number;
  /** Whether the hosts can listen on a port that they dial from. */
  readonly reusePort?: boolean;
  /** Whether each side knows what its NAT filters and resets. */
  readonly isReported?: boolean;
  /** Whether the punch port is ready before the call. */
  readonly isWarm?: boolean;
  /** How long before the call. */
  readonly warmForMs?: number;
  /** How packets fare besides. */
  readonly link?: LinkBehavior;
  /** When a side is aborted, from a's call on. */
  readonly abortMs?: { readonly a?: number; readonly b?: number };
  readonly options?: Partial<PunchOptions>;
}

/** What each side got, and when, from b's call on. */
export interface SceneResult {
  readonly a: PunchedConn | Error;
  readonly b: PunchedConn | Error;
  readonly doneMs: number;
}

/** Plays a scene. The connections are left open. */
export async function play(internet: Internet, scene: Scene): Promise<SceneResult> {
  const { rttMs = 80, reusePort = true } = scene;
  const link = { delayMs: rttMs / 4, ...scene.link };
  const host = (name: "a" | "b") => {
    const router = internet.router(`${name}/nat`, { behavior: scene[name], link });
    return internet.host(name, { behind: router, reusePort });
  };
  return await playBetween(internet, { a: host("a"), b: host("b") }, scene);
}

/** Plays a scene between hosts that are there already; of the scene's NATs only what is reported counts then. */
export async function playBetween(
  internet: Internet,
  hosts: Readonly<Record<"a" | "b", Pick<Host, "network">>>,
  scene: Scene,
): Promise<SceneResult> {
  const { rttMs = 80, signalRttMs = 50, skewMs = 0, isWarm = false } = scene;
  const link = { delayMs: rttMs / 4, ...scene.link };
  const server = internet.host("stun", { addresses: ["203.0.113.10", "203.0.113.11"], link });
  await using _stun = await serveStun({
    network: server.network,
    address: "203.0.113.10",
    alternateAddress: "203.0.113.11",
  });
  const controllers = { a: new AbortController(), b: new AbortController() };
  const [channelA, channelB] = memoryChannelPair({ delayMs: signalRttMs / 2, ...scene.channel });
  const call = async (name: "a" | "b", options: Pick<PunchOptions, "channel" | "role">) => {
    const prepare = prepareOptions(hosts[name], scene, name);
    const base = isWarm ? await preparePunch(prepare) : undefined;
    const { signal } = controllers[name];
    return () => punch({ ...prepare, ...options, signal, ...scene.options, ...base && { base } });
  };
  const callA = await call("a", { channel: channelA, role: "controlling" });
  const callB = await call("b", { channel: channelB, role: "controlled" });
  if (scene.warmForMs) await new Promise((resolve) => setTimeout(resolve, scene.warmForMs));
  const timers = (["a", "b"] as const).map((name) => {
    const atMs = scene.abortMs?.[name];
    return atMs === undefined ? undefined : setTimeout(() => controllers[name].abort(), atMs);
  });
  const settled = (call: () => Promise<PunchedConn>) => call().catch((error: Error) => error);
  const a = settled(callA);
  if (skewMs > 0) await new Promise((resolve) => setTimeout(resolve, skewMs));
  const startedAtMs = performance.now();
  const b = settled(callB);
  const results = await Promise.all([a, b]);
  for (const timer of timers) clearTimeout(timer);
  channelA.close();
  channelB.close();
  return { a: results[0], b: results[1], doneMs: performance.now() - startedAtMs };
}

function prepareOptions({ network }: Pick<Host, "network">, scene: Scene, name: "a" | "b") {
  const report = scene.isReported === false ? null : reportOf(scene[name]);
  return { network, servers: ["203.0.113.10", "203.0.113.11:3479"], report };
}

/** What a NAT test would have said of filtering and resets. */
function reportOf(behavior: NatBehavior): FamilyReport {
  const verdict = (behavior: FamilyReport["mapping"]["behavior"]) => ({
    behavior,
    confidence: 1,
    evidence: [],
  });
  return {
    reachable: true,
    server: null,
    local: null,
    external: null,
    translated: true,
    rttMs: null,
    elapsedMs: 0,
    mapping: verdict(behavior.mapping),
    filtering: verdict(behavior.filtering),
    allocation: { kind: "unknown", delta: null, range: null },
    hairpinning: behavior.hairpinning,
    unsolicitedSyn: behavior.unsolicitedSyn === "drop" ? "dropped" : "reset",
    rfc3489Name: "",
    details: {
      allocation: {
        samples: 0,
        onlyForNeighbours: false,
        preservesParity: "unknown",
        preservesContiguity: "unknown",
      },
      rewritesPayload: "unknown",
      lifetimeSeconds: null,
      servers: [],
      packetsSent: 0,
    },
  };
}
