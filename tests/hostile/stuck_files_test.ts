/**
 * Files that keep a program waiting: a list of tickets that another program holds, and pipes without a writer.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { type Servers, start, withScratch, withServers } from "../cli/command.ts";

const IS_WINDOWS = Deno.build.os === "windows"; // it has no signals to send to another process, and no named pipes

const HELD = "another program holds the list of tickets";

Deno.test("a client with a ticket for one use is refused while another program holds the list", () =>
  withListener(async ({ key, once, servers, listener }) => {
    const lock = await hold(key);
    const refused = await start(["connect", once, ...servers.connecting]).end();
    assertNotEquals(refused.code, 0, refused.stderr);
    assertMatch(refused.stderr, /punchline: /);
    await listener.prints(HELD);
    lock.close();
    const connector = await start(["connect", once, ...servers.connecting]).end(); // it was not used up
    assertEquals([connector.code, connector.stdout], [0, "for one"], connector.stderr);
    assertEquals((await listener.end()).code, 0);
  }));

Deno.test({
  name: "TERM ends listen at once while another program holds the list of tickets",
  ignore: IS_WINDOWS,
  fn: () =>
    withListener(async ({ key, once, servers, listener }) => {
      using _lock = await hold(key);
      const connector = start(["connect", once, ...servers.connecting]);
      await connector.prints("Connected");
      await delay(500); // by now the listener waits for the lock
      listener.signal("SIGTERM");
      const { code, stderr } = await listener.end();
      assertEquals(code, 143, stderr);
      assert(!stderr.includes(HELD), stderr);
      assertNotEquals((await connector.end()).code, 0);
    }),
});

Deno.test("ticket new and revoke say that another program holds the list, and list reads it", () =>
  withKey(async ({ key, files }) => {
    using _lock = await hold(key);
    for (const args of [["new"], ["revoke", "0"]]) {
      const { code, stderr, stdout } = await ticket(args, { key, files }).end();
      assertEquals([code, stdout], [1, ""], stderr);
      assertMatch(
        stderr,
        /^punchline: Cannot change \S+key\.tickets: another program holds [^\n]+\nEnd that program, and try again\n$/,
      );
    }
    assertEquals((await ticket(["list"], { key, files }).end()).code, 0);
  }));

Deno.test({
  name: "TERM ends ticket new at once while another program holds the list",
  ignore: IS_WINDOWS,
  fn: () =>
    withKey(async ({ key, files }) => {
      using _lock = await hold(key);
      const waiting = ticket(["new"], { key, files });
      await delay(2000);
      waiting.signal("SIGTERM");
      assertEquals((await waiting.end()).code, 143);
    }),
});

Deno.test({
  name: "a key file that is a pipe or a folder is refused at once",
  ignore: IS_WINDOWS,
  fn: () =>
    withScratch(async (folder) => {
      const pipe = await makePipe(folder);
      for (const path of [pipe, folder]) {
        for (const command of [["id"], ["ticket", "new"], ["listen", "--lan"]]) {
          const { code, stderr } = await start([...command, "--key", path], {
            permissions: permissionsFor(folder),
          }).end();
          assertEquals(code, 2, stderr);
          assertEquals(stderr.split("\n")[0], `punchline: --key ${path}: it is not a file`);
        }
      }
    }),
});

for (const [signal, expected] of [["SIGTERM", 143], ["SIGINT", 130]] as const) {
  Deno.test({
    name: `${signal} ends a command that waits for the writer of a pipe`,
    ignore: IS_WINDOWS,
    fn: () =>
      withScratch(async (folder) => {
        const pipe = await makePipe(folder);
        for (const args of [["connect", `@${pipe}`], ["listen", "--turn", `@${pipe}`]]) {
          const waiting = start(args, { permissions: permissionsFor(folder) });
          await delay(2000);
          waiting.signal(signal);
          assertEquals((await waiting.end()).code, expected);
        }
      }),
  });
}

Deno.test({
  name: "a ticket may come through a pipe whose writer is late",
  ignore: IS_WINDOWS,
  fn: () =>
    withScratch(async (folder) => {
      const pipe = await makePipe(folder);
      const command = start(["recv", `@${pipe}`, "--yes"], { permissions: permissionsFor(folder) });
      await delay(1000);
      await Deno.writeTextFile(pipe, "punchline:nonsense\n");
      const { code, stderr } = await command.end();
      assertEquals(code, 2, stderr);
      assertMatch(stderr, /ticket/);
      assert(!stderr.includes("nonsense"), stderr);
    }),
});

/** Locks the list of tickets, as a program does that changes it. */
async function hold(key: string): Promise<Deno.FsFile> {
  const file = await Deno.open(key, { read: true });
  await file.lock(true);
  return file;
}

async function makePipe(folder: string): Promise<string> {
  const path = `${folder}/pipe`;
  const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
  assert(success);
  return path;
}

function ticket(args: readonly string[], { key, files }: Pick<Place, "key" | "files">) {
  return start(["ticket", ...args, "--key", key], { permissions: files });
}

interface Place {
  readonly key: string;
  readonly files: readonly string[];
}

async function withKey(test: (place: Place) => Promise<void>): Promise<void> {
  await withScratch(async (folder) => {
    const place = { key: `${folder}/key`, files: permissionsFor(folder) };
    await start(["id", "--key", place.key], { permissions: place.files }).end();
    await test(place);
  });
}

/** A `listen` that has noted where it listens, and a ticket of it for one connection. */
async function withListener(
  test: (
    place: Place & {
      readonly servers: Servers;
      readonly once: string;
      readonly listener: ReturnType<typeof start>;
    },
  ) => Promise<void>,
): Promise<void> {
  await withKey((place) =>
    withServers(async (servers) => {
      const { key, files } = place;
      const made = await ticket(["new", "--once", ...servers.all.slice(2)], place).end();
      const listener = start(["listen", "--key", key, ...servers.all], {
        permissions: files,
        input: "for one",
      });
      await listener.ticket();
      await test({ ...place, servers, once: made.stdout.trim(), listener });
    })
  );
}

function permissionsFor(folder: string): readonly string[] {
  return [`--allow-read=${folder}`, `--allow-write=${folder}`];
}
