/**
 * The lines of the README that install the command, each as it is written there, in a home of its own: from JSR and npm
 * by stand-ins for the registries, and from a clone. Then the installed command sends a file to another one.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Buffer } from "node:buffer";
import { INSTALLED_FLAGS } from "../../deps/installed_command.ts";
import { withServers } from "../cli/command.ts";
import { registryVariables, serveJsr, serveNpm } from "./registries.ts";
import { toolTest } from "./tool_test_case.ts";

const README = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
const INSTALL_DOC = await Deno.readTextFile(new URL("../../docs/install.md", import.meta.url));
const ROOT = new URL("../../", import.meta.url);

const NODE = { npm: "npm", npx: "npm", git: "git" };

Deno.test("the README installs in one line from JSR, from a clone and by npx, and never with -A", () => {
  const lines = linesOf(README, "## Install");
  assertEquals(lines.map((line) => line.split(" ", 3).join(" ")), [
    "deno install --global",
    "deno task install",
    "npx punchline --help",
  ]);
  assert(!lines.some((line) => / -A\b|--allow-all/.test(line)));
  assertEquals(lines[0], `deno install --global ${INSTALLED_FLAGS.join(" ")} ${JSR_NAME}`);
});

toolTest("deno install, from JSR as the README has it", NODE, async () => {
  await using home = await Home.create();
  await using jsr = await serveJsr();
  await home.run(linesOf(README, "## Install")[0]!, { JSR_URL: jsr.url });
  await home.isInstalled({ JSR_URL: jsr.url });
});

toolTest("deno task install, from a clone as the README has it, and its man page", {
  ...NODE,
  man: "man-db",
}, async () => {
  await using home = await Home.create();
  await home.clone();
  await home.run(linesOf(README, "## Install")[1]!);
  await Deno.remove(`${home.path}/clone`, { recursive: true }); // it is not needed any more
  await home.isInstalled();
  const page = await home.run("man punchline | col -b");
  assertMatch(page, /punchline - connect two machines/);
  assertMatch(page, /--allow-hidden/);
});

toolTest("npx punchline, as the README has it, and TERM reaches the command", NODE, async () => {
  await using home = await Home.create();
  await using npm = await serveNpm();
  const env = { npm_config_registry: npm.url, npm_config_yes: "true" };
  const help = await home.run(linesOf(README, "## Install")[2]!, env);
  assertMatch(help, /Usage: npx punchline COMMAND/);
  const printed = await home.run("npx punchline listen --hand --timeout 100ms 2>&1 || true", env);
  assertMatch(printed, /^On the other machine: npx punchline connect punchline:/m);
  await home.run("npm install --global --prefix ~/npm punchline", env);
  const script = `mkfifo ~/in; ~/npm/bin/punchline listen --hand <>~/in 2>~/out & child=$!
    until grep -q 'On the other machine: punchline connect' ~/out; do sleep 0.1; done
    kill -TERM $child; wait $child; echo "exit $?"`;
  assertMatch(await home.run(script, env), /exit 143/);
});

toolTest(
  "from nothing to a file on another machine in two commands a side",
  NODE,
  () =>
    withServers(async (servers) => {
      await using sender = await Home.create();
      await using receiver = await Home.create();
      await using jsr = await serveJsr();
      const env = { JSR_URL: jsr.url };
      await sender.clone();
      await Deno.writeTextFile(`${sender.path}/clone/hello.txt`, "hello\n");
      await sender.run(linesOf(README, "## Install")[1]!); // one
      await receiver.run(linesOf(README, "## Install")[0]!, env); // one
      // Two; the options keep the test on this machine.
      const { line, ended } = await sender.send(
        `punchline send hello.txt ${servers.all.join(" ")}`,
      );
      assertMatch(line, /^punchline recv --rendezvous \S+ \d+(?:-[a-z]+){3}$/);
      await receiver.run(`${line} --yes ${servers.server.join(" ")}`, env);
      assertEquals(await Deno.readTextFile(`${receiver.path}/hello.txt`), "hello\n");
      assertEquals(await ended, 0);
    }),
);

Deno.test("deno compile, as docs/install.md has it", async () => {
  await using home = await Home.create();
  await home.clone();
  const line = linesOf(INSTALL_DOC, "## One file")[0]!;
  assertEquals(
    line,
    `deno compile ${
      INSTALLED_FLAGS.join(" ")
    } --include lib/cli/serve_thread.ts --output punchline punchline.ts`,
  );
  try {
    await home.run(line);
    assertMatch(await home.run("./punchline --version"), /^punchline \d/);
    assertMatch(await home.run("./punchline help stun"), /^ {2}punchline stun/m);
  } catch (error) {
    if (!/dl\.deno\.land.*(?:dns|Connect)/s.test(String(error))) throw error;
    // Its runtime cannot be downloaded here, and npm has none. Deno itself in its place shows that each module is embedded,
    // those that a command loads later, too; the result runs as Deno does.
    await home.run(line, { DENORT_BIN: Deno.execPath() });
    const runtime = await Deno.stat(Deno.execPath());
    const embedded = (await Deno.readFile(`${home.path}/clone/punchline`)).subarray(runtime.size);
    const { modules } = JSON.parse(await home.run("deno info --json punchline.ts"));
    const files: string[] = modules.flatMap(({ local }: { local?: string }) => local ?? [])
      .filter((file: string) => file.startsWith(home.path) && !file.endsWith(".d.ts"));
    const sources = await Promise.all(files.map((file) => Deno.readTextFile(file)));
    const bytes = Buffer.from(embedded.buffer, embedded.byteOffset);
    const hasCode = (source: string) => /^export (?!type|interface)/m.test(source);
    const missing = files.filter((_, index) =>
      hasCode(sources[index]!) && !bytes.includes(Buffer.from(sources[index]!))
    );
    assert(files.length > 200);
    assertEquals(missing, []);
  }
});

toolTest("a command that may touch one folder only, as docs/install.md has it", NODE, async () => {
  await using home = await Home.create();
  await using jsr = await serveJsr();
  const env = { JSR_URL: jsr.url };
  await home.run(linesOf(INSTALL_DOC, "## Permissions")[0]!, env);
  const inside = await home.run("mkdir inbox && punchline-recv id --key ~/inbox/key", env);
  assertMatch(inside, /^[\w-]{43}\n$/);
  const outside = await home.run("punchline-recv id --key ~/key 2>&1 || true", env);
  assertMatch(outside, /--allow-read is not granted/);
});

toolTest(
  "serve --workers: from JSR with --allow-net alone; from a clone, it names what is missing",
  NODE,
  async () => {
    await using home = await Home.create();
    await using jsr = await serveJsr();
    const serve = "serve --workers 2 --json --port 0 --alternate-port 0 --rendezvous-port 0";
    // Programs may be imported from JSR itself without being asked; its stand-in has to be allowed.
    const { host } = new URL(jsr.url);
    const script =
      `deno run --no-prompt --quiet --allow-net --allow-import=${host} ${JSR_NAME} ${serve} >~/out & child=$!
    until grep -q '"listening"' ~/out; do kill -0 $child || exit 1; sleep 0.1; done
    kill -TERM $child; wait $child; echo "exit $?"`;
    assertMatch(await home.run(script, { JSR_URL: jsr.url }), /exit 143/);

    await home.clone();
    const refused = await home.run(
      `deno run --no-prompt --allow-net cli.ts ${serve} 2>&1 || echo "exit $?"`,
    );
    assertMatch(refused, /exit 1/);
    const [, option] = /(--allow-read=\S+)/.exec(refused) ?? [];
    const allowed = `deno run --no-prompt --allow-net ${option} cli.ts ${serve} >~/out & child=$!
    until grep -q '"listening"' ~/out; do kill -0 $child || exit 1; sleep 0.1; done
    kill -TERM $child; wait $child; echo "exit $?"`;
    assertMatch(await home.run(allowed), /exit 143/);
  },
);

/** A home folder without anything in it. */
class Home {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<Home> {
    return new Home(await Deno.makeTempDir({ prefix: "punchline-home-" }));
  }

