import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { readArguments } from "../../lib/cli/arguments.ts";
import { UsageError } from "../../lib/cli/io.ts";
import { closedPort, runMain, serveLocally, serveText } from "./run_main.ts";

const HTTP = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/** Invalid arguments, and the message for each. */
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
  [["stun"], /^punchline: an argument is missing: the STUN server$/],
  [["send"], /^punchline: an argument is missing: a file or folder to send$/],
  [["ticket", "revoke"], /^punchline: an argument is missing: the number or name of the ticket/],
  [["punch", "--rendezvous", "ws://h"], /^punchline: an argument is missing: the name of the room/],
  [["punch", "r", "--rendezvous", "http://h"], /--rendezvous takes a URL such as ws:.*, not http:/],
  [["listen", "--rendezvous", "http://h"], /--rendezvous takes a URL such as ws:.*, not http:/],
  [["listen", "--mqtt", "https://h"], /--mqtt takes a URL such as mqtts:.*, not https:\/\/h$/],
  [["stun", "a", "b"], /^punchline: unexpected argument "b"$/],
  [["stun", "192.0.2.1:99999"], /"99999" is not a number from 1 to 65535$/],
  [["stun", ""], /"" names no host$/],
  [["stun", "192.0.2.1", "--udp"], /^punchline: unknown option --udp$/],
  [["stun", "192.0.2.1", "--tcp", "--tls"], /^punchline: --tcp cannot be combined with --tls$/],
  [["stun", "192.0.2.1", "--timeout", "x"], /--timeout takes a whole number/],
];

for (const [args, message] of MISUSE) {
  Deno.test(`punchline ${args.join(" ")} prints one line and the usage, and exits with 2`, async () => {
    const { code, out, err } = await runMain(args);
    assertEquals([code, out, err.length], [2, [], 2]);
    assertMatch(err[0]!, message);
    assertMatch(err[1]!, new RegExp(`^Usage: punchline ${args[0]} `));
    assertOneLineEach(err);
  });
}

Deno.test("punchline without a command prints all commands on stderr, and exits with 2", async () => {
  const { code, out, err } = await runMain([]);
  assertEquals([code, out], [2, []]);
  assert(err.some((line) => line.includes("nat-test")));
});

Deno.test("punchline rejects an unknown command, and exits with 2", async () => {
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
  Deno.test(`punchline ${args[0]} prints one line for a server that speaks HTTP, and exits with 1`, async () => {
    await using server = await serveText(HTTP);
    const { code, out, err } = await runMain([...args, server.name]);
    assertEquals([code, out, err.length], [1, [], 1]);
    assertMatch(err[0]!, /^punchline: Cannot /);
    assertOneLineEach(err);
  });

  Deno.test(`punchline ${args[0]} prints one line for a server that sends garbage, and exits with 1`, async () => {
    await using server = await serveText("\x01\x01\x00\x04!\x12¤B garbage \0\0\0");
    const { code, out, err } = await runMain([...args, server.name]);
    assertEquals([code, out, err.length], [1, [], 1]);
    assertMatch(err[0]!, /^punchline: Cannot /);
    assertOneLineEach(err);
  });

  Deno.test(`punchline ${args[0]} prints one line for a closed port, and exits with 1`, async () => {
    const { code, out, err } = await runMain([...args, await closedPort()]);
    assertEquals([code, out, err.length], [1, [], 1]);
    assertMatch(err[0]!, /refused/);
    assertOneLineEach(err);
  });
}

Deno.test("stun over UDP reports that no answer arrived in time, and exits with 124", async () => {
  await using http = await serveText(HTTP);
  for (const server of [http.name, await closedPort()]) {
    const { code, out, err } = await runMain(["stun", server, "--timeout", "60"]);
    assertEquals([code, out], [124, []]);
    assertEquals(err, [`punchline: Cannot reach ${server}: no answer within 60 ms`]);
  }
});

Deno.test("stun and nat-test print one line for a name that does not resolve", async () => {
  const { code, out, err } = await runMain(["stun", "no-such-host.invalid"]);
  assertEquals([code, out, err.length], [1, [], 1]);
  assertMatch(err[0]!, /^punchline: Cannot resolve no-such-host\.invalid/);
  // Without a name server the host is offline; with one, the name is wrong.
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
  assertEquals(err, [
    'punchline: unknown command "a\\u009b2J\\u202eb\\u0007\\u2028c"; --help lists them',
  ]);
  assertEquals(JSON.parse(/"[^"]*"/.exec(err[0]!)![0]), evil);
});
