import { assertEquals, assertRejects } from "@std/assert";
import type { CliIo } from "../../lib/cli/io.ts";
import { ask } from "../../lib/cli/question.ts";
import { StdinLines } from "../../lib/cli/stdin_lines.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

const QUESTION = { facts: ["a fact"], text: "Go on?" };

for (
  const [typed, answer] of [
    ["y\n", "yes"],
    ["Yes\r\n", "yes"],
    ["\n", "no"],
    ["no\n", "no"],
    ["yellow\n", "no"],
    ["", "no"],
    ["y".repeat(1000), "no"],
  ] as const
) {
  Deno.test(`ask() takes ${JSON.stringify(typed.slice(0, 9))} for ${answer}`, async () => {
    const { io, shown } = terminal([typed]);
    assertEquals(await ask(QUESTION, io, new StdinLines(io)), answer);
    assertEquals(shown.join("").startsWith("a fact\nGo on? [y/N] "), true);
  });
}

Deno.test("ask() leaves what follows the answer to the command", async () => {
  const { io } = terminal(["y\ndata and ", "more"]);
  const stdin = new StdinLines(io);
  assertEquals(await ask(QUESTION, io, stdin), "yes");
  assertEquals(await new Response(stdin.rest()).text(), "data and more");
});

for (const missing of ["stdin", "stderr"] as const) {
  Deno.test(`ask() reads nothing if ${missing} is not a terminal`, async () => {
    const { io } = terminal(["y\n"], missing);
    const stdin = new StdinLines(io);
    assertEquals(await ask(QUESTION, io, stdin), "unanswerable");
    assertEquals(await new Response(stdin.rest()).text(), "y\n");
  });
}

Deno.test("ask() takes five minutes of silence for no", async () => {
  using time = new VirtualTime();
  await time.run(async () => {
    const { io } = terminal([], undefined, { isOpen: true });
    const start = performance.now();
    assertEquals(await ask(QUESTION, io, new StdinLines(io)), "timed-out");
    assertEquals(performance.now() - start, 300_000);
  }, { limitMs: 600_000 });
});

Deno.test("ask() ends with its signal", async () => {
  const { io, interrupt } = terminal([], undefined, { isOpen: true });
  const asked = assertRejects(() => ask(QUESTION, io, new StdinLines(io)), Error, "Ctrl-C");
  interrupt.abort(new Error("Ctrl-C"));
  await asked;
});

function terminal(
  typed: readonly string[],
  missing?: "stdin" | "stderr",
  { isOpen = false } = {},
): { io: CliIo; shown: string[]; interrupt: AbortController } {
  const shown: string[] = [];
  const interrupt = new AbortController();
  const write = (text: string) => shown.push(text);
  const io: CliIo = {
    out: () => {},
    err: (line) => write(`${line}\n`),
    status: missing === "stderr" ? undefined : { columns: 80, write },
    isTerminal: true,
    isInputTerminal: missing !== "stdin",
    stdin: new ReadableStream({
      start(controller) {
        for (const text of typed) controller.enqueue(new TextEncoder().encode(text));
        if (!isOpen) controller.close();
      },
    }),
    stdout: new WritableStream(),
    signal: interrupt.signal,
  };
  return { io, shown, interrupt };
}
