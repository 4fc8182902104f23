/**
 * Which path a connection ends up with, where there are several and one is worse: too slow, too far away, or losing packets.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import type { PeerOptions } from "../../../lib/peer/options.ts";
import type { LabHost } from "../../kernel/lab_host.ts";
import { HOMES, type LinkSpec } from "../../kernel/topology.ts";
import { PeerLab, TURN_URL } from "./peer_lab.ts";
import type { PathSample } from "./peer_runner.ts";

/** Paths between two peers behind usual NATs, and the best of them. */
export interface Choice {
  readonly setting: string;
  /** What is between the two NATs, and not between them and the servers. */
  readonly between: LinkSpec;
  /** What carries the connection in the end. */
  readonly best: PathSample["route"];
  /** Whether it is used as much as possible. */
  readonly isBusy: boolean;
  /** Whether there is no direct path at first. */
  readonly isRelayedFirst?: boolean;
  /** What stays blocked when there are direct paths. */
  readonly blocked?: "tcp";
  /** The links of both NATs. */
  readonly natLink?: LinkSpec;
  /** How soon it has to be back at the best path for good, once it has left that; in seconds. */
  readonly backWithinS?: number;
}

/** How a run went. */
export interface ChoiceResult {
  /** What carried the connection, one after another. */
  readonly routes: readonly PathSample["route"][];
  /** When it moved to the last of them for good, in seconds. */
  readonly settledS: number;
  /** How long before that it had left it; `NaN` if it had not, in seconds. */
  readonly awayS: number;
  /** What came back before and after that, in KB/s; `NaN` for none. */
  readonly before: number;
  readonly after: number;
  readonly isWhole: boolean;
  readonly passed: boolean;
}

/** The choices, by short name. */
export const CHOICES: Readonly<Record<string, Choice>> = {
  lossy: {
    setting: "direct by TCP with 2 % loss, and by UDP without; a transfer",
    between: { only: "tcp", loss: 0.02 },
    best: "udp",
    isBusy: true,
  },
  both: {
    setting: "2 % loss on all direct paths; a transfer",
    between: { loss: 0.02 },
    best: "udp",
    isBusy: true,
  },
  far: {
    setting: "direct by TCP with a round trip of 150 ms, and by UDP of 50; a byte now and then",
    between: { only: "tcp", delayMs: 50 },
    best: "udp",
    isBusy: false,
  },
  relay: {
    setting: "direct paths of 1 Mbit/s, after a relay of 16; a transfer",
    between: { megabitsPerSecond: 1 },
    best: "relay",
    isBusy: true,
    isRelayedFirst: true,
    natLink: { megabitsPerSecond: 16 },
    backWithinS: 8,
  },
  "relay-udp": {
    setting: "a direct path by UDP of 1 Mbit/s, after a relay of 16; a transfer",
    between: { megabitsPerSecond: 1 },
    best: "relay",
    isBusy: true,
    isRelayedFirst: true,
    blocked: "tcp",
    natLink: { megabitsPerSecond: 16 },
    backWithinS: 8,
  },
};

/** Connects two peers, and watches the connection. */
export async function runChoice(choice: Choice): Promise<ChoiceResult> {
  const { between, isBusy, isRelayedFirst = false, blocked, natLink } = choice;
  await using peers = await PeerLab.start({ internet: { rttMs: 50 }, natLink });
  const { lab } = peers;
  for (const name of ["a", "b"]) await useReno(lab.host(name));
  if (isRelayedFirst) await lab.block(HOMES, "tcp", "udp");
  await lab.setLink(HOMES, between);
  const options: PeerOptions = {
    ...isRelayedFirst ? { turn: [TURN_URL], timings: { improveMs: IMPROVE_MS } } : {},
  };
  await using pair = await peers.open(["a", "b"], { options });
  await delay(WARM_MS);
  const watched = pair.watch({ forMs: WATCH_MS, isBusy });
  await delay(RELAYED_MS);
  if (isRelayedFirst) await lab.block(HOMES, ...blocked === undefined ? [] : [blocked]);
  await delay(WATCH_MS - RELAYED_MS);
  await lab.setLink(HOMES, {}); // what is under way may take minutes on a slow line
  const result = await watched;
  if (result.outcome !== "watched") throw new Error(JSON.stringify(result));
  return judge(choice, result.samples, result.isWhole);
}

/** A result as a line of a table. */
export function lineOfChoice(choice: Choice, result: ChoiceResult): string {
  const { passed, routes, settledS, awayS, before, after, isWhole } = result;
  const rate = (value: number) => Number.isNaN(value) ? "" : value.toFixed(0);
  return `| ${
    [
      passed ? "ok" : "NO",
      choice.setting,
      routes.at(-1),
      settledS.toFixed(1),
      Number.isNaN(awayS) ? "" : awayS.toFixed(1),
      choice.isBusy ? rate(before) : "",
      choice.isBusy ? rate(after) : "",
      isWhole ? "yes" : "NO",
      routes.join(", "),
    ].join(" | ")
  } |`;
}

/** Like CUBIC, which most systems use, on paths like these; with BBR, losses would not slow TCP down. A host may not choose CUBIC. */
async function useReno(host: LabHost): Promise<void> {
  const command = "echo reno > /proc/sys/net/ipv4/tcp_congestion_control";
  const { code, stderr } = await host.output("sh", ["-c", command]);
  if (code !== 0) throw new Error(`Cannot choose the congestion control: ${stderr}`);
}

function judge(
  { best, backWithinS }: Choice,
  samples: readonly PathSample[],
  isWhole: boolean,
): ChoiceResult {
  const routes = samples.map(({ route }) => route);
  const last = routes.at(-1)!;
  const changes = routes.filter((route, index) => route !== routes[index - 1]);
  const settledAt = routes.findLastIndex((route) => route !== last) + 1;
  const before = samples.slice(0, settledAt);
  const firstAt = routes.indexOf(last);
  const leftAt = routes.findIndex((route, index) => index > firstAt && route !== last);
  const settledS = samples[settledAt]!.atMs / 1000;
  const awayS = leftAt === -1 ? NaN : settledS - samples[leftAt]!.atMs / 1000;
  return {
    routes: changes,
    settledS,
    awayS,
    before: rateOf(before.filter(({ route }) => route === before.at(-1)!.route)),
    after: rateOf(samples.slice(settledAt)),
    isWhole,
    passed: isWhole && last === best && (backWithinS === undefined || awayS <= backWithinS),
  };
}

function rateOf(samples: readonly PathSample[]): number {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined || first === last) return NaN;
  return (last.bytes - first.bytes) / (last.atMs - first.atMs);
}

/** Until base sockets are ready. */
const WARM_MS = 1500;

/** Before a direct path that was left for the relay is tried again. */
const WATCH_MS = 28_000;

/** How long there is no direct path, and when it is searched for. */
const [RELAYED_MS, IMPROVE_MS] = [6000, 12_000];
