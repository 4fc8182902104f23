/**
 * Runs the examples as a user would: two programs and a rendezvous, on this machine.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { TextLineStream } from "../../lab/kernel/lines.ts";

Deno.test("chat.ts carries a chat until one side leaves", () =>
  withRendezvous(async (url) => {
    const host = start("chat.ts", [], url);
    const ticket = await host.lineWith("ticket: ");
    const guest = start("chat.ts", [ticket], url);
    await Promise.all([host.lineWith("Connected"), guest.lineWith("Connected")]);
    await guest.type("hello there\n");
    assertEquals(await host.lineWith("> "), "hello there");
    await host.type("general greetings\n");
    assertEquals(await guest.lineWith("> "), "general greetings");
    await Promise.all([guest.end(), host.end()]);
    await Promise.all([host.lineWith("has left"), guest.lineWith("has left")]);
    assertEquals(await Promise.all([host.exit(), guest.exit()]), [0, 0]);
  }));

Deno.test("share.ts sends files to the holder of the ticket", () =>
  withRendezvous(async (url) => {
    const scratch = new URL("../transfer/scratch/", import.meta.url);
    const folder = await Deno.makeTempDir({ dir: scratch.pathname });
    try {
      const [from, to] = [`${folder}/from`, `${folder}/to`];
      await Promise.all([Deno.mkdir(from), Deno.mkdir(to)]);
      const content = crypto.getRandomValues(new Uint8Array(60_000));
      await Deno.writeFile(`${from}/photo.jpg`, content);
      const sender = start("share.ts", [`${from}/photo.jpg`], url);
      const receiver = start(
        "share.ts",
        [await sender.lineWith("ticket: "), "--yes"],
        url,
        to,
      );
      assertEquals(await Promise.all([sender.exit(), receiver.exit()]), [0, 0]);
      assertEquals(await Deno.readFile(`${to}/photo.jpg`), content);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }));

Deno.test("reverse_proxy.ts gives one friend access to a web server", () =>
  withRendezvous(async (url) => {
    await using web = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
      return new Response("a page");
    });
    const server = start("reverse_proxy.ts", ["serve", `${web.addr.port}`], url);
    const ticket = await server.lineWith("ticket: ");
    const friend = start("reverse_proxy.ts", ["open", ticket, "0"], url);
    const port = (await friend.lineWith("Open http://")).split(":")[1];
    const response = await fetch(`http://127.0.0.1:${port}/`);
    assertEquals(await response.text(), "a page");
    await Promise.all([friend.kill(), server.kill()]);
  }));

Deno.test("http.ts answers a request over a peer connection", () =>
  withRendezvous(async (url) => {
    const server = start("http.ts", [], url);
    const ticket = await server.lineWith("ticket: ");
    const friend = start("http.ts", [ticket, "/news"], url);
    assertEquals(await friend.lineWith("You asked for "), "/news");
    assertEquals(await friend.exit(), 0);
    await server.kill();
  }));

for (
  const [what, example, args, granted, expected] of [
    ["a ticket that is none", "chat.ts", ["hello"], true, /^Cannot read ticket: /],
    ["a damaged ticket", "http.ts", ["punchline:AAAA"], true, /^Cannot read ticket: /],
    ["a ticket that is none", "share.ts", ["punchline:no"], true, /^Cannot read ticket: /],
    ["a server that is gone", "share.ts", ["file"], true, /^Cannot listen for others: /],
    ["a server that is gone", "room.ts", ["ann"], true, /^Cannot listen for others: /],
    ["a missing permission", "room.ts", ["ann"], false, /is not granted/],
    ["a missing permission", "chat.ts", [], false, /is not granted/],
    ["a missing permission", "http.ts", [], false, /is not granted/],
    ["a missing permission", "share.ts", ["file"], false, /is not granted/],
    ["a missing permission", "reverse_proxy.ts", ["serve", "80"], false, /is not granted/],
  ] as const
) {
  Deno.test(`${example} says one sentence about ${what}, and exits with 1`, async () => {
    const permissions = granted ? ["--allow-net", "--allow-read"] : [];
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--no-prompt", "--allow-env=RENDEZVOUS", ...permissions],
        ...[new URL(`../../examples/${example}`, import.meta.url).href, ...args],
      ],
      env: { RENDEZVOUS: "ws://127.0.0.1:9", DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    }).output();
    const said = new TextDecoder().decode(stderr).trimEnd();
    assertEquals(code, 1, said);
    assert(expected.test(said) && !said.includes("\n"), said);
  });
}
Deno.test("room.ts connects everyone with everyone, and goes on when one is killed and another one joins", () =>
  withRendezvous(async (url) => {
    const ann = start("room.ts", ["ann"], url);
    const bob = start("room.ts", ["bob", await ann.lineWith("ticket: ")], url);
    assertEquals(await ann.lineWith("* "), "bob is here");
    await bob.lineWith("* ann is here");
    const cat = start("room.ts", ["cat", await bob.ticket()], url); // bob says where ann is
    await Promise.all([ann, bob].map((each) => each.lineWith("* cat is here")));
    const here = [await cat.lineWith("* "), await cat.lineWith("* ")];
    assertEquals(here.sort(), ["ann is here", "bob is here"]);
    await cat.type("hello all\n");
    assertEquals(await ann.lineWith("cat: "), "hello all");
    assertEquals(await bob.lineWith("cat: "), "hello all");

    await bob.kill();
    const left = [ann, cat].map(async (
      each,
    ) => [await each.lineWith("* "), await each.lineWith("* ")]);
    for (const lines of await Promise.all(left)) {
      assertEquals(lines, ["bob is away", "bob has left"]);
    }
    await ann.type("still here\n");
    assertEquals(await cat.lineWith("ann: "), "still here");

    const dan = start("room.ts", ["dan", await cat.ticket()], url);
    await Promise.all([ann, cat].map((each) => each.lineWith("* dan is here")));
    await dan.lineWith("* ");
    await dan.lineWith("* ");
    await dan.type("/who\nhi\n");
    await dan.lineWith("dan, ann, cat");
    assertEquals(await ann.lineWith("dan: "), "hi");
    assertEquals(await cat.lineWith("dan: "), "hi");
    assertEquals(await dan.exit(), 0); // Ctrl-D
    await Promise.all([ann, cat].map((each) => each.lineWith("* dan has left")));
    assertEquals(await Promise.all([ann.exit(), cat.exit()]), [0, 0]);
  }));

async function withRendezvous(test: (url: string) => Promise<void>): Promise<void> {
  await using server = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
  });
  await test(server.url);
}

/** A running program, and its output. */
class Program {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream()).getReader();
    this.#input = child.stdin.getWriter();
  }

  /** The rest of the next line that contains this text. */
  async lineWith(text: string): Promise<string> {
    for (;;) {
      const { value, done } = await this.#lines.read();
      assert(!done, `the program ended without printing ${JSON.stringify(text)}`);
      const [, rest] = value.split(text);
      if (rest !== undefined) return rest;
    }
  }

  /** What a member of a room shows as its ticket. */
  async ticket(): Promise<string> {
    await this.type("/ticket\n");
    return `punchline:${await this.lineWith("punchline:")}`;
  }

  async type(text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(text));
  }

  async end(): Promise<void> {
    await this.#input.close();
  }

  async exit(): Promise<number> {
    await this.#input.close().catch(() => {}); // it may be closed already
    while (!(await this.#lines.read()).done);
    return (await this.#child.status).code;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exit();
  }
}

function start(example: string, args: readonly string[], url: string, cwd?: string): Program {
  const program = new URL(`../../examples/${example}`, import.meta.url);
  const files = example === "share.ts" ? ["--allow-read", "--allow-write"] : [];
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-net",
      "--allow-env=RENDEZVOUS",
      ...files,
      program.href,
      ...args,
    ],
    env: { RENDEZVOUS: url, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
    cwd,
  });
  return new Program(child.spawn());
}
