/**
 * A real terminal: tmux, whose screen can be read, and resized.
 *
 * @module
 */

import { delay } from "@std/async/delay";

/** A server of terminals. Disposing it ends all of them. */
export class Tmux implements AsyncDisposable {
  readonly #socket: string;
  #sessions = 0;

  private constructor(socket: string) {
    this.#socket = socket;
  }

  /** Starts the server, apart from the user's own. */
  static start(): Tmux {
    return new Tmux(`punchline-${Deno.pid}-${servers++}`);
  }

  /** Opens a terminal that runs a command of the shell. */
  async open(
    command: string,
    size: { readonly columns: number; readonly rows: number },
  ): Promise<Pane> {
    const name = `s${this.#sessions++}`;
    const detached = [
      "new-session",
      "-d",
      "-s",
      name,
      "-x",
      `${size.columns}`,
      "-y",
      `${size.rows}`,
    ];
    await this.run("-f", "/dev/null", ...detached, command);
    return new Pane(this, name);
  }

  /** Runs a command of tmux; returns what it prints. */
  async run(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await new Deno.Command("tmux", {
      args: ["-u", "-L", this.#socket, ...args],
      env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", TERM: "xterm", SHELL: "/bin/sh" },
      stdin: "null",
    }).output();
    if (code === 0) return new TextDecoder().decode(stdout);
    throw new Error(`Cannot run tmux ${args[0]}: ${new TextDecoder().decode(stderr)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run("kill-server").catch(() => {}); // it has ended with its last terminal
  }
}

/** A server that ends takes its socket with it a moment later, so each has one of its own. */
let servers = 0;

/** One terminal. */
export class Pane {
  readonly #tmux: Tmux;
  readonly #name: string;

  constructor(tmux: Tmux, name: string) {
    this.#tmux = tmux;
    this.#name = name;
  }

  /** What is on the screen and above it, line by line as the terminal shows them, without the empty ones at the end. */
  async lines(): Promise<string[]> {
    return trimmed(await this.#tmux.run("capture-pane", "-p", "-t", this.#name, "-S", "-"));
  }

  /** The same, where each line that the terminal has wrapped is whole. */
  async wholeLines(): Promise<string[]> {
    return trimmed(await this.#tmux.run("capture-pane", "-p", "-J", "-t", this.#name, "-S", "-"));
  }

  /** What is on the screen now. */
  async screen(): Promise<string[]> {
    return trimmed(await this.#tmux.run("capture-pane", "-p", "-t", this.#name));
  }

  /** Waits until a line matches; returns all lines. */
  async shows(pattern: RegExp, timeoutMs = 30_000): Promise<string[]> {
    const untilMs = performance.now() + timeoutMs;
    for (;;) {
      const isShown = pattern.test((await this.wholeLines()).join("\n"));
      const lines = await this.lines();
      if (isShown) return lines;
      if (performance.now() > untilMs) {
        throw new Error(`The terminal has not shown ${pattern}:\n${lines.join("\n")}`);
      }
      await delay(100);
    }
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#tmux.run("resize-window", "-t", this.#name, "-x", `${columns}`, "-y", `${rows}`);
  }

  /** Types text; `C-c` and `Enter` are keys. */
  async type(...keys: readonly string[]): Promise<void> {
    await this.#tmux.run("send-keys", "-t", this.#name, ...keys);
  }

  async close(): Promise<void> {
    await this.#tmux.run("kill-session", "-t", this.#name);
  }
}

function trimmed(text: string): string[] {
  return text.trimEnd().split("\n").map((line) => line.trimEnd());
}
