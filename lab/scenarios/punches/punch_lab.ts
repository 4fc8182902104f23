/**
 * A lab in which any kind of NAT meets any other: two sides, each with a home behind a NAT, a host behind a firewall
 * and one on the open internet, and a STUN server.
 *
 * @module
 */

import { Lab } from "../../kernel/lab.ts";
import { denoArgs } from "../../kernel/lab_host.ts";
import { type InternetSpec, nat } from "../../kernel/topology.ts";
import { STUN_SERVERS } from "../verdicts/stun_servers.ts";
import { NAT_KINDS, type NatKind, type NatKindName, reportOf } from "./nat_kinds.ts";
import { PunchProgram } from "./punch_program.ts";
import {
  type PairOptions,
  type PairResult,
  type PunchDescription,
  punchPair,
} from "./punch_pair.ts";

/** What came of a punch, and what it cost. */
export type PunchRun = PairResult & {
  /** That both hosts sent, to servers too; of each of them on average where several punches ran at once. */
  readonly syns: number;
};

/** How several punches of one pair are run. */
export interface BatchOptions extends Omit<PairOptions, "servers"> {
  readonly runs: number;
  /** How many at once; the NATs forget everything before each lot. 1 unless given. */
  readonly atOnce?: number;
  /** Whether both sides know of their NATs what a NAT test finds. True unless given. */
  readonly isReported?: boolean;
  /** Which end of the lab the first kind is at, and which role it has; taken in turn unless given. */
  readonly inTurn?: boolean;
}

/** A running lab. */
export class PunchLab implements AsyncDisposable {
  readonly #lab: Lab;
  readonly #programs = new Map<string, PunchProgram>();

  private constructor(lab: Lab) {
    this.#lab = lab;
  }

  /** Starts it, with its servers. */
  static async start(internet: InternetSpec): Promise<PunchLab> {
    const home = { a: nat("portRestricted"), b: nat("portRestricted") };
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
    await STUN_SERVERS.ours(lab.host("servers"));
    return new PunchLab(lab);
  }

  /** Changes delay, jitter and loss between all of them. */
  async setInternet(internet: InternetSpec): Promise<void> {
    await this.#lab.setInternet(internet);
  }

  /** Punches between two kinds, again and again. */
  async run(
    kinds: readonly [NatKindName, NatKindName],
    options: BatchOptions,
  ): Promise<PunchRun[]> {
    const { runs, atOnce = 1, isReported = true, inTurn = true } = options;
    const found: PunchRun[] = [];
    for (let lot = 0; found.length < runs; lot++) {
      const [first, second] = kinds.map((name): NatKind => NAT_KINDS[name]) as [NatKind, NatKind];
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

  /** Opens so many flows a second through the homes' NATs, on average and at random, until it is disposed of. */
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
    const program = this.#programs.get(host) ?? new PunchProgram(this.#lab.host(host));
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

/** Where the one server is. */
export const SERVER_IPS = ["203.0.113.10", "203.0.113.11"] as const;
const WEB_PORT = 8080;

/** Both addresses of the one server, for a start. */
export const SERVERS: readonly string[] = [SERVER_IPS[0], `${SERVER_IPS[1]}:3479`];
