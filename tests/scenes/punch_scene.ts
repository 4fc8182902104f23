/**
 * Punch scenes: two programs that punch, each behind its own NAT, in the simulated internet.
 *
 * @module
 */

import type { FamilyReport } from "../../lib/nat/behavior.ts";
import { preparePunch, punch, type PunchedConn, type PunchOptions } from "../../lib/punch/punch.ts";
import type { NatBehavior } from "../../lab/model/nat_behavior.ts";
import { type MemoryChannelOptions, memoryChannelPair } from "../signal/memory_channel.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import type { LinkBehavior } from "../simnet/link.ts";
import { addHome, linkOfRoundTrip, serveSceneStun, STUN_SERVERS } from "./homes.ts";

/** What is between the two programs, and how they punch. */
export interface Scene {
  readonly a: NatBehavior;
  readonly b: NatBehavior;
  /** Between the NATs, and from each to the STUN server. */
  readonly rttMs?: number;
  /** Round trip over the signaling channel. */
  readonly signalRttMs?: number;
  readonly channel?: MemoryChannelOptions;
  /** How much later than a b calls. */
  readonly skewMs?: number;
  /** Whether the hosts can listen on a port that they dial from. */
  readonly reusePort?: boolean;
  /** Whether each side has a NAT test report. */
  readonly isReported?: boolean;
  /** Whether the base sockets are prepared before the call. */
  readonly isWarm?: boolean;
  /** How long before the call. */
  readonly warmForMs?: number;
  /** Differences in the behavior of all links. */
  readonly link?: LinkBehavior;
  /** When to abort a side, after a's call. */
  readonly abortMs?: { readonly a?: number; readonly b?: number };
  readonly options?: Partial<PunchOptions>;
}

/** What each side got, and how long after b's call. */
export interface SceneResult {
  readonly a: PunchedConn | Error;
  readonly b: PunchedConn | Error;
  readonly doneMs: number;
}

/** Plays a scene, and leaves the connections open. */
export async function play(internet: Internet, scene: Scene): Promise<SceneResult> {
  const { rttMs = 80, reusePort = true } = scene;
  const link = { ...linkOfRoundTrip(rttMs), ...scene.link };
  const host = (name: "a" | "b") =>
    addHome(internet, name, { behavior: scene[name], link, reusePort }).host;
  return await playBetween(internet, { a: host("a"), b: host("b") }, scene);
}

/** Plays a scene between existing hosts. The scene's NATs then only decide what the reports say. */
export async function playBetween(
  internet: Internet,
  hosts: Readonly<Record<"a" | "b", Pick<Host, "network">>>,
  scene: Scene,
): Promise<SceneResult> {
  const { rttMs = 80, signalRttMs = 50, skewMs = 0, isWarm = false } = scene;
  await using _stun = await serveSceneStun(internet, { ...linkOfRoundTrip(rttMs), ...scene.link });
  const controllers = { a: new AbortController(), b: new AbortController() };
  const [channelA, channelB] = memoryChannelPair({ delayMs: signalRttMs / 2, ...scene.channel });
  const call = async (name: "a" | "b", options: Pick<PunchOptions, "channel" | "role">) => {
    const prepare = prepareOptions(hosts[name], scene, name);
    const base = isWarm ? await preparePunch(prepare) : undefined;
    const { signal } = controllers[name];
    return () => punch({ ...prepare, ...options, signal, ...scene.options, base });
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
  return { network, servers: STUN_SERVERS, report };
}

/** The report of a NAT test behind this NAT. */
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
    crossingSyn: behavior.mapping === "address-and-port-dependent"
      ? "unknown"
      : behavior.crossedSyn === "accept"
      ? "accepted"
      : "dropped",
    rfc3489Name: "",
    details: {
      externalIps: [],
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
