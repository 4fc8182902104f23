/**
 * Runs commands in a pseudo-terminal: `script`, of util-linux, has its other end.
 *
 * @module
 */

import { assert } from "@std/assert";
import { testUnless } from "../interop/tool_test_case.ts";
import { CLI, WITH_UNSTABLE } from "./command.ts";

/**
 * A test in a pseudo-terminal. Where there is none, it is skipped, with the reason beside its name; on Linux with `CI=true`
 * in the environment it fails instead.
 */
export function terminalTest(
  name: string,
  run: (context: Deno.TestContext) => Promise<void>,
): void {
  testUnless(NO_TERMINAL, name, run, { failsInCi: Deno.build.os === "linux" });
}

/** A terminal with a command in it. */
export class Terminal implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #keyboard: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  #screen = "";
  #changed = Promise.withResolvers<void>();
  #isOver = false;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#keyboard = child.stdin.getWriter();
    this.#reading = this.#read();
    child.status.then(() => this.#isOver = true);
  }

  /** Starts `cli.ts` in a terminal. `options.shell` wraps the command in shell text, with `$COMMAND` in it. */
  static start(
    args: readonly string[],
    options: { readonly permissions?: readonly string[]; readonly shell?: string } = {},
  ): Terminal {
    const { permissions = [], shell = "exec $COMMAND" } = options;
    const command = [
      ...[Deno.execPath(), "run", "--quiet", "--no-prompt", "--config", WITH_UNSTABLE],
      ...["--allow-net", ...permissions, CLI, ...args],
    ].map((word) => `'${word}'`).join(" ");
    const text = `echo "pid $$."; ${shell.replace("$COMMAND", () => command)}`;
    const child = new Deno.Command("script", {
      args: ["--quiet", "--return", "--flush", "--command", text, "/dev/null"],
      env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", SHELL: "/bin/sh" },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    return new Terminal(child);
  }

  /** What has been printed so far. */
  get screen(): string {
    return this.#screen;
  }

  /** Waits until this has been printed; returns everything so far. */
  async prints(text: string | RegExp): Promise<string> {
    const has = () =>
      text instanceof RegExp ? text.test(this.#screen) : this.#screen.includes(text);
    while (!has()) {
      const changed = this.#changed.promise;
      if (await Promise.race([changed, this.#reading.then(() => "ended")]) === "ended") break;
    }
    assert(has(), `it has only printed ${this.#screen}`);
    return this.#screen;
  }

  /** The process in it. */
  async pid(): Promise<number> {
    return Number(/pid (\d+)\./.exec(await this.prints(/pid \d+\./))![1]);
  }

  async type(text: string): Promise<void> {
    await this.#keyboard.write(new TextEncoder().encode(text));
  }

  /** Closes the window: the system hangs up. */
  async close(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }

  /** The exit code. */
  async end(): Promise<number> {
    const { code } = await this.#child.status;
    await this.#reading;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#keyboard.abort().catch(() => {});
    await this.#reading;
  }

  async #read(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.#screen += text;
      const changed = this.#changed;
      this.#changed = Promise.withResolvers();
      changed.resolve();
    }
  }
}

/** Why there is no pseudo-terminal; `undefined` if there is one. */
const NO_TERMINAL = Deno.build.os !== "linux"
  ? "pseudo-terminals are tested on Linux only"
  : hasScript()
  ? undefined
  : "script of util-linux is not installed (Debian package bsdutils)";

function hasScript(): boolean {
  try {
    const { stdout } = new Deno.Command("script", { args: ["--version"] }).outputSync();
    return new TextDecoder().decode(stdout).includes("util-linux");
  } catch {
    return false;
  }
}
