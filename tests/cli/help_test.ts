import { assert, assertEquals, assertMatch } from "@std/assert";
import { closest } from "../../lib/cli/closest.ts";
import { argumentSpecOf } from "../../lib/cli/arguments.ts";
import type { Command } from "../../lib/cli/command.ts";
import { commandNamed, COMMANDS } from "../../lib/cli/command_table.ts";
import { completionsOf } from "../../lib/cli/completion_plan.ts";
import { VARIABLES } from "../../lib/cli/environment.ts";
import { type HelpIo, helpText, overviewText } from "../../lib/cli/help.ts";
import { textWidth } from "../../lib/cli/layout.ts";
import { manPage } from "../../lib/cli/man_page.ts";
import { commandLine, startedAsFrom, withCommandLines } from "../../lib/cli/started_as.ts";
import { runMain } from "./run_main.ts";

const ALL: readonly Command[] = COMMANDS.flatMap((each) => [each, ...each.subcommands ?? []]);

for (const { name, options, operands, examples } of ALL) {
  Deno.test(`help ${name} has examples first, then usage, every operand and every option`, async () => {
    const { code, out, err } = await runMain(["help", ...name.split(" ")]);
    assertEquals([code, err], [0, []]);
    assertEquals(await runMain([...name.split(" "), "--help"]), { code, out, err });
    assertEquals(await runMain(["--help", ...name.split(" ")]), { code, out, err });
    assert(out[0]!.startsWith(`${name}: `), out[0]);
    const heads = out.filter((line) => /^[A-Z][^.]*:/.test(line)).map((line) => line.split(":")[0]);
    assertEquals(heads.slice(0, 2), ["Examples", "Usage"]);
    const first = out[out.indexOf("Examples:") + 1];
    assertEquals(first, `  punchline ${name} ${examples[0]!.args}`.trimEnd());
    for (const option of options) {
      const line = out.find((line) => line.startsWith(`  --${option.name} `));
      assert(line !== undefined && line.length > option.name.length + 8, option.name);
    }
    for (const operand of operands) assert(out.some((l) => l.startsWith(`  ${operand.name}`)));
  });
}

Deno.test("no line of help is wider than the terminal, but commands to copy and what has no spaces", () => {
  for (const columns of [40, 80, 120, 200]) {
    const io = onTerminal(columns);
    for (const line of [...overviewText(io), ...ALL.flatMap((each) => helpText(each, io))]) {
      const isWhole = !line.trim().includes(" "); // the words of a command are joined
      assert(textWidth(line) <= columns || isWhole, `${columns}: ${line}`);
    }
  }
});

Deno.test("options with a value name what it is, and defaults have units", () => {
  for (const { name, options } of ALL) {
    for (const { value, fallback, name: option } of options) {
      if (value === "DURATION" || value === "SECONDS") {
        assert(
          fallback === undefined || !/^\d+$/.test(fallback),
          `${name} --${option}: ${fallback}`,
        );
      }
      assert(value === undefined || value === value.trim() && value !== "", `${name} --${option}`);
    }
  }
});

Deno.test("no command has two options of one name, and every text is a phrase without a period", () => {
  for (const { name, options, summary } of ALL) {
    const names = options.map(({ name }) => name);
    assertEquals(names, [...new Set(names)], name);
    for (const text of [summary, ...options.map(({ help }) => help)]) {
      assert(!text.endsWith(".") && /^[@$a-z]|^[A-Z]{2}/.test(text), `${name}: ${text}`);
    }
  }
});

Deno.test("every command and option of the table is in the man page", () => {
  const page = manPage().replaceAll("\\-", "-");
  for (const { name, options, subcommands, isHidden } of ALL) {
    if (subcommands !== undefined || isHidden) continue;
    assert(page.includes(`"punchline ${name}`), name);
    for (const option of options) assert(page.includes(`.B --${option.name}`), option.name);
  }
  for (const { name } of VARIABLES) assert(page.includes(name), name);
});

Deno.test("the command line reads what the table says", () => {
  const { flags, values, lists, operands } = argumentSpecOf(commandNamed("map add"));
  assertEquals(flags, ["keep", "json"]);
  assertEquals(values, ["external", "lifetime", "protocol", "check", "gateway"]);
  assertEquals(lists, ["server"]);
  assertEquals(operands, {
    min: 2,
    max: 2,
    names: ["tcp|udp", "PORT (the port on this machine, from 1 to 65535)"],
  });
});

