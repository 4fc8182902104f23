import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { readArguments } from "../../lib/cli/arguments.ts";
import { UsageError } from "../../lib/cli/io.ts";
import { nobody, runMain, serveLocally, serveText } from "./run_main.ts";

const HTTP = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/** Arguments that make no sense, and what is said of them. */
const MISUSE: readonly [string[], RegExp][] = [
  [["nat-test", "--nonsense"], /^punchline: unknown option --nonsense$/],
  [["nat-test", "--nonsense=5"], /^punchline: unknown option --nonsense=5$/],
  [["nat-test", "-x"], /^punchline: unknown option -x$/],
  [["nat-test", "extra"], /^punchline: unexpected argument "extra"$/],
  [["nat-test", "--server"], /^punchline: --server takes a value$/],
  [["nat-test", "--server", "--json"], /^punchline: --server takes a value$/],
  [["nat-test", "--server="], /^punchline: --server takes a value$/],
  [["nat-test", "--server", "192.0.2.1:99999"], /"99999" is not a number from 1 to 65535$/],
  [["nat-test", "--server", "192.0.2.1:0"], /"0" is not a number from 1 to 65535$/],
  [["nat-test", "--server", "192.0.2.1:"], /"" is not a number from 1 to 65535$/],
  [["nat-test", "--server", "192.0.2.300"], /"192\.0\.2\.300" names no host$/],
  [["nat-test", "--server", "a b"], /"a b" names no host$/],
  [["nat-test", "--server", "http://stun.example.net"], /"\/\/stun\.example\.net" is not a number/],
  [["nat-test", "--server", "[2001:db8::1"], /names no host$/],
  [["nat-test", "--transport", "sctp"], /^punchline: --transport takes udp or tcp, not sctp$/],
  [["nat-test", "--family", "5"], /^punchline: --family takes 4 or 6, not 5$/],
  [["nat-test", "--timeout", "0"], /--timeout takes a whole number from 1 to 600000, not 0$/],
  [["nat-test", "--timeout=-5"], /--timeout takes a whole number .*, not -5$/],
  [["nat-test", "--timeout", "1e3"], /--timeout takes a whole number .*, not 1e3$/],
  [["nat-test", "--timeout", "99999999999999999999"], /--timeout takes a whole number/],
  [["nat-test", "--timeout", "5", "--timeout", "6"], /^punchline: --timeout is given twice$/],
  [["nat-test", "--lifetime", "soon"], /--lifetime takes a whole number .*, not soon$/],
  [["nat-test", "--json=yes"], /^punchline: --json takes no value$/],
  [["stun"], /^punchline: an argument is missing$/],
  [["stun", "a", "b"], /^punchline: unexpected argument "b"$/],
  [["stun", "192.0.2.1:99999"], /"99999" is not a number from 1 to 65535$/],
  [["stun", ""], /"" names no host$/],
  [["stun", "192.0.2.1", "--udp"], /^punchline: unknown option --udp$/],
  [["stun", "192.0.2.1", "--tcp", "--tls"], /^punchline: --tcp and --tls exclude each other$/],
  [["stun", "192.0.2.1", "--timeout", "x"], /--timeout takes a whole number/],
];

for (const [args, message] of MISUSE) {
  Deno.test(`punchline ${args.join(" ")} is misuse: one line, the usage, exit code 2`, async () => {
    const { code, out, err } = await runMain(args);
    assertEquals([code, out, err.length], [2, [], 2]);
    assertMatch(err[0]!, message);
    assertMatch(err[1]!, new RegExp(`^Usage: punchline ${args[0]} `));
    assertOneLineEach(err);
  });
}

Deno.test("punchline without a command prints its commands on stderr, exit code 2", async () => {
  const { code, out, err } = await runMain([]);
  assertEquals([code, out], [2, []]);
  assert(err.some((line) => line.includes("nat-test")));
});

Deno.test("an unknown command is misuse", async () => {
  const { code, out, err } = await runMain(["frobnicate"]);
  assertEquals([code, out], [2, []]);
  assertEquals(err, ['punchline: unknown command "frobnicate"; --help lists them']);
});

const COMMANDS = [
  ...["nat-test", "stun", "map", "serve", "punch", "listen", "connect", "send", "recv", "id"],
  "lab",
];

for (const help of ["--help", "-h", "help"]) {
  Deno.test(`punchline ${help} prints all commands on stdout`, async () => {
    const { code, out, err } = await runMain([help]);
    assertEquals([code, err], [0, []]);
    for (const command of COMMANDS) {
      assert(out.some((line) => line.trimStart().startsWith(command)), command);
    }
  });
}

