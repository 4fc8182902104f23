/**
 * Programs in the hosts of a lab.
 *
 * @module
 */

import type { HostPlan } from "./topology.ts";

/** How to run a program; without `cwd`, where this process runs. */
export type RunOptions = Omit<Deno.CommandOptions, "args">;

/** How to run a program that serves others. */
export interface ServeOptions {
  /** What it prints on its standard output once it serves. */
  readonly ready: RegExp;
  /** Where its complaints go; with this process's own if left out. */
  readonly stderr?: "inherit" | "null";
}

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
  readonly #draining: Promise<void>[] = [];

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

  /**
   * Starts a program in the host and waits until its output says that it is ready. What it prints later is read and
   * forgotten.
   *
   * @returns the program, and what it printed until then
   * @throws {Error} if its output ends before, or ten seconds have passed
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
    throw new Error(`Cannot serve ${program}: it has only said ${JSON.stringify(output)}`);
  }

  /** Runs a Deno program in the host to its end, and reads the JSON that it prints. */
  async json<T>(program: string | URL, args: readonly string[]): Promise<T> {
    const result = await this.output(Deno.execPath(), denoArgs(program, args));
    if (result.code === 0) return JSON.parse(result.stdout) as T;
    throw new Error(`Cannot run ${program}: exit code ${result.code}: ${result.stderr}`);
  }

  /** Ends what still runs, and waits for it. */
  async endPrograms(): Promise<void> {
    await Promise.all([...this.#children.map(end), ...this.#draining]);
  }
}

/** What follows `deno` to run a program of this repository, with all permissions unless others are named. */
export function denoArgs(
  program: string | URL,
  args: readonly string[],
  { permissions = "-A" }: { readonly permissions?: string } = {},
): string[] {
  return ["run", "--quiet", "--no-lock", permissions, "--unstable-net", String(program), ...args];
}

async function drain(reader: ReadableStreamDefaultReader<string>): Promise<void> {
  while (!(await reader.read()).done);
}

async function end(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended already
  }
  await child.status;
}

/** Ours: a program that is not ready by then never will be. */
const START_MS = 10_000;

/** Deno asks for its latest version at every start otherwise, and there is nobody to answer. */
const ENVIRONMENT = { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
