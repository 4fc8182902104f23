/**
 * Two programs that punch by UDP beside TCP, each behind its own NAT, in the simulated internet.
 *
 * @module
 */

import type { Network } from "../../lib/net/network.ts";
import { DialBudget } from "../../lib/punch/limits.ts";
import type { DirectPathKind } from "../../lib/punch/path_kinds.ts";
import {
  type BaseSocket,
  prepareWith,
  type PunchedConn,
  type PunchRole,
  punchWithin,
} from "../../lib/punch/punch.ts";
import { type FoundUdpPath, udpPunching } from "../../lib/punch/udp_punch.ts";
import type { NatBehavior } from "../../lab/model/nat_behavior.ts";
import { type MemoryChannelOptions, memoryChannelPair } from "../signal/memory_channel.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import type { LinkBehavior } from "../simnet/link.ts";
import { addHome, linkOfRoundTrip, serveSceneStun, STUN_SERVERS } from "./homes.ts";

/** What is between the two programs, and how they punch. */
export interface UdpScene {
  readonly a: NatBehavior;
  readonly b: NatBehavior;
  /** Between the NATs, and from each to the STUN server. */
  readonly rttMs?: number;
  readonly signalRttMs?: number;
  readonly channel?: MemoryChannelOptions;
  /** How much later than a b calls. */
  readonly skewMs?: number;
  /** How long before the call the base sockets are prepared. Default: 0. */
  readonly warmMs?: number;
  readonly link?: LinkBehavior;
  /** The STUN servers to ask. Default: both. */
  readonly servers?: readonly string[];
  /** Default: UDP alone. */
  readonly pathKinds?: ReadonlySet<DirectPathKind>;
  /** The hosts of both sides. Default: each behind its own NAT. */
  readonly hosts?: (internet: Internet) => Readonly<Record<"a" | "b", Pick<Host, "network">>>;
  /** Called with each base socket. */
  readonly onBase?: (base: BaseSocket, name: "a" | "b") => Promise<void>;
  /** Called with each path. */
  readonly onPath?: (path: FoundUdpPath, name: "a" | "b") => unknown;
  /** What each side waits for before many sockets take the NAT's sessions. */
  readonly beforeSpray?: (name: "a" | "b") => Promise<void>;
  /** Changes the network of each side. */
  readonly network?: (network: Network, name: "a" | "b") => Network;
  /** When both sides give up. Default: 20 s. */
  readonly timeoutMs?: number;
}

/** What one side got. Times are by `performance.now()`. */
export interface UdpSide {
  readonly path: FoundUdpPath | undefined;
  readonly foundAtMs: number | undefined;
  readonly confirmedAtMs: number | undefined;
  readonly tcp: PunchedConn | Error;
  readonly udpAttempts: number;
  readonly packets: number;
  /** When this side knew both offers. */
  readonly knownAtMs: number | undefined;
  readonly method: string | undefined;
}

/** Plays a scene; paths stay open until `end` is called. */
export async function playUdp(
  internet: Internet,
  scene: UdpScene,
): Promise<{ readonly a: UdpSide; readonly b: UdpSide; end(): Promise<void> }> {
  const { rttMs = 80, signalRttMs = 50, skewMs = 0, timeoutMs = 20_000 } = scene;
  const { servers = STUN_SERVERS } = scene;
  const link = { ...linkOfRoundTrip(rttMs), ...scene.link };
  await using _stun = await serveSceneStun(internet, link);
  const [channelA, channelB] = memoryChannelPair({ delayMs: signalRttMs / 2, ...scene.channel });
  const both = Promise.withResolvers<void>();
  let confirmed = 0;
  const onConfirmed = () => {
    if (++confirmed === 2) both.resolve();
  };
  const hosts = scene.hosts?.(internet);
  const home = (name: "a" | "b") => {
    const { network } = hosts?.[name] ??
      addHome(internet, name, { behavior: scene[name], link }).host;
    return scene.network?.(network, name) ?? network;
  };
  const [networkA, networkB] = [home("a"), home("b")];
  const call = async (
    network: Network,
    options: { channel: typeof channelA; role: PunchRole; delayMs: number },
  ): Promise<UdpSide> => {
    const punching = udpPunching(true);
    const base = await prepareWith(punching, { network, servers });
    if (scene.warmMs) await new Promise((resolve) => setTimeout(resolve, scene.warmMs));
    await scene.onBase?.(base, options.role === "controlling" ? "a" : "b");
    const pathKinds = scene.pathKinds ?? UDP_ONLY;
    const budget = new DialBudget();
    let path: FoundUdpPath | undefined;
    let [foundAtMs, confirmedAtMs, knownAtMs]: (number | undefined)[] = [];
    const over = new AbortController();
    const race = punching.race({
      network,
      role: options.role,
      pathKinds,
      budget,
      onPath: (found) => {
        path = found;
        foundAtMs = performance.now();
        scene.onPath?.(found, options.role === "controlling" ? "a" : "b");
      },
      onConfirmed: () => {
        confirmedAtMs = performance.now();
        onConfirmed();
      },
    });
    both.promise.then(() => setTimeout(() => over.abort(new Error("over")), 1));
    const timer = setTimeout(() => over.abort(new Error("too late")), timeoutMs + options.delayMs);
    if (options.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, options.delayMs));
    const tcp = await punchWithin(budget, {
      network,
      servers,
      role: options.role,
      channel: options.channel,
      base,
      pathKinds,
      udp: race,
      udpPunching: punching,
      onPlan: () => knownAtMs ??= performance.now(),
      beforeSpray: scene.beforeSpray &&
        (() => scene.beforeSpray!(options.role === "controlling" ? "a" : "b")),
      until: over.signal,
    }).catch((error: Error) => error);
    // TCP alone may be impossible: UDP goes on until both sides know, or it is too late.
    over.signal.addEventListener("abort", () => race.stop(), { once: true });
    if (over.signal.aborted || !(tcp instanceof Error)) race.stop();
    await race.end();
    clearTimeout(timer);
    const packets = race.attempts.reduce((sum, { tries }) => sum + tries, 0);
    const method = path?.method ?? undefined;
    const udpAttempts = race.attempts.length;
    return { path, foundAtMs, confirmedAtMs, tcp, udpAttempts, packets, knownAtMs, method };
  };
  const [a, b] = await Promise.all([
    call(networkA, { channel: channelA, role: "controlling", delayMs: 0 }),
    call(networkB, { channel: channelB, role: "controlled", delayMs: skewMs }),
  ]);
  channelA.close();
  channelB.close();
  return {
    a,
    b,
    end: async () => {
      for (const { path, tcp } of [a, b]) {
        path?.connection.reset();
        if (!(tcp instanceof Error)) tcp.close();
        await path?.connection.released;
      }
    },
  };
}

const UDP_ONLY: ReadonlySet<DirectPathKind> = new Set(["punch-udp"]);
