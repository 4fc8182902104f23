/**
 * Runs commands as processes, with servers on this machine.
 *
 * @module
 */

import { assert } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { serveLocally } from "./run_main.ts";

export const CLI = new URL("../../cli.ts", import.meta.url).pathname;
export const WITH_UNSTABLE = new URL("../../deno.json", import.meta.url).pathname;
const SCRATCH = new URL("../transfer/scratch/", import.meta.url).pathname;

/** A STUN server and a rendezvous on this machine. */
export interface Servers {
  /** The options of the listening side. */
  readonly all: readonly string[];
  /** The options of the connecting side: it names the rendezvous too, because that is on this machine. */
  readonly connecting: readonly string[];
  /** The STUN server, as an option. */
  readonly server: readonly string[];
  /** The STUN server, as `servers` takes it. */
  readonly stun: string;
  /** The rendezvous. */
  readonly url: string;
  /** Stops the rendezvous. */
  stop(): Promise<void>;
}

/** Runs the test with a STUN server and a rendezvous; `hasRelay: false` is as `--no-relay`. */
export async function withServers(
  test: (servers: Servers) => Promise<void>,
  { hasRelay } = { hasRelay: true },
): Promise<void> {
  await using stun = await serveLocally();
  await using rendezvous = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    limits: hasRelay ? undefined : { maxRelays: 0 },
  });
  const server = ["--server", stun.name];
  await test({
    all: [...server, "--rendezvous", rendezvous.url],
    connecting: [...server, "--rendezvous", rendezvous.url],
    server,
    stun: stun.name,
    url: rendezvous.url,
    stop: async () => await rendezvous[Symbol.asyncDispose](),
  });
}

/** Runs the test with an empty folder, which is removed afterwards. */
export async function withScratch(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ dir: SCRATCH });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** How a command ended. */
export interface End {
  readonly code: number;
  readonly stdout: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly stderr: string;
}

/** A running command. */
export class Command {
  readonly #child: Deno.ChildProcess;
  readonly #feeding: Promise<void>;
  readonly #stdout: Promise<Uint8Array<ArrayBuffer>>;
  readonly #reading: Promise<void>;
  #stderr = "";
  #changed = Promise.withResolvers<void>();

  constructor(
    child: Deno.ChildProcess,
    input: Iterable<Uint8Array> | ReadableStream<Uint8Array>,
  ) {
    this.#child = child;
    const source = input instanceof ReadableStream ? input : ReadableStream.from(input);
    const ended = new AbortController();
    child.status.then(() => ended.abort());
    this.#feeding = source.pipeTo(child.stdin, { signal: ended.signal }).catch(() => {}); // the command may not read it all
    this.#stdout = new Response(child.stdout).bytes();
    this.#reading = this.#read(child.stderr);
  }

  /** The number of the process. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Waits until it has printed this on stderr; returns all of stderr so far. */
  async prints(text: string | RegExp): Promise<string> {
    const hasPrinted = () => {
      return text instanceof RegExp ? text.test(this.#stderr) : this.#stderr.includes(text);
    };
    while (!hasPrinted()) {
      const changed = this.#changed.promise;
      if (await Promise.race([changed, this.#reading.then(() => "ended")]) === "ended") break;
    }
    assert(hasPrinted(), `it has only printed ${this.#stderr}`);
    return this.#stderr;
  }

  /** Waits for the ticket. */
  async ticket(): Promise<string> {
    const printed = await this.prints("punchline:");
    const [ticket] = /punchline:[A-Za-z0-9_-]{60,}/.exec(printed) ?? [];
    return ticket!;
  }

  kill(): void {
    this.signal("SIGKILL");
  }

  interrupt(): void {
    this.signal("SIGINT");
  }

  /** Sends a signal, if the command still runs. */
  signal(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
  }

  async end(): Promise<End> {
    const [bytes, { code }] = await Promise.all([this.#stdout, this.#child.status, this.#feeding]);
    await this.#reading;
    return { code, bytes, stdout: new TextDecoder().decode(bytes), stderr: this.#stderr };
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.#stderr += text;
      const changed = this.#changed;
      this.#changed = Promise.withResolvers();
      changed.resolve();
    }
  }
}

/** How to start a command. */
export interface StartOptions {
  readonly config?: string;
  readonly permissions?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Iterable<Uint8Array> | ReadableStream<Uint8Array>;
}

/** Starts a command. Its only default permission is `--allow-net`. */
export function start(args: readonly string[], options: StartOptions = {}): Command {
  const { config = WITH_UNSTABLE, permissions = [], env = {}, input = [] } = options;
  const flags = ["--no-prompt", "--config", config, "--allow-net", ...permissions];
  return startProgram([...flags, CLI, ...args], { env, input });
}

/** Starts a program with the arguments of `deno run`. */
export function startProgram(
  args: readonly string[],
  { env = {}, input = [] }: Pick<StartOptions, "env" | "input"> = {},
): Command {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", ...args],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  return new Command(child, typeof input === "string" ? [new TextEncoder().encode(input)] : input);
}
