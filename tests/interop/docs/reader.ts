/**
 * Someone who follows a page.
 *
 * @module
 */

import { type Registry, registryVariables, serveJsr } from "../registries.ts";
import { Lan } from "./machine.ts";
import type { Step } from "./page.ts";
import { ShownText } from "./shown_text.ts";

/** The command `punchline` as the README installs it, and the registry that it came from. */
export class Installation implements AsyncDisposable {
  readonly folder: string;
  readonly #jsr: Registry;

  private constructor(folder: string, jsr: Registry) {
    this.folder = folder;
    this.#jsr = jsr;
  }

  /** Installs the command with a line of the shell. */
  static async make(line: string): Promise<Installation> {
    const installation = new Installation(
      await Deno.makeTempDir({ prefix: "punchline-docs-" }),
      await serveJsr(),
    );
    try {
      const { folder } = installation;
      await installation.run(line, folder);
      await installation.run(
        `deno cache jsr:@punchline/punchline
        mkdir clone
        cd ${ROOT}
        git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t ${folder}/clone
        cd ${folder}/clone
        deno cache examples/*.ts`,
        folder,
      );
      return installation;
    } catch (error) {
      await installation[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs a line with a home folder on this machine, where the registries can be reached. */
  async run(line: string, home: string): Promise<void> {
    const { success, stderr } = await new Deno.Command("bash", {
      args: ["-ec", line],
      cwd: home,
      clearEnv: true,
      env: { ...registryVariables(), ...this.env(home) },
      stdin: "null",
    }).output();
    if (!success) throw new Error(`Cannot run ${line}: ${new TextDecoder().decode(stderr)}`);
  }

  /** The environment of someone with this home. */
  env(home: string): Record<string, string> {
    const [deno] = Deno.execPath().match(/.*(?=\/)/)!;
    return {
      HOME: home,
      PATH: [`${home}/.deno/bin`, `${this.folder}/.deno/bin`, deno, Deno.env.get("PATH")].join(":"),
      DENO_DIR: `${this.folder}/cache`,
      DENO_NO_UPDATE_CHECK: "1",
      NO_COLOR: "1",
      LANG: "C.UTF-8",
      JSR_URL: this.#jsr.url,
      DOCS_CLONE: `${this.folder}/clone`,
      DOCS_SETUP: SETUP,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#jsr[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Follows the steps of one page. */
export class Reader implements AsyncDisposable {
  readonly #installation: Installation;
  readonly #lan: Lan;
  readonly #text = new ShownText();

  private constructor(installation: Installation, lan: Lan) {
    this.#installation = installation;
    this.#lan = lan;
  }

  static async open(installation: Installation): Promise<Reader> {
    const lan = await Lan.open(async (name) => {
      const home = await Deno.makeTempDir({ dir: installation.folder, prefix: `home-${name}-` });
      return { home, env: installation.env(home) };
    });
    return new Reader(installation, lan);
  }

  /**
   * Does what a step says.
   *
   * @throws {Error} if something else happens than the page shows
   */
  async follow(step: Step): Promise<void> {
    switch (step.kind) {
      case "skip":
        return;
      case "write": {
        const { home } = await this.#lan.machine(step.machine);
        const path = step.path.replace(/^~/, home);
        const absolute = path.startsWith("/") ? path : `${home}/${path}`;
        await Deno.mkdir(absolute.replace(/\/[^/]*$/, ""), { recursive: true });
        return await Deno.writeTextFile(absolute, step.text, { mode: 0o600 });
      }
      case "run":
        return await (await this.#lan.machine(step.machine)).run(this.#text.actual(step.script));
      case "press":
        return await (await this.#terminal(step.place)).press(step.key);
      case "end": {
        const terminal = await this.#terminal(step.place);
        const code = await terminal.ended();
        if (code === 0) return;
        throw new Error(`It exited with ${code}\n${(await terminal.output()).join("\n")}`);
      }
      case "type": {
        const terminal = await this.#terminal(step.place);
        for (const line of step.lines) await terminal.type(this.#text.actual(line));
        return;
      }
      case "show":
        return await this.#show(step.place, step.lines);
      case "commands":
        return await this.#enter(step);
    }
  }

  /** Presses Ctrl-C wherever a program still runs: it ends in good order. */
  async finish(): Promise<void> {
    for (const machine of this.#lan.machines) {
      for (const terminal of machine.terminals) {
        if (!await terminal.isBusy()) continue;
        await terminal.press("C-c");
        const code = await terminal.ended();
        if (![0, 130].includes(code)) {
          const output = (await terminal.output()).join("\n");
          throw new Error(`Cannot end this in good order, it exited with ${code}:\n${output}`);
        }
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lan[Symbol.asyncDispose]();
  }

  async #terminal({ machine, terminal }: { machine: string; terminal: string }) {
    return await (await this.#lan.machine(machine)).terminal(terminal);
  }

  async #enter(step: Step & { kind: "commands" }): Promise<void> {
    for (const [index, { command, output }] of step.commands.entries()) {
      const isLast = index === step.commands.length - 1;
      if (step.isOnline) {
        const { home } = await this.#lan.machine(step.place.machine);
        await this.#installation.run(command, home);
        continue;
      }
      const terminal = await this.#terminal(step.place);
      if (await terminal.isBusy()) await terminal.ended();
      await terminal.enter(this.#text.actual(command));
      await this.#show(step.place, output);
      if (isLast && step.stays) return;
      const code = await terminal.ended();
      if (code !== (isLast ? step.exits : 0)) {
        throw new Error(`${command} exited with ${code}\n${(await terminal.output()).join("\n")}`);
      }
    }
  }

  async #show(
    place: { machine: string; terminal: string },
    lines: readonly string[],
  ): Promise<void> {
    const terminal = await this.#terminal(place);
    await terminal.shows(
      (output) => this.#text.missing(lines, output) === undefined,
      JSON.stringify(this.#text.missing(lines, await terminal.output())),
    );
  }
}

const ROOT = new URL("../../../", import.meta.url).pathname;
/** Scripts that set up what a page takes for granted. */
const SETUP = new URL("setup", import.meta.url).pathname;
