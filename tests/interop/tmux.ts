/**
 * A real terminal: tmux, with a server of its own.
 *
 * @module
 */

/** A shell or another program on a terminal. */
export class Terminal implements AsyncDisposable {
  readonly #socket: string;

  private constructor(socket: string) {
    this.#socket = socket;
  }

  /** Starts the program on a terminal of 100 columns and 30 rows. */
  static async open(
    program: string,
    { folder, env }: { folder: string; env: Readonly<Record<string, string>> },
  ): Promise<Terminal> {
    const terminal = new Terminal(`${folder}/tmux`);
    // As an argument of tmux, PATH would not reach the program.
    const variables = Object.entries(env).map(([name, value]) => `${name}='${value}'`);
    await terminal.#tmux([
      ...["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "-c", folder],
      `exec env ${variables.join(" ")} ${program}`,
    ]);
    return terminal;
  }

  /** Types the text; `\n` is Enter and `\t` is Tab. */
  async type(text: string): Promise<void> {
    for (const part of text.split(/([\n\t])/)) {
      if (part === "\n") await this.key("Enter");
      else if (part === "\t") await this.key("Tab");
      else if (part !== "") await this.#tmux(["send-keys", "-l", part]);
    }
  }

  /** Presses a key, by tmux's name for it. */
  async key(name: string): Promise<void> {
    await this.#tmux(["send-keys", name]);
  }

  /** The screen, without the spaces at the ends of lines. */
  async screen(): Promise<string> {
    return await this.#tmux(["capture-pane", "-p"]);
  }

  /** Waits until the screen has the text. */
  async shows(text: string): Promise<void> {
    await this.#until(text, true);
  }

  /** Waits until the screen does not have the text. */
  async hides(text: string): Promise<void> {
    await this.#until(text, false);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tmux(["kill-server"]);
  }

  async #until(text: string, isWanted: boolean): Promise<void> {
    const deadline = performance.now() + MAX_WAIT_MS;
    for (;;) {
      const screen = await this.screen();
      if (screen.includes(text) === isWanted) return;
      if (performance.now() > deadline) {
        throw new Error(`Cannot ${isWanted ? "see" : "clear"} ${JSON.stringify(text)}:\n${screen}`);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async #tmux(args: readonly string[]): Promise<string> {
    const { success, stdout, stderr } = await new Deno.Command("tmux", {
      args: ["-S", this.#socket, ...args],
      env: { TMUX: "" },
    }).output();
    if (success) return new TextDecoder().decode(stdout);
    throw new Error(`Cannot run tmux ${args[0]}: ${new TextDecoder().decode(stderr)}`);
  }
}

/** Chosen by us: a shell may have to be read from a slow disk. */
const MAX_WAIT_MS = 20_000;
const POLL_MS = 50;
