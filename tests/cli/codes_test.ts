/**
 * Codes, names for friends and settings, with commands as processes over a rendezvous on this machine.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { toBase64url } from "../../lib/base/bytes.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { type Command, type Servers, start, withScratch, withServers } from "./command.ts";
import { Terminal, terminalTest } from "./terminal.ts";

Deno.test("recv takes the code that send shows, with spaces, capitals and a typing error", () =>
  inFolder(async ({ folder, files, servers }) => {
    await Deno.writeTextFile(`${folder}/from/a`, "hello");
    const sender = start(["send", `${folder}/from/a`, ...servers.all], files);
    const code = await codeOf(sender);
    const typed = code.toUpperCase().split("-");
    typed[2] += "X";
    const receiver = start(["recv", ...typed, ...recvArgs(folder, servers)], files);
    const [a, b] = await Promise.all([sender.end(), receiver.end()]);
    assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
    assertEquals(await Deno.readTextFile(`${folder}/to/a`), "hello");
    assertEquals(namesIn(`${folder}/to`), ["a"]);
  }));

Deno.test("the command that send shows repeats the rendezvous, and has at most 40 characters without it", () =>
  inFolder(async ({ folder, files, servers }) => {
    await Deno.writeTextFile(`${folder}/from/a`, "hello");
    const sender = start(["send", `${folder}/from/a`, ...servers.all], files);
    const code = await codeOf(sender);
    const shown = await sender.prints("Or, within an hour");
    const [, command] = /Or, within an hour: (.*)\n/.exec(shown)!;
    assert(command!.endsWith(`cli.ts recv --rendezvous ${servers.url} ${code}`), command);
    assert(`punchline recv ${code}`.length <= 40);
    sender.interrupt();
    await sender.end();
  }));

Deno.test("wrong words end recv with 5, the sender is told, and the right ones still work", () =>
  inFolder(async ({ folder, files, servers }) => {
    await Deno.writeTextFile(`${folder}/from/a`, "hello");
    const sender = start(["send", `${folder}/from/a`, ...servers.all], files);
    const code = await codeOf(sender);
    const wrong = `${code.split("-")[0]}-abacus-abacus-abacus`;
    const { code: exit, stderr } = await start(
      ["recv", wrong, ...recvArgs(folder, servers)],
      files,
    ).end();
    assertEquals(exit, 5);
    assertMatch(
      stderr,
      /\npunchline: Cannot use code \d-…: the words are wrong\nCompare the words .*\n$/,
    );
    await sender.prints("Someone used the code with wrong words; 2 more wrong guesses end it");
    const right = await start(["recv", code, ...recvArgs(folder, servers)], files).end();
    assertEquals(right.code, 0, right.stderr);
    await sender.end();
  }));

Deno.test("recv with a code that was killed resumes with it; for anyone else the code is spent", () =>
  inFolder(async ({ folder, files, servers }) => {
    const bytes = crypto.getRandomValues(new Uint8Array(65_536));
    using big = await Deno.open(`${folder}/from/big`, { write: true, create: true });
    for (let i = 0; i < 1000; i++) await big.write(bytes);
    const sender = start(["send", `${folder}/from/big`, ...servers.all], files);
    const code = await codeOf(sender);
    const args = ["recv", code, ...recvArgs(folder, servers)];
    const first = start([...args, "--json"], { ...files, input: endless() });
    await until(() => namesIn(`${folder}/to`).some((name) => name.endsWith(".punchline-part")));
    first.kill();
    await first.end();
    const kept = namesIn(`${folder}/to`).find((name) => name.endsWith(".punchline-ticket"))!;
    const { mode } = await Deno.stat(`${folder}/to/${kept}`);
    if (Deno.build.os !== "windows") assertEquals(mode! & 0o777, 0o600);

    await Deno.mkdir(`${folder}/other`);
    const other = await start(
      ["recv", code, "--yes", "--to", `${folder}/other`, ...servers.connecting],
      files,
    ).end();
    assertEquals(other.code, 5);
    assertMatch(other.stderr, /it was used before\nAsk the other side for a new code/);
    assertEquals(namesIn(`${folder}/other`), []);

    const again = await start(args, files).end();
    assertEquals(again.code, 0, again.stderr);
    assertEquals((await Deno.stat(`${folder}/to/big`)).size, 65_536_000);
    assertEquals(namesIn(`${folder}/to`), ["big"]);
    assertEquals((await sender.end()).code, 0);
  }));

Deno.test("recv keeps no ticket of a code once the transfer is over, although something was left out", () =>
  inFolder(async ({ folder, files, servers }) => {
    await Deno.writeTextFile(`${folder}/from/a`, "hello");
    await Deno.writeTextFile(`${folder}/to/a`, "another");
    const sender = start(["send", `${folder}/from/a`, ...servers.all], files);
    const code = await codeOf(sender);
    const receiver = start(["recv", code, ...recvArgs(folder, servers)], files);
    const [a, b] = await Promise.all([sender.end(), receiver.end()]);
    assertEquals([a.code, b.code], [1, 1], a.stderr + b.stderr);
    assertEquals(namesIn(`${folder}/to`), ["a"]);
  }));

Deno.test("connect takes the code of listen, and both print it as events with --json", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--json", ...servers.all], { input: "hello" });
    const code = await codeOf(listener);
    const connector = start(["connect", code, "--json", ...servers.connecting]);
    const [a, b] = await Promise.all([listener.end(), connector.end()]);
    assertEquals([a.code, b.code, b.stdout], [0, 0, "hello"], a.stderr + b.stderr);
    const events = a.stderr.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(events.filter(({ event }) => event === "code"), [{
      event: "code",
      state: "spent",
    }]);
    assertEquals(events.filter(({ event }) => event === "ticket").map(({ code }) => code), [
      undefined,
      code,
    ]);
  }));

Deno.test("recv with a code of listen says that the ticket is what connect takes now", () =>
  inFolder(async ({ folder, files, servers }) => {
    const listener = start(["listen", ...servers.all], files);
    const code = await codeOf(listener);
    const { code: exit, stderr } = await start(
      ["recv", code, ...recvArgs(folder, servers)],
      files,
    ).end();
    assertEquals(exit, 2, stderr);
    assertMatch(stderr, /punchline: recv takes a code of send; this is another one\n/);
    assertMatch(stderr, /connect` with the ticket beside it: the code is used up\n$/);
    assertEquals(namesIn(`${folder}/to`), []);
    listener.interrupt();
    await listener.end();
  }));

Deno.test("punch without a room shows a code, with which the other side finds the room", () =>
  withServers(async (servers) => {
    const where = ["--server", servers.stun, "--rendezvous", servers.url];
    const one = start(["punch", ...where], { input: "from one" });
    const code = await codeOf(one);
    assert(
      (await one.prints("On the other machine, within an hour:")).includes(
        ` punch --rendezvous ${servers.url} ${code}
`,
      ),
    );
    const other = start(["punch", ...code.split("-"), ...where], { input: "from the other" });
    const [a, b] = await Promise.all([one.end(), other.end()]);
    assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
    assertEquals([a.stdout, b.stdout], ["from the other", "from one"]);
    assertMatch(a.stderr, /\nConnected .* in \d+ ms: same machine\n/); // not what the NATs would have needed
    const wrong = ["punch", "7-abacus-abacus-abacus", "--timeout", "1s", ...where];
    assertEquals((await start(wrong).end()).code, 4);
    assertEquals((await start(["punch", "7-abacus-abacus-xyzzyx", ...where]).end()).code, 2);
  }));

Deno.test("punch whose other side is interrupted says that this may be why the connection was reset", () =>
  withServers(async (servers) => {
    const where = ["--server", servers.stun, "--rendezvous", servers.url];
    const one = start(["punch", ...where], { input: new ReadableStream() });
    const other = start(["punch", await codeOf(one), ...where], { input: new ReadableStream() });
    await Promise.all([one.prints("\nConnected "), other.prints("\nConnected ")]);
    one.interrupt();
    const { code, stderr } = await other.end();
    assertEquals(code, 1, stderr);
    assertMatch(
      stderr,
      /: connection reset\nRun `.*punch` .* again, unless the other side was interrupted\n$/,
    );
    await one.end();
  }));

Deno.test("connect with a code that no peer offers ends with 4, and says what to check", () =>
  withServers(async (servers) => {
    const args = ["connect", "7-abacus-walrus-otter", "--timeout", "1s", ...servers.connecting];
    const { code, stderr } = await start(args).end();
    assertEquals(code, 4);
    const lines = "Looking for the other side of code 7-…\n" +
      "punchline: Cannot use code 7-…: no one answers: the code may have expired, or its sender stopped\n" +
      "Check the number, or ask the other side for a new code\n";
    assert(stderr.startsWith(lines), stderr);
  }));

Deno.test("a code expires as --code-expires says, and --no-code shows none", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--code-expires", "1s", ...servers.all]);
    await listener.prints("Or, within 1 second: ");
    await listener.prints("The code has expired; the ticket is still good");
    listener.interrupt();
    await listener.end();
    const silent = start(["listen", "--no-code", "--timeout", "1s", ...servers.all]);
    assertEquals((await silent.end()).stderr.includes("Or, within"), false);
  }));

Deno.test("codes that are wrong in themselves are usage errors, in one line", async () => {
  const cases: [string[], RegExp][] = [
    [["7-abacus-walrus"], /3 words follow the number, not 2/],
    [["7-abacus-walrus-xyzzyx"], /"xyzzyx" is not one of its words/],
    [["70000-abacus-walrus-otter"], /number from 0 to 9999/],
    [["7-abacus-walrus-otter", "--hand"], /--hand needs a ticket: a code needs a server/],
    [["a", "b"], /too many arguments: b/],
    [["laptop"], /neither a ticket nor a code, and no friend's name/],
  ];
  await Promise.all(cases.map(async ([args, message]) => {
    const { code, stderr } = await start(["connect", ...args]).end();
    assertEquals(code, 2, stderr);
    const [first] = stderr.split("\n");
    assertMatch(first!, message);
  }));
});

Deno.test("friends that are added at the same time are all kept", () =>
  inFolder(async ({ folder }) => {
    const settings = settingsIn(folder);
    const run = (...args: string[]) => start(["peers", ...args], settings).end();
    const names = ["a", "b", "c", "d", "e", "f"];
    const added = await Promise.all(names.map((name) => run("add", name, TICKET)));
    assertEquals(added.map(({ code }) => code), names.map(() => 0), added[0]!.stderr);
    const { peers } = JSON.parse((await run("list", "--json")).stdout);
    assertEquals(peers.map(({ name }: { name: string }) => name).sort(), names);
  }));

Deno.test("peers add, list and remove keep names for friends, which connect takes", () =>
  inFolder(async ({ folder, servers }) => {
    const settings = settingsIn(folder);
    const key = ["--key", `${folder}/key`];
    const listener = start(["listen", ...key, ...servers.all], { ...settings, input: "hello" });
    const code = await codeOf(listener);
    const run = (...args: string[]) => start(args, settings).end();
    const none = await run("peers", "list");
    assertEquals([none.code, none.stdout], [0, ""]);
    assertMatch(none.stderr, /^No names yet: `.* peers add NAME TICKET` adds one\n$/);
    const added = await run("peers", "add", "laptop", code, "--rendezvous", servers.url);
    assertEquals(added.code, 0, added.stderr);
    const { stdout: id } = await run("id", ...key);
    assertMatch(added.stderr, new RegExp(`\nAdded laptop, whose ID is ${id}$`));
    assertEquals((await run("peers", "list")).stdout, `laptop  ${id}`);
    const list = JSON.parse((await run("peers", "list", "--json")).stdout);
    assertEquals(list, { peers: [{ name: "laptop", id: id.trim() }] });
    const file = `${folder}/punchline/config.json`;
    if (Deno.build.os === "linux") assertEquals((await Deno.stat(file)).mode! & 0o777, 0o600);

    const connected = await run("connect", "laptop", ...servers.connecting);
    assertEquals([connected.code, connected.stdout], [0, "hello"], connected.stderr);
    await listener.end();

    const again = ["peers", "add", "laptop", TICKET, "--rendezvous", servers.url];
    const refused = await run(...again);
    assertEquals([refused.code, refused.stderr], [
      1,
      `punchline: Cannot add laptop: there is a friend of this name, whose ID is ${id}` +
      "Choose another name, or add --replace\n",
    ]);
    assertEquals((await run("peers", "list")).stdout, `laptop  ${id}`);
    const replaced = await run(...again, "--replace", "--json");
    const newId = toBase64url(new Uint8Array(32));
    assertEquals(JSON.parse(replaced.stdout), {
      ...{ event: "added", name: "laptop", id: newId, replaced: id.trim() },
    });
    assertEquals(
      (await run("complete", "--", "peers", "remove", "la")).stdout,
      "laptop\ta friend\n",
    );
    assertEquals((await run("peers", "remove", "laptop")).stderr, "Removed laptop\n");
    assertEquals((await run("peers", "remove", "laptop")).code, 1);
    assertEquals((await run("connect", "laptop")).code, 2);
    assertEquals((await run("peers", "add", "7up", code)).code, 2);
    assertEquals((await run("peers")).code, 2);
  }));

terminalTest(
  "peers add asks once about a ticket's private servers; connect NAME does not ask again",
  () =>
    inFolder(async ({ folder, servers }) => {
      const permissions = [
        ...[`--allow-read=${folder}`, `--allow-write=${folder}`],
        "--allow-env=XDG_CONFIG_HOME,HOME,APPDATA",
      ];
      const listener = start(["listen", ...servers.all], { input: "hello" });
      const ticket = await listener.ticket();
      const shell = `export XDG_CONFIG_HOME=${folder}; exec $COMMAND`;
      await using screen = Terminal.start(["peers", "add", "laptop", ticket], {
        permissions,
        shell,
      });
      await screen.prints("Connect to it? [y/N]");
      await screen.type("y\r");
      assertEquals(await screen.end(), 0, screen.screen);
      await using second = Terminal.start(["peers", "add", "laptop", TICKET, "--lan"], {
        permissions,
        shell,
      });
      await second.prints(
        /laptop is a friend already, whose ID is\s+[\w-]+\s+Replace it\? \[y\/N\]/,
      );
      await second.type("n\r");
      assertEquals(await second.end(), 1, second.screen);
      const env = { XDG_CONFIG_HOME: folder };
      const args = ["connect", "laptop", ...servers.server];
      const { code, stdout, stderr } = await start(args, { permissions, env }).end();
      assertEquals([code, stdout], [0, "hello"], stderr);
      await listener.end();
    }),
);

Deno.test("settings say where to meet; without permission they are not read, and writing names the flag", () =>
  inFolder(async ({ folder, servers }) => {
    await Deno.mkdir(`${folder}/punchline`);
    const file = `${folder}/punchline/config.json`;
    await Deno.writeTextFile(file, JSON.stringify({ rendezvous: [servers.url] }));
    const env = { XDG_CONFIG_HOME: folder, APPDATA: folder };
    const permissions = [`--allow-read=${folder}`, "--allow-env=XDG_CONFIG_HOME,APPDATA"];
    const args = ["listen", "--server", servers.stun, "--timeout", "1s"];
    const listener = await start(args, { env, permissions }).end();
    assertMatch(listener.stderr, new RegExp(`--rendezvous ${servers.url}`));
    await Deno.writeTextFile(file, '{ "rendezvouz": [] }');
    const broken = await start(args, { env, permissions }).end();
    assertEquals(broken.code, 2);
    assertMatch(broken.stderr, /Cannot use .*config\.json: .*"rendezvouz" is unknown/);
    await Deno.writeTextFile(file, '{ "peers": { "laptop": { "ticket": "punchline:A" } } }');
    const damaged = await start(["connect", "laptop"], { env, permissions }).end();
    assertEquals(damaged.code, 2);
    assertMatch(
      damaged.stderr,
      /config\.json: .*peers\.laptop\.ticket is not a ticket, or a damaged/,
    );
    await Deno.writeTextFile(file, "{}");
    const add = ["peers", "add", "laptop", TICKET, "--rendezvous", servers.url];
    const unwritable = await start(add, { env, permissions }).end();
    assertMatch(unwritable.stderr, /--allow-write is not granted/);
    assertEquals(unwritable.code, 1);
    const unknown = await start(add).end();
    assertMatch(unknown.stderr, /add --allow-env=HOME/);
  }));

const TICKET = encodeTicket({
  publicKey: new Uint8Array(32),
  secret: new Uint8Array(16),
  signaling: ["ws://192.0.2.1:3480"],
});

interface Place {
  readonly folder: string;
  readonly files: { readonly permissions: readonly string[] };
  readonly servers: Servers;
}

function inFolder(test: (place: Place) => Promise<void>): Promise<void> {
  return withScratch(async (folder) => {
    await Deno.mkdir(`${folder}/from`);
    await Deno.mkdir(`${folder}/to`);
    const files = { permissions: [`--allow-read=${folder}`, `--allow-write=${folder}`] };
    await withServers((servers) => test({ folder, files, servers }));
  });
}

function recvArgs(folder: string, { connecting }: Servers): string[] {
  return ["--yes", "--to", `${folder}/to`, ...connecting];
}

async function codeOf(command: Command): Promise<string> {
  const pattern = /\b\d{1,4}(?:-[a-z]{4,6}){3}\b/;
  return pattern.exec(await command.prints(pattern))![0];
}

function namesIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
}

function endless(): ReadableStream<Uint8Array> {
  return new ReadableStream();
}

/** A command that keeps its settings in the folder. */
function settingsIn(folder: string) {
  return {
    permissions: [
      `--allow-read=${folder}`,
      `--allow-write=${folder}`,
      "--allow-env=XDG_CONFIG_HOME,HOME,APPDATA",
    ],
    env: { XDG_CONFIG_HOME: folder, APPDATA: folder, HOME: folder },
  };
}
