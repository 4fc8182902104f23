import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { readArguments } from "../../lib/cli/arguments.ts";
import { COMMANDS } from "../../lib/cli/command_table.ts";
import { UsageError } from "../../lib/cli/io.ts";
import { closedPort, runMain, serveLocally, serveText } from "./run_main.ts";

const HTTP = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

Deno.test("punchline without a command prints all commands on stderr, and exits with 2", async () => {
  const { code, out, err } = await runMain([]);
  assertEquals([code, out], [2, []]);
  assert(err.some((line) => line.includes("nat-test")));
});

for (const args of [["--help"], ["-h"], ["help"], ["help", "--help", "--json"]]) {
  Deno.test(`punchline ${args.join(" ")} explains on stdout`, async () => {
    const { code, out, err } = await runMain(args);
    assertEquals([code, err], [0, []]);
    const shown = args.length > 1
      ? ["COMMAND", "--man"]
      : COMMANDS.filter((each) => !each.isHidden).map(({ name }) => name);
    for (const name of shown) assert(out.some((line) => line.startsWith(`  ${name} `)), name);
  });
}

for (
  const args of [["nat-test", "--timeout", "300", "--server"], [
    "stun",
    "--timeout",
    "300ms",
    "--tcp",
  ]]
) {
  Deno.test(`punchline ${args[0]} prints one line for a server that speaks HTTP, and exits with 1`, async () => {
    await using server = await serveText(HTTP);
    const { code, out, err } = await runMain([...args, server.name]);
    assertEquals([code, out, err.length], [1, [], 2]);
    assertMatch(err[0]!, /^punchline: Cannot /);
    assertOneLineEach(err);
  });

  Deno.test(`punchline ${args[0]} prints one line for a server that sends garbage, and exits with 1`, async () => {
    await using server = await serveText("\x01\x01\x00\x04!\x12¤B garbage \0\0\0");
    const { code, out, err } = await runMain([...args, server.name]);
    assertEquals([code, out, err.length], [1, [], 2]);
    assertMatch(err[0]!, /^punchline: Cannot /);
    assertOneLineEach(err);
  });

  Deno.test(`punchline ${args[0]} prints one line for a closed port, and exits with 1`, async () => {
    const { code, out, err } = await runMain([...args, await closedPort()]);
    assertEquals([code, out, err.length], [1, [], 2]);
    assertMatch(err[0]!, /refused/);
    assertOneLineEach(err);
  });
}

Deno.test("stun over UDP reports that no answer arrived in time, and exits with 124", async () => {
  await using http = await serveText(HTTP);
  for (const server of [http.name, await closedPort()]) {
    const { code, out, err } = await runMain(["stun", server, "--timeout", "60ms"]);
    assertEquals([code, out], [124, []]);
    assertEquals(err, [
      `punchline: Cannot reach ${server}: no answer within 60 ms`,
      "Check the address, or try --tcp: a firewall may block UDP",
    ]);
  }
});

Deno.test("stun and nat-test print one line for a name that does not resolve", async () => {
  const { code, out, err } = await runMain(["stun", "no-such-host.invalid"]);
  assertEquals([code, out], [1, []]);
  assertMatch(err[0]!, /^punchline: Cannot resolve no-such-host\.invalid/);
  // These tests may not use every network.
  assertMatch(err.at(-1)!, /^Check the spelling of the name|^Run .* with --allow-net$/);
  // Without a name server the host is offline; with one, the name is wrong.
  const test = await runMain(["nat-test", "--server", "no-such-host.invalid"]);
  if (test.code === 3) assertMatch(test.out[0]!, /^No network/);
  else assertEquals([test.code, test.out, test.err], [code, out, err]);
});

Deno.test("nat-test prints a verdict, a picture and the evidence for people", async () => {
  await using server = await serveLocally();
  const { code, out, err } = await runMain(["nat-test", "--server", server.name]);
  assertEquals([code, err], [0, []]);
  const text = out.join("\n");
  assertMatch(
    out[0]!,
    /^The server is on this machine, so this holds only here\. No NAT: anyone here can connect$/,
  );
  for (
    const words of ["UDP over IPv4", "TCP over IPv4", "┌──", "this machine", "mapping", "filtering"]
  ) {
    assert(text.includes(words), words);
  }
  assertMatch(text, /Note: the server is on this machine/);
  assert(!text.includes("undefined") && !text.includes("null") && !text.includes("NaN"));
});

Deno.test("stun prints the external address for people", async () => {
  await using server = await serveLocally();
  const { code, out } = await runMain(["stun", server.name]);
  assertEquals(code, 0);
  assertMatch(
    out[0]!,
    new RegExp(`^${server.name} sees this machine as 127\\.0\\.0\\.1:\\d+ over UDP$`),
  );
});

for (const args of [["nat-test", "--server"], ["stun"]]) {
  Deno.test(`an interrupted ${args[0]} exits with 130 and prints nothing`, async () => {
    const interrupt = new AbortController();
    const running = runMain([...args, await closedPort()], interrupt.signal);
    interrupt.abort();
    assertEquals(await running, { code: 130, out: [], err: [] });
  });
}

function assertOneLineEach(lines: readonly string[]): void {
  for (const line of lines) {
    assert(!line.includes("\n") && !/\bat .*:\d+:\d+/.test(line), line);
  }
}

Deno.test("readArguments() accepts a value that starts with dashes, as a key may", () => {
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

Deno.test("what is printed has no character that controls a terminal, and is the same in JSON", async () => {
  const evil = "a\u009b2J\u202eb\u0007\u2028c";
  const { err } = await runMain([evil]);
  assertEquals(err[0], 'punchline: unknown command "a\\u009b2J\\u202eb\\u0007\\u2028c"');
  assertEquals(JSON.parse(/"[^"]*"/.exec(err[0]!)![0]), evil);
});