  /** Clones the repository, with what is not committed yet. */
  async clone(): Promise<void> {
    await this.run(
      `mkdir clone && cd ${ROOT.pathname} && git ls-files -z --cached --others --exclude-standard |
      xargs -0 cp --parents -t ${this.path}/clone`,
    );
  }

  /** Runs a line as a person would; in the clone if there is one. */
  async run(line: string, env: Record<string, string> = {}): Promise<string> {
    const { success, stdout, stderr } = await this.#command(line, env).output();
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assert(success, `${line}\n${out}${err}`);
    return out!;
  }

  /** Starts `send`, and waits for the line that it tells the other side to type. */
  async send(line: string): Promise<{ line: string; ended: Promise<number> }> {
    const child = this.#command(line, {}).spawn();
    const told = Promise.withResolvers<string>();
    const ended = (async () => {
      await child.stdout.cancel();
      let text = "";
      for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
        text += chunk;
        const [, line] = /^Or, within an hour: (.*)$/m.exec(text) ?? [];
        if (line !== undefined) told.resolve(line);
      }
      told.reject(new Error(`Cannot find the command for the other side in ${text}`));
      return (await child.status).code;
    })();
    return { line: await told.promise, ended };
  }

  /** The installed command works, carries the permissions of the README, and names itself. */
  async isInstalled(env: Record<string, string> = {}): Promise<void> {
    assertMatch(await this.run("punchline --version", env), /^punchline \d+\.\d+\.\d+\n$/);
    const script = await Deno.readTextFile(`${this.path}/.deno/bin/punchline`);
    for (const flag of INSTALLED_FLAGS) assert(script.includes(flag), `${flag} in ${script}`);
    assert(!/ -A | --allow-all/.test(script), script);
    const printed = await this.run("punchline listen --hand --timeout 100ms 2>&1 || true", env);
    assertMatch(printed, /^On the other machine: punchline connect punchline:/m);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }

  #command(line: string, env: Record<string, string>): Deno.Command {
    const [deno] = Deno.execPath().match(/.*(?=\/)/)!;
    const isCloned = exists(`${this.path}/clone`);
    return new Deno.Command("bash", {
      args: ["-c", `set -o pipefail; ${line}`],
      cwd: isCloned ? `${this.path}/clone` : this.path,
      clearEnv: true,
      env: {
        ...registryVariables(),
        HOME: this.path,
        PATH: `${this.path}/.deno/bin:${deno}:${Deno.env.get("PATH")}`,
        DENO_DIR: `${this.path}/cache`,
        DENO_NO_UPDATE_CHECK: "1",
        NO_COLOR: "1",
        npm_config_cache: `${Deno.env.get("HOME")}/.npm`, // Deno's package has a hundred megabytes
        npm_config_update_notifier: "false",
        ...env,
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
  }
}

/** The lines of all shell blocks under a heading. */
function linesOf(text: string, heading: string): string[] {
  const [, section = ""] = text.split(`\n${heading}`);
  const [body] = section.split(/\n## /);
  return [...body!.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, lines]) => lines!.trim().split("\n"));
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

const JSR_NAME = "jsr:@punchline/punchline/punchline";
