/**
 * The command lines in the headers of the examples, run as they stand there, each side in a clone of its own. Only what is
 * a placeholder is filled in, and the rendezvous is on this machine, as the header says how to.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { terminalTest } from "../cli/terminal.ts";

const ROOT = new URL("../../", import.meta.url);

/** What a reader of the header fills in, and what they see then; the first side is `a`, the second one `b`. */
interface Scene {
  readonly fill?: Readonly<Record<string, string>>;
  /** What the second side prints. */
  readonly prints: RegExp;
  /** What the second side types, in a terminal. */
  readonly types?: string;
  /** Looks at what has come of it. */
  readonly after?: (clone: string) => Promise<void>;
}

const SCENES: Readonly<Record<string, Scene>> = {
  "chat.ts": { prints: /Connected \(host\)/ },
  "http.ts": { fill: { "[PATH]": "/news" }, prints: /You asked for \/news/ },
  "reverse_proxy.ts": { prints: /Open http:\/\/localhost:\d+/ },
  "room.ts": { prints: /\* ann is here/ },
  "share.ts": {
    fill: { "FILE...": "LICENSE" },
    prints: /LICENSE, \d+ bytes/,
    types: "y\n",
    after: async (clone) => {
      const original = await Deno.readTextFile(new URL("LICENSE", ROOT));
      assertEquals(await Deno.readTextFile(`${clone}/LICENSE`), original);
    },
  },
};

for (const { name } of [...Deno.readDirSync(new URL("examples/", ROOT))]) {
  const test = SCENES[name]?.types === undefined ? Deno.test : terminalTest; // it asks in a terminal
  test(
    `the commands in the header of ${name} work as they stand there`,
    () =>
      withClones(async (a, b) => {
        const { fill = {}, prints, types, after } = SCENES[name] ?? { prints: /./ };
        const [first, second, ...more] = await commandsOf(name);
        assertEquals(more, []);
        await using rendezvous = await serveRendezvous({
          network: systemNetwork,
          local: { ip: "127.0.0.1", port: 0 },
        });
        await using one = run(filled(first!, fill), a, rendezvous.url);
        const [, ticket] = await one.prints(/ticket: (\S+)/);
        const line = filled(second!, { ...fill, TICKET: ticket! });
        await using other = run(line, b, rendezvous.url, types);
        await other.prints(prints);
        if (after !== undefined) {
          assertEquals(await other.exit, 0, other.text);
          await after(b);
        }
      }),
  );
}

Deno.test("the header of each example says how to use a rendezvous of one's own", async () => {
  for await (const { name } of Deno.readDir(new URL("examples/", ROOT))) {
    const text = await Deno.readTextFile(new URL(`examples/${name}`, ROOT));
    assertMatch(
      text.replaceAll(/\s*\n \* ?/g, " "),
      /set RENDEZVOUS=ws.*add `--allow-env=RENDEZVOUS`/,
    );
  }
});

/** The indented lines of the header, without what they do. */
async function commandsOf(example: string): Promise<string[]> {
  const text = await Deno.readTextFile(new URL(`examples/${example}`, ROOT));
  const [header] = text.split("*/", 1);
  const lines = [...header!.matchAll(/^ \* {5}(deno run .*?)(?: {2,}.*)?$/gm)];
  return lines.map(([, line]) => line!);
}

/** Fills in placeholders, and ports that are free. */
function filled(line: string, fill: Readonly<Record<string, string>>): string {
  const words = line.split(" ").map((word) =>
    fill[word] ?? (/^[89]000$/.test(word) ? freePort() : word)
  );
  const command = words.join(" ");
  const left = /\b[A-Z]{3,}\b/.exec(command.replaceAll(/punchline:\S+|LICENSE/g, ""))?.[0];
  assertEquals(left, undefined, `${command}: what is ${left}?`);
  return command;
}

function freePort(): string {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return `${listener.addr.port}`;
}

/** Runs the command line in a folder; with something to type, in a terminal. */
function run(line: string, cwd: string, url: string, types?: string): Program {
  assert(line.startsWith("deno run "), line);
  const command = line.replace("deno run ", `'${Deno.execPath()}' run --allow-env=RENDEZVOUS `);
  const [program, ...args] = types === undefined
    ? ["sh", "-c", `exec ${command}`]
    : ["script", "--quiet", "--return", "--flush", "--command", command, "/dev/null"];
  const child = new Deno.Command(program!, {
    args,
    cwd,
    env: { RENDEZVOUS: url, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", SHELL: "/bin/sh" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  return new Program(child, types);
}

/** A running program, and what it has printed. */
class Program implements AsyncDisposable {
  text = "";
  readonly exit: Promise<number>;
  readonly #child: Deno.ChildProcess;
  readonly #keyboard: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<unknown>;
  #changed = Promise.withResolvers<void>();
  #types: string | undefined;

  constructor(child: Deno.ChildProcess, types: string | undefined) {
    this.#child = child;
    this.#types = types;
    this.#keyboard = child.stdin.getWriter();
    this.#reading = Promise.all([this.#read(child.stdout), this.#read(child.stderr)]);
    this.exit = child.status.then(async ({ code }) => {
      await this.#reading;
      return code;
    });
  }

  /** Waits until it has printed this. */
  async prints(what: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = what.exec(this.text);
      if (found !== null) return found;
      const ended = this.#reading.then(() => true);
      const changed = this.#changed.promise.then(() => false);
      if (await Promise.race([changed, ended])) {
        assertMatch(this.text, what);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch { /* it has ended */ }
    await this.exit;
    await this.#keyboard.abort().catch(() => {}); // the same
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.text += text;
      if (this.#types !== undefined && /\[y\/N\]/i.test(this.text)) {
        await this.#keyboard.write(new TextEncoder().encode(this.#types));
        this.#types = undefined;
      }
      const changed = this.#changed;
      this.#changed = Promise.withResolvers();
      changed.resolve();
    }
  }
}

/** Two folders with what a clone has that an example needs. */
async function withClones(test: (a: string, b: string) => Promise<void>): Promise<void> {
  const scratch = new URL("../transfer/scratch/", import.meta.url).pathname;
  const folder = await Deno.makeTempDir({ dir: scratch });
  try {
    for (const clone of [`${folder}/a`, `${folder}/b`]) {
      await Deno.mkdir(clone);
      for (const name of ["lib", "deps", "examples", "mod.ts", "deno.json", "deno.lock"]) {
        await copy(new URL(name, ROOT).pathname, `${clone}/${name}`);
      }
    }
    await Deno.copyFile(new URL("LICENSE", ROOT), `${folder}/a/LICENSE`);
    await test(`${folder}/a`, `${folder}/b`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function copy(from: string, to: string): Promise<void> {
  if (!(await Deno.stat(from)).isDirectory) return await Deno.copyFile(from, to);
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) await copy(`${from}/${name}`, `${to}/${name}`);
}
