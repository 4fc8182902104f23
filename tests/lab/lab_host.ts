/**
 * Programs in the hosts of a lab.
 *
 * @module
 */

import type { HostPlan } from "./topology.ts";

/** How to run a program; without `cwd`, where this process runs. */
export type RunOptions = Omit<Deno.CommandOptions, "args">;

/** What became of a program. */
export interface RunResult {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** One host of a running lab. */
export class LabHost {
  readonly name: string;
  /** Its addresses, IPv4 before IPv6. */
  readonly ips: readonly string[];
  readonly #enter: readonly string[];
  readonly #children: Deno.ChildProcess[] = [];

  /** @param enter a command that runs the command which follows it in the host */
  constructor(plan: HostPlan, enter: readonly string[]) {
    this.name = plan.name;
    this.ips = [...plan.ipv4, ...plan.ipv6];
    this.#enter = enter;
  }

  /** Its first address. */
  get ip(): string {
    return this.ips[0]!;
  }

  /** Starts a program in the host. It ends with the lab, or with this process, at the latest. */
  spawn(program: string, args: readonly string[], options: RunOptions = {}): Deno.ChildProcess {
    const [command, ...prefix] = this.#enter;
    const child = new Deno.Command(command!, {
      ...options,
      args: [...prefix, program, ...args],
      env: { ...ENVIRONMENT, ...options.env },
    }).spawn();
    this.#children.push(child);
    return child;
  }

  /** Runs a program in the host to its end. */
  async output(
    program: string,
    args: readonly string[],
    options: Omit<RunOptions, "stdin" | "stdout" | "stderr"> = {},
  ): Promise<RunResult> {
    const child = this.spawn(program, args, {
      ...options,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    const { code, signal, stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    return { code, signal, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  }

  /** Ends what still runs, and waits for it. */
  async endPrograms(): Promise<void> {
    await Promise.all(this.#children.map(end));
  }
}

async function end(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended already
  }
  await child.status;
}

/** Deno asks for its latest version at every start otherwise, and there is nobody to answer. */
const ENVIRONMENT = { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
