/**
 * Runs the command line in a process of its own, with a limit on open files, and observes it from outside.
 *
 * @module
 */

const CLI = new URL("../../cli.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** A running command, or any other program in a process of its own. */
export class Running implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<unknown>;
  #printed = "";
  #changed = Promise.withResolvers<void>();

  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#reading = Promise.all([this.#read(child.stdout), this.#read(child.stderr)]);
  }

  /** Everything on stdout and stderr so far. */
  get printed(): string {
    return this.#printed;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Waits for a match of the expression in what it prints; returns its first group. */
  async prints(expression: RegExp): Promise<string> {
    while (true) {
      const match = expression.exec(this.#printed);
      if (match !== null) return match[1] ?? match[0];
      const changed = this.#changed.promise.then(() => false);
      if (await Promise.race([changed, this.#reading.then(() => true)])) {
        const last = expression.exec(this.#printed);
        if (last !== null) return last[1] ?? last[0];
        throw new Error(`Cannot find ${expression} in what it printed: ${this.#printed}`);
      }
    }
  }

  /** Writes a line to its stdin. */
  async tell(line: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${line}\n`));
  }

  /** Its resident memory, in bytes (Linux). */
  async residentBytes(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.pid}/status`);
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
  }

  /** How many files it has open (Linux). */
  async openFiles(): Promise<number> {
    return (await Array.fromAsync(Deno.readDir(`/proc/${this.pid}/fd`))).length;
  }

  /** Ends it, if it has not ended, and waits for that. */
  async end(signal: Deno.Signal = "SIGKILL"): Promise<number> {
    try {
      this.#child.kill(signal);
    } catch {
      // it has ended
    }
    const { code } = await this.#child.status;
    await this.#reading;
    await this.#writer.abort().catch(() => {}); // it reads no more
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.#printed += text;
      const changed = this.#changed;
      this.#changed = Promise.withResolvers();
      changed.resolve();
    }
  }
}

/** How to run a program. */
export interface RunOptions {
  /** The hard limit on its open files. */
  readonly maxFiles?: number;
  /** How much it yields to other processes, as in `nice`. Default: 0. */
  readonly niceness?: number;
  /** Whether a program may do everything, such as call the C library or read `/proc`. */
  readonly allowAll?: boolean;
}

/** Starts a command of the command line. Its only permission is the network. */
export function startCommand(args: readonly string[], options: RunOptions = {}): Running {
  return run(["--allow-net", CLI, ...args], options);
}

/** Starts a program of this folder, by the name of its file. */
export function startProgram(
  name: string,
  args: readonly (string | number)[] = [],
  options: RunOptions = {},
): Running {
  const path = new URL(`programs/${name}.ts`, import.meta.url).pathname;
  const permissions = options.allowAll
    ? ["--allow-all", "--v8-flags=--expose-gc"]
    : ["--allow-net", "--allow-read"];
  return run([...permissions, path, ...args.map(String)], options);
}

function run(args: readonly string[], { maxFiles, niceness = 0 }: RunOptions): Running {
  const deno = ["run", "--quiet", "--no-prompt", "--config", CONFIG, ...args];
  const limit = maxFiles === undefined ? "" : `ulimit -n ${maxFiles} && `;
  const child = new Deno.Command("sh", {
    args: ["-c", `${limit}exec nice -n ${niceness} "$0" "$@"`, Deno.execPath(), ...deno],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  return new Running(child);
}
