/**
 * A sender and a receiver of files as processes of their own, over loopback.
 *
 * @module
 */

import { CLI, WITH_UNSTABLE } from "../cli/command.ts";

/** An event that a program prints. */
export type FileEvent = { readonly event: string } & Readonly<Record<string, unknown>>;

/** A running program. */
export class FileProgram implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #events: AsyncIterator<FileEvent>;

  private constructor(args: readonly string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", ...args],
      env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#events = eventsOf(this.#child.stdout)[Symbol.asyncIterator]();
  }

  /** Starts a sender, and waits until it listens. */
  static async sender(port: number, paths: readonly string[]): Promise<FileProgram> {
    const program = new FileProgram(["-A", pathOf("send_files.ts"), `${port}`, ...paths]);
    await program.until("listening");
    return program;
  }

  /** Starts a receiver. */
  static receiver(port: number, folder: string, id: string): FileProgram {
    return new FileProgram(["-A", pathOf("receive_files.ts"), `${port}`, folder, id]);
  }

  /** Starts a command that prints its events on stdout. Its permissions are the network and this folder. */
  static command(folder: string, args: readonly string[]): FileProgram {
    const permissions = ["--allow-net", `--allow-read=${folder}`, `--allow-write=${folder}`];
    return new FileProgram([
      "--no-prompt",
      "--config",
      WITH_UNSTABLE,
      ...permissions,
      CLI,
      ...args,
    ]);
  }

  /** The next event; `undefined` once the program has ended. */
  async next(): Promise<FileEvent | undefined> {
    const { value, done } = await this.#events.next();
    return done ? undefined : value;
  }

  /** Waits for an event. */
  async until(name: string): Promise<FileEvent> {
    for (let event; (event = await this.next()) !== undefined;) {
      if (event.event === name) return event;
    }
    throw new Error(`Cannot go on: the program ended without ${name}`);
  }

  /** Kills the program, and waits for its end. */
  async kill(): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch { // it has ended
    }
    while (await this.next() !== undefined);
    await this.#child.status;
  }

  /** Kills the program if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** A port of this machine that is free. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

function pathOf(program: string): string {
  return new URL(`./programs/${program}`, import.meta.url).pathname;
}

/** A line that a kill has cut off is dropped. */
async function* eventsOf(
  stdout: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<FileEvent> {
  let rest = "";
  for await (const text of stdout.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line);
  }
}