Deno.test("every variable of the environment that lib reads is in the table", async () => {
  const found = new Set<string>();
  for await (const text of sources(new URL("../../lib/", import.meta.url))) {
    for (
      const [name] of text.matchAll(
        /\bPUNCHLINE_[A-Z_]+|(?<=env\.get\(")\w+|(?<=readVariable\(")\w+/g,
      )
    ) {
      found.add(name);
    }
  }
  assertEquals([...found].sort(), VARIABLES.map(({ name }) => name).sort());
});

Deno.test("--help behind -- is not a request for help", async () => {
  const { code, err } = await runMain(["send", "--lan", "--", "--help"]);
  assertEquals(code, 1);
  assertMatch(err[0]!, /Cannot find --help/);
});

Deno.test("closest() finds what was meant, and nothing that was not", () => {
  const known = ["listen", "connect", "send", "recv", "nat-test", "--timeout", "--turn"];
  const meant = { lsiten: "listen", conect: "connect", SEND: "send", nattest: "nat-test" };
  for (const [word, expected] of Object.entries(meant)) {
    assertEquals(closest(word, known), expected);
  }
  assertEquals(closest("--timout", known), "--timeout");
  assertEquals(closest("conn", known), "connect"); // the start of one word
  for (const word of ["", "-", "frobnicate", "x".repeat(10_000)]) {
    assertEquals(closest(word, known), undefined);
  }
});

Deno.test("commandLine() names the command as this program was started", () => {
  const of = (facts: Parameters<typeof startedAsFrom>[0]) =>
    commandLine({ startedAs: startedAsFrom(facts) }, "recv", "punchline:AQAB");
  const url = "file:///home/me/a%20b/cli.ts";
  const flags = "--allow-net --allow-read --allow-write";
  assertEquals(of({ url, folder: "/home/me/a b" }), `deno run ${flags} cli.ts recv punchline:AQAB`);
  assertEquals(
    of({ url, folder: "/home/me" }),
    `deno run ${flags} 'a b/cli.ts' recv punchline:AQAB`,
  );
  assertEquals(of({ url }), `deno run ${flags} '/home/me/a b/cli.ts' recv punchline:AQAB`);
  assertEquals(
    of({ url: "https://jsr.io/@punchline/punchline/0.1.0/cli.ts" }),
    `deno run ${flags} jsr:@punchline/punchline/cli recv punchline:AQAB`,
  );
  assertEquals(of({ url, compiledInto: "/opt/punch" }), "punch recv punchline:AQAB");
  assertEquals(of({ url, launcher: "npx punchline" }), "npx punchline recv punchline:AQAB");
  assertEquals(
    of({ url, folder: "/x", launcher: "rm -rf $HOME; x" }).startsWith("deno run "),
    true,
  );
  assertEquals(commandLine({}, "send", "it's"), "punchline send 'it'\\''s'");
});

Deno.test("withCommandLines() names the commands in a text as this program was started", () => {
  const startedAs = { kind: "deno", module: "cli.ts" } as const;
  assertEquals(
    withCommandLines("as `punchline id` prints it; `punchline serve` does", { startedAs }),
    "as `deno run --allow-read --allow-write cli.ts id` prints it; `deno run --allow-net cli.ts serve` does",
  );
  assertEquals(withCommandLines("`punchline id`", {}), "`punchline id`");
});

Deno.test("completionsOf() completes from the table", () => {
  const texts = (...words: string[]) => completionsOf(words).candidates.map(({ text }) => text);
  assertEquals(texts("li"), ["listen"]);
  assert(texts("").includes("send") && !texts("").includes("complete"));
  assertEquals(texts("map", ""), ["add", "list", "delete", "probe"]);
  assertEquals(texts("map", "add", "--protocol", "nat"), ["nat-pmp"]);
  assertEquals(texts("map", "add", "tcp", "80", "--k"), ["--keep"]);
  assertEquals(texts("map", "add", "--keep", "--k"), []);
  assertEquals(texts("nat-test", "--server", "a", "--ser"), ["--server", "--servers"]); // the first repeats
  assertEquals(texts("listen", "--", "--t"), []);
  assertEquals(texts("listen", "--turn", ""), []);
  assertEquals(completionsOf(["send", "--qr", "a", ""]).paths, "file");
  assertEquals(completionsOf(["recv", "--to", ""]).paths, "folder");
  assertEquals(texts("frobnicate", ""), []);
});

function onTerminal(columns: number): HelpIo {
  return { isTerminal: true, status: { columns, write() {} } };
}

async function* sources(folder: URL): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) yield* sources(new URL(`${name}/`, folder));
    else if (name.endsWith(".ts")) yield await Deno.readTextFile(new URL(name, folder));
  }
}
