import { assertEquals, assertRejects } from "@std/assert";
import type { CliIo } from "../../lib/cli/io.ts";
import { ask } from "../../lib/cli/question.ts";
import { StdinLines } from "../../lib/cli/stdin_lines.ts";
import { stdinOf, textOf } from "./byte_streams.ts";
import { noTerminal } from "./no_terminal.ts";
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
  assertEquals(await textOf(stdin.rest()), "data and more");
});

for (
  const [what, early] of [
    ["a line", ["y\n"]],
    ["lines", ["y\ny\n", "yes\n"]],
    ["half a line", ["no\n", "y"]],
    ["no end of lines", Array<string>(1000).fill("y\n")],
  ] as const
) {
  Deno.test(`ask() drops ${what} that came before the question`, async () => {
    const { io } = terminal(["\n", "data"], undefined, { early });
    const stdin = new StdinLines(io);
    assertEquals(await ask(QUESTION, io, stdin), "no");
    assertEquals(await textOf(stdin.rest()), "data");
  });
}

Deno.test("ask() drops what was read along with the line before", async () => {
  const { io } = terminal(["no\n"], undefined, { early: ["the ticket\ny\nand more"] });
  const stdin = new StdinLines(io);
  const { signal } = io;
  assertEquals(await stdin.line({ maxBytes: 100, signal }), "the ticket");
  assertEquals(await ask(QUESTION, io, stdin), "no");
});

Deno.test("ask() drops what comes while it waits for silence", async () => {
  const { io, type } = terminal(["\n"], undefined, { early: ["y\n"] });
  const asked = ask(QUESTION, io, new StdinLines(io));
  await new Promise((resolve) => setTimeout(resolve, 10));
  type("y\n");
  assertEquals(await asked, "no");
});

Deno.test("ask() drops the half line that a terminal only hands over in raw mode", async () => {
  const { io, type } = terminal(["\n"]);
  const modes: boolean[] = [];
  const setRaw = (isRaw: boolean) => {
    if (isRaw && modes.length === 0) type("y");
    modes.push(isRaw);
  };
  const raw = { ...io, setRaw };
  assertEquals(await ask(QUESTION, raw, new StdinLines(raw)), "no");
  assertEquals(modes, [true, false, true, false]);
});

Deno.test("ask() leaves the terminal as it was if it ends early", async () => {
  const { io, interrupt } = terminal([]);
  let isRaw = false;
  const raw = {
    ...io,
    setRaw: (to: boolean) => {
      isRaw = to;
      if (to) interrupt.abort(new Error("Ctrl-C"));
    },
  };
  await assertRejects(() => ask(QUESTION, raw, new StdinLines(raw)), Error, "Ctrl-C");
  assertEquals(isRaw, false);
});

for (const missing of ["stdin", "stderr"] as const) {
  Deno.test(`ask() reads nothing if ${missing} is not a terminal`, async () => {
    const { io } = terminal(["y\n"], missing);
    const stdin = new StdinLines(io);
    assertEquals(await ask(QUESTION, io, stdin), "unanswerable");
    assertEquals(await textOf(stdin.rest()), "y\n");
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

/** A terminal on which `typed` is typed once the question is shown, or at once if it cannot be, and `early` before. */
function terminal(
  typed: readonly string[],
  missing?: "stdin" | "stderr",
  { isOpen = false, early = [] }: { isOpen?: boolean; early?: readonly string[] } = {},
): { io: CliIo; shown: string[]; interrupt: AbortController; type: (text: string) => void } {
  const shown: string[] = [];
  const interrupt = new AbortController();
  let keyboard!: ReadableStreamDefaultController<Uint8Array>;
  const stdin = new ReadableStream<Uint8Array>({
    start: (controller) => void (keyboard = controller),
  });
  const type = (text: string) => keyboard.enqueue(new TextEncoder().encode(text));
  const write = (text: string) => {
    shown.push(text);
    if (text.endsWith("[y/N] ")) answer();
  };
  const answer = () => {
    typed.forEach(type);
    if (!isOpen) keyboard.close();
  };
  const io: CliIo = {
    out: () => {},
    err: (line) => write(`${line}\n`),
    status: missing === "stderr" ? undefined : { columns: 80, write },
    isTerminal: true,
    isInputTerminal: missing !== "stdin",
    stdin: stdinOf(stdin),
    stdout: noTerminal().stdout,
    signal: interrupt.signal,
  };
  early.forEach(type);
  if (missing !== undefined) answer();
  return { io, shown, interrupt, type };
}

for (
  const [what, typed, expected] of [
    ["the number", (number: string) => `${number}\n`, "yes"],
    ["the number after the start of a line", (number: string) => `y${number}\n`, "no"],
    ["yes", () => "yes\n", "no"],
    ["Enter after a y", () => "y\n", "no"],
  ] as const
) {
  Deno.test(`where the start of a line stays in the terminal, ask() takes ${what} for ${expected}`, async () => {
    const { io, shown, type } = terminal([]);
    const keeping = { ...io, keepsTyped: true };
    const asked = ask(QUESTION, keeping, new StdinLines(keeping));
    while (!shown.join("").includes(" for yes")) await new Promise((done) => setTimeout(done, 5));
    const [, number] = /Go on\? Type (\d{3}) for yes, or Enter for no: $/.exec(shown.join(""))!;
    type(typed(number!));
    assertEquals(await asked, expected);
  });
}
