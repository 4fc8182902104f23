/**
 * Programs in the hosts of a lab.
 *
 * @module
 */

import type { HostPlan } from "./topology.ts";

/** How to run a program. Default `cwd`: this process's. */
export type RunOptions = Omit<Deno.CommandOptions, "args">;

/** How to run a server program. */
export interface ServeOptions {
  /** Matches what the program prints on standard output once it is ready. */
  readonly ready: RegExp;
  /** Where its standard error goes. Default: `"inherit"`. */
  readonly stderr?: "inherit" | "null";
}

/** The result of a program. */
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
  readonly #draining: Promise<void>[] = [];

  /** @param enter a command prefix that runs the rest of the command in the host */
  constructor(plan: HostPlan, enter: readonly string[]) {
    this.name = plan.name;
    this.ips = [...plan.ipv4, ...plan.ipv6];
    this.#enter = enter;
  }

  /** Its first address. */
  get ip(): string {
    return this.ips[0]!;
  }

  /** Starts a program in the host. It ends at the latest with the lab or with this process. */
  spawn(program: string, args: readonly string[], options: RunOptions = {}): Deno.ChildProcess {
    const [command, ...prefix] = this.#enter;
    const child = new Deno.Command(command!, {
      ...options,
      args: [...prefix, program, ...args],
      env: {
        ...ENVIRONMENT,
        ...options.env?.HOME === undefined ? WITHOUT_SETTINGS : {},
        ...options.env,
      },
    }).spawn();
    this.#children.push(child);
    return child;
  }

  /** Runs a program in the host, and waits until it ends. */
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

  /**
   * Starts a program in the host, and waits until its output shows that it is ready. Later output is read and
   * discarded.
   *
   * @returns the program, and its output so far
   * @throws {Error} if its output ends early, or after ten seconds
   */
  async serve(
    program: string,
    args: readonly string[],
    options: ServeOptions,
  ): Promise<{ readonly child: Deno.ChildProcess; readonly output: string }> {
    const { ready, stderr = "inherit" } = options;
    const child = this.spawn(program, args, { stdin: "null", stdout: "piped", stderr });
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const deadline = setTimeout(() => reader.cancel(), START_MS);
    let output = "";
    while (!ready.test(output)) {
      const { done, value } = await reader.read();
      if (done) break;
      output += value;
    }
    clearTimeout(deadline);
    this.#draining.push(drain(reader));
    if (ready.test(output)) return { child, output };
    throw new Error(`Cannot start ${program}: not ready, it printed ${JSON.stringify(output)}`);
  }

  /** Runs a Deno program in the host until it ends, and parses the JSON that it prints. */
  async json<T>(program: string | URL, args: readonly string[]): Promise<T> {
    const result = await this.output(Deno.execPath(), denoArgs(program, args));
    if (result.code === 0) return JSON.parse(result.stdout) as T;
    throw new Error(`Cannot run ${program}: exit code ${result.code}: ${result.stderr}`);
  }

  /** Kills all programs that still run, and waits for their ends. */
  async endPrograms(): Promise<void> {
    await Promise.all([...this.#children.map(end), ...this.#draining]);
  }
}

/** The arguments of `deno` that run a program of this repository. Default permissions: all. */
export function denoArgs(
  program: string | URL,
  args: readonly string[],
  { permissions = "-A", unstable = true }: {
    readonly permissions?: string;
    /** Whether to use `--unstable-net`. Without it, the configuration of the repository does not apply either. */
    readonly unstable?: boolean;
  } = {},
): string[] {
  const flags = unstable ? ["--unstable-net"] : ["--config", STABLE_CONFIG];
  return ["run", "--quiet", "--no-lock", permissions, ...flags, String(program), ...args];
}

async function drain(reader: ReadableStreamDefaultReader<string>): Promise<void> {
  while (!(await reader.read()).done);
}

async function end(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // otherwise it has already ended
  }
  await child.status;
}

/** What an importer has: the same dependencies, and no unstable interfaces. */
const STABLE_CONFIG = new URL("../../tests/cli/without_unstable.json", import.meta.url).pathname;

/** Chosen by us: a program that is not ready by then has failed. */
const START_MS = 10_000;

/** Otherwise Deno checks for a new version at each start, which cannot be reached from the lab. */
const ENVIRONMENT = { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };

/** A place where nothing is and nothing can be written: commands would find the settings of whoever runs the lab, and what others have learned. */
export const WITHOUT_SETTINGS = { XDG_CONFIG_HOME: "/proc/nothing" };
