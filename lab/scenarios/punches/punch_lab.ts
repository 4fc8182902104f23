/**
 * A lab for punches between any two kinds of NAT. Each of two sides has a host behind a NAT, one behind a firewall
 * and one on the public internet. A STUN server serves both.
 *
 * @module
 */

import { Lab } from "../../kernel/lab.ts";
import { denoArgs } from "../../kernel/lab_host.ts";
import { type InternetSpec, nat } from "../../kernel/topology.ts";
import { STUN_SERVERS } from "../verdicts/stun_servers.ts";
import { type NatKind, natKind, type NatKindName, POOLS, reportOf } from "./nat_kinds.ts";
import { PunchProgram } from "./punch_program.ts";
import {
  type PairOptions,
  type PairResult,
  type PunchDescription,
  punchPair,
} from "./punch_pair.ts";

/** The result of a punch, and its cost. */
export type PunchRun = PairResult & {
  /** SYNs of both hosts, including those to servers; the average if several punches ran at once. */
  readonly syns: number;
};

/** How to run several punches of one pair. */
export interface BatchOptions extends Omit<PairOptions, "servers"> {
  readonly runs: number;
  /** How many to run at once; the NATs are flushed before each lot. Default: 1. */
  readonly atOnce?: number;
  /** Whether both sides have NAT test reports. Default: `true`. */
  readonly isReported?: boolean;
  /** Whether the kinds take turns at the lab's ends, and so in the roles. Default: `true`. */
  readonly inTurn?: boolean;
}

/** A running lab. */
export class PunchLab implements AsyncDisposable {
  readonly #lab: Lab;
  readonly #programs = new Map<string, PunchProgram>();
  readonly #unstable: boolean;

  private constructor(lab: Lab, unstable: boolean) {
    this.#lab = lab;
    this.#unstable = unstable;
  }

  /**
   * Starts the lab and its servers.
   *
   * @param options.unstable whether programs have Deno's unstable network interfaces. Default: `true`
   */
  static async start(
    internet: InternetSpec,
    { unstable = true }: { readonly unstable?: boolean } = {},
  ): Promise<PunchLab> {
    const home = {
      a: nat("portRestricted", { addresses: POOLS.a }),
      b: nat("portRestricted", { addresses: POOLS.b }),
    };
    const lab = await Lab.start({
      hosts: {
        servers: { addresses: [...SERVER_IPS] },
        web: {},
        a: { behind: home.a },
        b: { behind: home.b },
        aNeighbour: { behind: home.a },
        bNeighbour: { behind: home.b },
        aOffice: { behind: nat("firewall") },
        bOffice: { behind: nat("firewall") },
        aPublic: {},
        bPublic: {},
      },
      internet,
    });
    await STUN_SERVERS.punchline(lab.host("servers"));
    return new PunchLab(lab, unstable);
  }

  /** Changes delay, jitter and loss across the internet. */
  async setInternet(internet: InternetSpec): Promise<void> {
    await this.#lab.setInternet(internet);
  }

  /** Punches between two kinds, several times. */
  async run(
    kinds: readonly [NatKindName | NatKind, NatKindName | NatKind],
    options: BatchOptions,
  ): Promise<PunchRun[]> {
    const { runs, atOnce = 1, isReported = true, inTurn = true } = options;
    const found: PunchRun[] = [];
    for (let lot = 0; found.length < runs; lot++) {
      const [first, second] = kinds.map((kind) =>
        typeof kind === "string" ? natKind(kind) : kind
      ) as [NatKind, NatKind];
      const placed = inTurn && lot % 2 === 1 ? [second, first] as const : [first, second] as const;
      const sides = [
        await this.#place("a", placed[0], isReported),
        await this.#place("b", placed[1], isReported),
      ] as const;
      const lotSize = Math.min(atOnce, runs - found.length);
      const before = await this.#syns(placed);
      const results = await Promise.all(
        Array.from({ length: lotSize }, () => punchPair(sides, { ...options, servers: SERVERS })),
      );
      const syns = (await this.#syns(placed) - before) / lotSize;
      found.push(...results.map((result) => ({ ...result, syns })));
    }
    return found;
  }

  /** Opens this many flows a second through both home NATs, on average and at random times, until disposed of. */
  async openFlows(perSecond: number): Promise<AsyncDisposable> {
    const program = new URL("flows.ts", import.meta.url);
    const web = this.#lab.host("web");
    const start = (name: string, args: readonly string[]) =>
      this.#lab.host(name).serve(Deno.execPath(), denoArgs(program, args), { ready: /ready/ });
    const { child: server } = await start("web", ["serve", `${WEB_PORT}`]);
    const open = ["open", web.ip, `${WEB_PORT}`, `${perSecond}`];
    const clients = [await start("aNeighbour", open), await start("bNeighbour", open)];
    return {
      [Symbol.asyncDispose]: async () => {
        for (const child of [server, ...clients.map(({ child }) => child)]) {
          child.kill();
          await child.status;
        }
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(Array.from(this.#programs.values(), (program) => program.close()));
    await this.#lab[Symbol.asyncDispose]();
  }

  async #place(end: End, kind: NatKind, isReported: boolean): Promise<PunchDescription> {
    const host = hostName(end, kind);
    if (kind.place !== "public") {
      const box = this.#lab.nat(`${host}/nat`);
      await box.setBehavior(kind.behavior);
      await box.flush();
    }
    const program = this.#programs.get(host) ?? new PunchProgram(this.#lab.host(host), {
      unstable: this.#unstable,
      permissions: this.#unstable ? "-A" : "--allow-net",
    });
    this.#programs.set(host, program);
    return { program, report: isReported ? reportOf(kind) : null };
  }

  async #syns(kinds: readonly [NatKind, NatKind]): Promise<number> {
    const { hosts } = await this.#lab.counters();
    return ENDS.reduce((sum, end, i) => sum + hosts[hostName(end, kinds[i]!)]!.sentSyns, 0);
  }
}

type End = "a" | "b";

function hostName(end: End, { place }: NatKind): string {
  return { nat: end, firewall: `${end}Office`, public: `${end}Public` }[place];
}

const ENDS: readonly End[] = ["a", "b"];

/** The addresses of the STUN server. */
export const SERVER_IPS = ["203.0.113.10", "203.0.113.11"] as const;
const WEB_PORT = 8080;

/** Both addresses of the STUN server, as two servers. */
export const SERVERS: readonly string[] = [SERVER_IPS[0], `${SERVER_IPS[1]}:3479`];
