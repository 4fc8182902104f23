/**
 * A stranger sends a ticket, and wants files on the disk of whoever uses it: hidden ones, programs, and into folders that
 * are there already.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { type Command, type Servers, start, withScratch, withServers } from "../cli/command.ts";
import { Terminal, terminalTest } from "../cli/terminal.ts";

Deno.test("recv writes nothing without a terminal and without --yes, and the sender is told declined", () =>
  withOffer({ "data/a": "alpha" }, async ({ folder, sender, recv }) => {
    const { code, stderr, stdout } = await recv([]).end();
    assertEquals([code, stdout], [1, ""], stderr);
    assertMatch(stderr, /Receiving 1 file, 5 bytes: data/);
    assertMatch(stderr, /Declined: there is no terminal to ask on\nUse --yes to receive/);
    assertEquals(await list(`${folder}/to`), []);
    const sent = await sender.end();
    assertEquals(sent.code, 1);
    assertMatch(sent.stderr, /declined/);
  }));

Deno.test("recv does not take the answer from a pipe, which is not a person", () =>
  withOffer({ "data/a": "alpha" }, async ({ folder, recv }) => {
    const { code } = await recv([], { input: "y\ny\nyes\n" }).end();
    assertEquals([code, await list(`${folder}/to`)], [1, []]);
  }));

Deno.test("recv - from a pipe takes the first line as the ticket, and needs --yes", () =>
  withOffer({ "data/a": "alpha" }, async ({ folder, ticket, recv }) => {
    const refused = await recv(["-"], { input: `${ticket}\ny\n`, withTicket: false }).end();
    assertEquals([refused.code, await list(`${folder}/to`)], [1, []], refused.stderr);
  }));

Deno.test("recv - --yes from a pipe receives", () =>
  withOffer({ "data/a": "alpha" }, async ({ folder, ticket, recv }) => {
    const { code, stderr } = await recv(["-", "--yes"], {
      input: `${ticket}\n`,
      withTicket: false,
    }).end();
    assertEquals(code, 0, stderr);
    assertEquals(await Deno.readTextFile(`${folder}/to/data/a`), "alpha");
  }));

Deno.test("an existing folder is not merged into without --merge, and the message names it", () =>
  withOffer({ "data/new": "new" }, async ({ folder, recv }) => {
    await Deno.mkdir(`${folder}/to/data`);
    await Deno.writeTextFile(`${folder}/to/data/mine`, "mine");
    const { code, stderr } = await recv(["--yes"]).end();
    assertEquals(code, 1);
    assertMatch(stderr, /Declined: data is there already\nUse --merge to receive/);
    assertEquals(await list(`${folder}/to`), ["data", "data/mine"]);
  }));

Deno.test("--yes --merge merges into an existing folder", () =>
  withOffer({ "data/new": "new" }, async ({ folder, recv }) => {
    await Deno.mkdir(`${folder}/to/data`);
    const { code, stderr } = await recv(["--yes", "--merge"]).end();
    assertEquals([code, await list(`${folder}/to`)], [0, ["data", "data/new"]], stderr);
  }));

Deno.test("a name that is taken costs one file: the rest arrives, and both sides exit with 1", () =>
  withOffer({ "data/a": "alpha", "data/b": "beta" }, async ({ folder, sender, recv }) => {
    await Deno.mkdir(`${folder}/to/data`);
    await Deno.writeTextFile(`${folder}/to/data/a`, "mine!");
    const { code, stderr } = await recv(["--yes", "--merge"]).end();
    assertEquals(code, 1, stderr);
    assertMatch(stderr, /existing {2}data\/a; yours are kept/);
    assertMatch(stderr, /Cannot receive data\/a: something else is there/);
    assertMatch(stderr, /Received 1 file, 4 bytes/);
    assertMatch(stderr, /--rename to keep both files, or --overwrite to replace yours/);
    assertEquals(await Deno.readTextFile(`${folder}/to/data/a`), "mine!");
    assertEquals(await Deno.readTextFile(`${folder}/to/data/b`), "beta");
    const sent = await sender.end();
    assertEquals(sent.code, 1, sent.stderr);
    assertMatch(sent.stderr, /Cannot receive data\/a: something else is there/);
  }));

terminalTest(
  "a name that is taken after the yes costs that file only",
  () =>
    withOffer({ "data/a": "alpha", "data/b": "beta" }, async ({ folder, terminal }) => {
      await Deno.mkdir(`${folder}/to/data`);
      await using screen = terminal([]);
      await screen.prints("into the existing folder data? [y/N]");
      await Deno.writeTextFile(`${folder}/to/data/a`, "mine!");
      await screen.type("y\r");
      assertEquals(await screen.end(), 1, screen.screen);
      assertMatch(screen.screen, /Cannot receive data\/a: something else is there/);
      assertEquals(await Deno.readTextFile(`${folder}/to/data/a`), "mine!");
      assertEquals(await Deno.readTextFile(`${folder}/to/data/b`), "beta");
    }),
);

Deno.test({
  name: "a second receive of the same hidden files and programs says that they are there",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const files = { ".bashrc": "alias", "run.sh": "#!/bin/sh" };
    for (const source of [".bashrc", "run.sh"] as const) {
      await withOffer(files, async ({ folder, sender, recv }) => {
        await Deno.copyFile(`${folder}/from/${source}`, `${folder}/to/${source}`);
        const { code, stderr } = await recv(["--yes"]).end();
        assertEquals(code, 0, stderr);
        assertMatch(stderr, /Nothing to receive: the file is already there/);
        const sent = await sender.end();
        assertEquals(sent.code, 0, sent.stderr);
        assertMatch(sent.stderr, /Nothing to send: the file is already there/);
      }, source);
      await withOffer(files, async ({ folder, recv }) => {
        await Deno.writeTextFile(`${folder}/to/${source}`, "mine");
        const { code, stderr } = await recv(["--yes", "--overwrite"]).end();
        assertEquals(code, 1, stderr);
        assertMatch(stderr, /Use --allow-hidden to receive hidden files and programs/);
        assertEquals(await Deno.readTextFile(`${folder}/to/${source}`), "mine");
      }, source);
    }
  },
});

for (
  const [what, files, source] of [
    ["a hidden file", { ".bashrc": "evil" }, ".bashrc"],
    ["a hidden folder", { ".ssh/authorized_keys": "evil" }, ".ssh"],
    ["a program", { "run.sh": "#!/bin/sh" }, "run.sh"],
  ] as const
) {
  Deno.test({
    name: `${what} is not planted in a folder that was there before`,
    ignore: Deno.build.os === "windows",
    fn: () =>
      withOffer(files, async ({ folder, recv }) => {
        const { code, stderr } = await recv(["--yes", "--merge"]).end();
        assertEquals([code, await list(`${folder}/to`)], [1, []]);
        assertMatch(stderr, /Use --allow-hidden to receive/);
        assertMatch(stderr, /hidden|programs/);
      }, source),
  });
  Deno.test({
    name: `${what} is received with --allow-hidden, and shown`,
    ignore: Deno.build.os === "windows",
    fn: () =>
      withOffer(files, async ({ folder, recv }) => {
        const { code, stderr } = await recv(["--yes", "--allow-hidden"]).end();
        assertEquals(code, 0, stderr);
        assertMatch(
          stderr,
          what === "a program" ? /programs {2}run\.sh/ : /hidden {4}\.(bash|ssh)/,
        );
        assert((await list(`${folder}/to`)).includes(source));
      }, source),
  });
}

terminalTest(
  "on a terminal recv shows names, count, size, target and key, and yes receives",
  () =>
    withOffer({ "data/a": "alpha", "data/.env": "x" }, async ({ folder, sender, terminal }) => {
      await using screen = terminal([]);
      const text = await screen.prints("[y/N]");
      assertMatch(text, /Receiving 2 files, 6 bytes: data\r?\n/);
      assertMatch(text, /hidden {4}data\/\.env/);
      assertMatch(text, /from {6}[A-Za-z0-9_-]{43}\r?\n/);
      assertMatch(text, new RegExp(`into {6}${folder}/to`));
      assertEquals(await list(`${folder}/to`), []);
      await screen.type("y\r");
      assertEquals(await screen.end(), 0, screen.screen);
      assertEquals((await sender.end()).code, 0);
      assertEquals(await Deno.readTextFile(`${folder}/to/data/a`), "alpha");
    }),
);

for (const [what, answer] of [["Enter", "\r"], ["n", "n\r"], ["Ctrl-D", "\u0004"]] as const) {
  terminalTest(
    `on a terminal ${what} declines: exit 1, nothing is written, and the sender is told`,
    () =>
      withOffer({ "data/a": "alpha" }, async ({ folder, sender, terminal }) => {
        await using screen = terminal([]);
        await screen.prints("[y/N]");
        await screen.type(answer);
        assertEquals(await screen.end(), 1, screen.screen);
        assertMatch(screen.screen, /Use --yes to receive/);
        assertEquals(await list(`${folder}/to`), []);
        assertMatch(screen.screen, /Declined: nothing was written/);
        assertMatch((await sender.end()).stderr, /The receiver declined, so nothing was sent/);
      }),
  );
}

terminalTest(
  "on a terminal the question names the existing folder, and yes merges into it",
  () =>
    withOffer({ "data/new": "new" }, async ({ folder, terminal }) => {
      await Deno.mkdir(`${folder}/to/data`);
      await using screen = terminal([]);
      await screen.prints("into the existing folder data? [y/N]");
      await screen.type("yes\r");
      assertEquals(await screen.end(), 0, screen.screen);
      assertEquals(await list(`${folder}/to`), ["data", "data/new"]);
    }),
);

terminalTest(
  "on a terminal a hidden file for an existing folder is refused without a question",
  () =>
    withOffer({ ".bashrc": "evil" }, async ({ folder, terminal }) => {
      await using screen = terminal([]);
      assertEquals(await screen.end(), 1);
      assertMatch(screen.screen, /Use --allow-hidden to receive/);
      assert(!screen.screen.includes("[y/N]"));
      assertEquals(await list(`${folder}/to`), []);
    }, ".bashrc"),
);

terminalTest(
  "recv - on a terminal asks for the ticket first, then about the files",
  () =>
    withOffer({ "data/a": "alpha" }, async ({ folder, ticket, terminal }) => {
      await using screen = terminal(["-"], { withTicket: false });
      await screen.prints("Enter the value of ticket");
      await screen.type(`${ticket}\r`);
      await screen.prints("[y/N]");
      await screen.type("y\r");
      assertEquals(await screen.end(), 0, screen.screen);
      assertEquals(await Deno.readTextFile(`${folder}/to/data/a`), "alpha");
    }),
);

for (
  const [what, early] of [
    ["a line", "y\r"],
    ["many lines", "y\r".repeat(100)],
    ["a line without its end", "y"],
    ["an answer and half of another", "y\ryes"],
  ] as const
) {
  terminalTest(
    `a ticket that is pasted along with its own consent writes nothing: ${what}`,
    () =>
      withOffer({ "data/a": "alpha" }, async ({ folder, ticket, terminal }) => {
        await using screen = terminal(["-"], { withTicket: false });
        await screen.prints("Enter the value of ticket");
        await screen.type(`${ticket}\r${early}`);
        await screen.prints("Receive? [y/N]");
        await screen.type("\r");
        assertEquals(await screen.end(), 1, screen.screen);
        assertEquals(await list(`${folder}/to`), []);
      }),
  );
  terminalTest(
    `what is typed before recv has shown its facts is not consent: ${what}`,
    () =>
      withOffer({ "data/a": "alpha" }, async ({ folder, terminal }) => {
        await using screen = terminal([]);
        await screen.pid();
        await screen.type(early);
        await screen.prints("Receive? [y/N]");
        await screen.type("\r");
        assertEquals(await screen.end(), 1, screen.screen);
        assertEquals(await list(`${folder}/to`), []);
      }),
  );
}

terminalTest(
  "what was typed before the question does not spoil the answer",
  () =>
    withOffer({ "data/a": "alpha" }, async ({ folder, terminal }) => {
      await using screen = terminal([]);
      await screen.pid();
      await screen.type("no\rn");
      await screen.prints("Receive? [y/N]");
      await screen.type("y\r");
      assertEquals(await screen.end(), 0, screen.screen);
      assertEquals(await Deno.readTextFile(`${folder}/to/data/a`), "alpha");
    }),
);

terminalTest(
  "a sender that goes away while recv asks ends the question",
  () =>
    withOffer({ "data/a": "alpha" }, async ({ folder, sender, terminal }) => {
      await using screen = terminal([]);
      await screen.prints("[y/N]");
      sender.signal("SIGTERM");
      assertEquals(await screen.end(), 1, screen.screen);
      assertMatch(screen.screen, /the sender has ended the transfer/);
      assertEquals(await list(`${folder}/to`), []);
    }),
);

terminalTest(
  "escape sequences in names do not reach the terminal of the question",
  () =>
    withOffer({ "data/\u001b[2J\u202egpj.exe": "x" }, async ({ terminal }) => {
      await using screen = terminal([]);
      const text = await screen.prints("[y/N]");
      assert(!text.includes("\u001b[2J") && !text.includes("\u202e"), text);
      await screen.type("n\r");
      await screen.end();
    }, "data"),
);

interface Offer {
  readonly folder: string;
  readonly ticket: string;
  readonly sender: Command;
  recv(args: readonly string[], options?: { input?: string; withTicket?: boolean }): Command;
  terminal(args: readonly string[], options?: { withTicket?: boolean }): Terminal;
}

async function withOffer(
  files: Readonly<Record<string, string>>,
  test: (offer: Offer) => Promise<void>,
  source = "data",
): Promise<void> {
  await withScratch((folder) =>
    withServers(async (servers: Servers) => {
      for (const [path, text] of Object.entries(files)) {
        const full = `${folder}/from/${path}`;
        await Deno.mkdir(full.slice(0, full.lastIndexOf("/")), { recursive: true });
        await Deno.writeTextFile(full, text);
        if (path.endsWith(".sh")) await Deno.chmod(full, 0o755);
      }
      await Deno.mkdir(`${folder}/to`);
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const sender = start(["send", `${folder}/from/${source}`, ...servers.all], { permissions });
      const ticket = await sender.ticket();
      const rest = ["--to", `${folder}/to`, ...servers.connecting];
      const words = (args: readonly string[], withTicket = true) => [
        ...["recv", ...args, ...withTicket ? [ticket] : [], ...rest],
      ];
      try {
        await test({
          folder,
          ticket,
          sender,
          recv: (args, { input = "", withTicket } = {}) =>
            start(words(args, withTicket), { permissions, input }),
          terminal: (args, { withTicket } = {}) =>
            Terminal.start(words(args, withTicket), { permissions }),
        });
      } finally {
        sender.interrupt();
        await sender.end();
      }
    })
  );
}

async function list(folder: string, prefix = ""): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    names.push(prefix + name);
    if (isDirectory) names.push(...await list(`${folder}/${name}`, `${prefix}${name}/`));
  }
  return names.sort();
}
