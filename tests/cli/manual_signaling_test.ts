/**
 * `--hand`: two processes whose only signaling is what the test copies between them.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { StdinLines } from "../../lib/cli/stdin_lines.ts";
import { stdinOf, textOf } from "./byte_streams.ts";
import { type Command, start, withScratch, withServers } from "./command.ts";

Deno.test("listen --hand and connect make a connection, which gets the rest of stdin", () =>
  withServers(async (servers) => {
    const [here, there] = [new Keyboard(), new Keyboard()];
    const listener = start(["listen", "--hand", ...servers.server], { input: here.input });
    const ticket = await listener.ticket();
    const connector = start(["connect", ticket, ...servers.server], { input: there.input });
    await here.type("what is this?\n");
    await listener.prints("a message starts with punchline-hand:");
    await listener.prints("Copy the whole text again, and paste it as it is");
    await here.type(`${await shownBy(connector)}\n`);
    await there.type(`${await shownBy(listener)}\n`);
    await Promise.all([listener, connector].map((command) => command.prints("Connected")));
    await there.type("to the listener\n");
    await there.end();
    await here.type("to the connector\n");
    await here.end();
    const [a, b] = await Promise.all([listener.end(), connector.end()]);
    assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
    assertEquals([a.stdout, b.stdout], ["to the listener\n", "to the connector\n"]);
    for (const { stderr } of [a, b]) {
      assertEquals(stderr.match(/within a few minutes/g)?.length, 1, stderr);
      assert(stderr.split("\n").every((line) => line.length < 4000));
    }
  }));

Deno.test("send --hand and recv transfer a file", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      await Deno.writeTextFile(`${folder}/note.txt`, "hello");
      await Deno.mkdir(`${folder}/to`);
      const [here, there] = [new Keyboard(), new Keyboard()];
      const sender = start(["send", `${folder}/note.txt`, "--hand", ...servers.server], {
        permissions,
        input: here.input,
      });
      const args = [
        "recv",
        await sender.ticket(),
        "--yes",
        "--to",
        `${folder}/to`,
        ...servers.server,
      ];
      const receiver = start(args, { permissions, input: there.input });
      await here.type(`${await shownBy(receiver)}\n`);
      await there.type(`${await shownBy(sender)}\n`);
      const [a, b] = await Promise.all([sender.end(), receiver.end()]);
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assertEquals(await Deno.readTextFile(`${folder}/to/note.txt`), "hello");
    })
  ));

Deno.test("--hand --json prints the message as an event", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--hand", "--json", ...servers.server], {
      input: silence(),
    });
    const ticket = await listener.ticket();
    const args = ["connect", ticket, "--json", "--timeout", "2s", ...servers.server];
    const { code, stderr } = await start(args, { input: silence() }).end();
    assertEquals(code, 4, stderr);
    const line = stderr.split("\n").find((line) => !line.includes('"event":"signaling"'));
    const { event, text } = JSON.parse(line!);
    assertEquals(event, "message");
    assertMatch(text, /^punchline-hand:[A-Za-z0-9_-]+$/);
    listener.interrupt();
    assertEquals((await listener.end()).code, 130);
  }));

Deno.test("--hand ends at once if stdin does, or if nothing in it is a message", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      await Deno.writeTextFile(`${folder}/note.txt`, "hello");
      const listener = start(["listen", "--hand", ...servers.server], { input: silence() });
      const sender = start(["send", `${folder}/note.txt`, "--hand", ...servers.server], {
        permissions,
        input: silence(),
      });
      const commands = [
        [["connect", await listener.ticket()], "answer"],
        [["recv", await sender.ticket(), "--yes", "--to", folder], "answer"],
        [["listen", "--hand"], "message"],
        [["send", `${folder}/note.txt`, "--hand"], "message"],
      ] as const;
      for (const [args, what] of commands) {
        for (const input of ["", "what is this?\n"]) {
          const { code, stderr } = await start([...args, ...servers.server], { permissions, input })
            .end();
          assertEquals(code, 1, stderr);
          assertStringIncludes(stderr, `stdin has ended, so the other side's ${what} cannot be`);
          assertStringIncludes(stderr, "keep stdin open");
        }
      }
      for (const command of [listener, sender]) {
        command.kill();
        await command.end();
      }
    })
  ));

Deno.test("--hand rejects options that contradict it", async () => {
  for (
    const [args, why] of [
      [["listen", "--hand", "--lan"], "--hand cannot be combined with"],
      [["listen", "--hand", "--tcp", "80"], "--tcp cannot be used with manual signaling"],
    ] as const
  ) {
    const { code, stderr } = await start(args).end();
    assertEquals(code, 2, stderr);
    assertMatch(stderr, new RegExp(why));
  }
});

Deno.test("StdinLines loses nothing between the lines and the rest, wherever the chunks end", async () => {
  const text = "first\nsecond\r\nthe rest: \u{1f600}\nand more";
  const bytes = new TextEncoder().encode(text);
  for (let size = 1; size <= bytes.length; size++) {
    const chunks = Array.from(
      { length: Math.ceil(bytes.length / size) },
      (_, i) => bytes.slice(i * size, (i + 1) * size),
    );
    const stdin = new StdinLines({ stdin: stdinOf(ReadableStream.from(chunks)) });
    const lines: string[] = [];
    for await (const line of stdin) if (lines.push(line) === 2) break;
    assertEquals(lines, ["first", "second"]);
    assertEquals(await textOf(stdin.rest()), "the rest: \u{1f600}\nand more");
  }
});

Deno.test("StdinLines hands a pending read over to the rest", async () => {
  const keyboard = new Keyboard();
  const stdin = new StdinLines({ stdin: stdinOf(keyboard.input) });
  const lines = Array.fromAsync(stdin);
  await keyboard.type("line\n");
  await new Promise((resolve) => setTimeout(resolve));
  const rest = textOf(stdin.rest());
  await keyboard.type("data\n");
  await keyboard.end();
  assertEquals([await lines, await rest], [["line"], "data\n"]);
});

Deno.test("StdinLines returns what was read ahead at once, although a read is pending", async () => {
  const keyboard = new Keyboard();
  const stdin = new StdinLines({ stdin: stdinOf(keyboard.input) });
  const watching = stdin.watch(() => {});
  await keyboard.type("typed early");
  await new Promise((resolve) => setTimeout(resolve));
  const rest = stdin.rest();
  const stop = new AbortController();
  stop.abort(new Error("gone"));
  await assertRejects(() => rest.next(stop.signal), Error, "gone");
  assertEquals(new TextDecoder().decode((await rest.next())!), "typed early");
  await keyboard.type(" and late");
  await keyboard.end();
  assertEquals(await textOf(rest), " and late");
  await watching;
});

/** The message for the other side that a command has shown, with its line breaks. */
async function shownBy(command: Command): Promise<string> {
  const shown = /within a few minutes:\n\n([^]*?)\n\n/;
  return shown.exec(await command.prints(shown))![1]!;
}

function silence(): ReadableStream<Uint8Array> {
  return new Keyboard().input;
}

/** A keyboard, on which the test types. */
class Keyboard {
  readonly #stream = new TransformStream<Uint8Array, Uint8Array>();
  readonly #writer = this.#stream.writable.getWriter();
  readonly input = this.#stream.readable;

  async type(text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(text));
  }

  async end(): Promise<void> {
    await this.#writer.close();
  }
}