for (const command of COMMANDS) {
  Deno.test(`punchline ${command} --help prints its usage and all options on stdout`, async () => {
    const { code, out, err } = await runMain([command, "--json", "--help"]);
    assertEquals([code, err], [0, []]);
    assertMatch(out[0]!, new RegExp(`^Usage: punchline ${command} `));
    for (const option of out[0]!.match(/--[a-z-]+/g) ?? []) {
      assert(out.some((line) => line.startsWith(`  ${option} `)), option);
    }
  });
}

for (
  const args of [["nat-test", "--timeout", "300", "--server"], [
    "stun",
    "--timeout",
    "300",
    "--tcp",
  ]]
) {
  Deno.test(`punchline ${args[0]} of a server that talks HTTP gets one line and exit code 1`, async () => {
    await using server = await serveText(HTTP);
    const { code, out, err } = await runMain([...args, server.name]);
    assertEquals([code, out, err.length], [1, [], 1]);
    assertMatch(err[0]!, /^punchline: Cannot /);
    assertOneLineEach(err);
  });

  Deno.test(`punchline ${args[0]} of a server that talks garbage gets one line and exit code 1`, async () => {
    await using server = await serveText("\x01\x01\x00\x04!\x12¤B garbage \0\0\0");
    const { code, out, err } = await runMain([...args, server.name]);
    assertEquals([code, out, err.length], [1, [], 1]);
    assertMatch(err[0]!, /^punchline: Cannot /);
    assertOneLineEach(err);
  });

  Deno.test(`punchline ${args[0]} of a port where nobody listens gets one line and exit code 1`, async () => {
    const { code, out, err } = await runMain([...args, await nobody()]);
    assertEquals([code, out, err.length], [1, [], 1]);
    assertMatch(err[0]!, /refused/);
    assertOneLineEach(err);
  });
}

Deno.test("stun over UDP says that nobody answered in time, exit code 124", async () => {
  await using http = await serveText(HTTP);
  for (const server of [http.name, await nobody()]) {
    const { code, out, err } = await runMain(["stun", server, "--timeout", "60"]);
    assertEquals([code, out], [124, []]);
    assertEquals(err, [`punchline: Cannot ask ${server}: no answer in 60 ms`]);
  }
});

Deno.test("a name that does not resolve gets one line", async () => {
  const { code, out, err } = await runMain(["stun", "no-such-host.invalid"]);
  assertEquals([code, out, err.length], [1, [], 1]);
  assertMatch(err[0]!, /^punchline: Cannot resolve no-such-host\.invalid/);
  // Without a name server there is no network; with one, the name is wrong.
  const test = await runMain(["nat-test", "--server", "no-such-host.invalid"]);
  if (test.code === 3) assertMatch(test.out[0]!, /^No network/);
  else assertEquals([test.code, test.out, test.err.length], [1, [], 1]);
});

Deno.test("nat-test prints a verdict, a picture and the evidence for people", async () => {
  await using server = await serveLocally();
  const { code, out, err } = await runMain(["nat-test", "--server", server.name]);
  assertEquals([code, err], [0, []]);
  const text = out.join("\n");
  assertMatch(out[0]!, /^Open Internet: anyone can connect/);
  for (
    const words of ["UDP over IPv4", "TCP over IPv4", "┌──", "this machine", "mapping", "filtering"]
  ) {
    assert(text.includes(words), words);
  }
  assertMatch(text, /Note: the server is on this machine/);
  assert(!text.includes("undefined") && !text.includes("null") && !text.includes("NaN"));
});

Deno.test("stun prints what it saw for people", async () => {
  await using server = await serveLocally();
  const { code, out } = await runMain(["stun", server.name]);
  assertEquals(code, 0);
  assertMatch(
    out[0]!,
    new RegExp(`^${server.name} sees this host as 127\\.0\\.0\\.1:\\d+ over UDP$`),
  );
});

for (const args of [["nat-test", "--server"], ["stun"]]) {
  Deno.test(`an interrupted ${args[0]} exits with 130 and says nothing`, async () => {
    const interrupt = new AbortController();
    const running = runMain([...args, await nobody()], interrupt.signal);
    interrupt.abort();
    assertEquals(await running, { code: 130, out: [], err: [] });
  });
}

function assertOneLineEach(lines: readonly string[]): void {
  for (const line of lines) {
    assert(!line.includes("\n") && !/\bat .*:\d+:\d+/.test(line), line);
  }
}

Deno.test("a value may begin with dashes, as a key does now and then", () => {
  const spec = { flags: ["json"], values: ["key"], lists: ["allow"] };
  const { values, lists, flags } = readArguments(
    ["--allow", "-abc", "--allow", "--abc", "--json", "--key=--json"],
    spec,
  );
  assertEquals(lists.get("allow"), ["-abc", "--abc"]);
  assertEquals(values.get("key"), "--json");
  assert(flags.has("json"));
  assertThrows(() => readArguments(["--key", "--json"], spec), UsageError, "--key takes a value");
});
