/**
 * What others can do to a transfer of files: another transfer, another program that may write into the folder, and the
 * sender.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import {
  type IncomingOffer,
  receiveFiles,
  sendFiles,
  type TransferResult,
} from "../../lib/transfer/mod.ts";
import { endOf, haltedTransfer, namesIn, scratch, transfer } from "./transfer_scene.ts";

const ON_WINDOWS = Deno.build.os === "windows";

Deno.test("a second transfer of a name cannot put its bytes under the name that the first reports as checked", async () => {
  await using folder = await scratch();
  const [one, two] = [filled(1), filled(2)];
  const sources = await both(folder.path, one, two);
  await using first = await haltedTransfer([sources[0]], folder.inbox, HALF);
  await first.halted;
  await using second = await haltedTransfer([sources[1]], folder.inbox, HALF);
  await second.halted;
  first.resume();
  assertEquals(endOf(await first.received), "ok");
  assertEquals(await Deno.readFile(`${folder.inbox}/x`), one);
  second.resume();
  assertEquals(refusedBy(await second.received), ["x: something else is there"]);
  assertEquals(refusedBy(await second.sent), ["x: something else is there"]);
  assertEquals(await Deno.readFile(`${folder.inbox}/x`), one);
  assertEquals(await namesIn(folder.inbox), ["x"], "no incomplete file stays");
});

Deno.test("two transfers of one name into one folder both arrive, if the later one may be renamed", async () => {
  await using folder = await scratch();
  const [one, two] = [filled(1), filled(2)];
  const sources = await both(folder.path, one, two);
  const options = { existing: "rename" } as const;
  await using first = await haltedTransfer([sources[0]], folder.inbox, HALF, options);
  await first.halted;
  assertEquals(endOf((await transfer([sources[1]], folder.inbox, options)).received), "ok");
  first.resume();
  const received = await first.received;
  assert(received.status === "fulfilled");
  assertEquals(received.value.renamed, [{ path: "x", savedAs: "x (1)" }]);
  assertEquals(await Deno.readFile(`${folder.inbox}/x`), two);
  assertEquals(await Deno.readFile(`${folder.inbox}/x (1)`), one);
});

Deno.test({
  name: "two processes that receive one name do not share an incomplete file",
  ignore: ON_WINDOWS,
  fn: async () => {
    await using folder = await scratch();
    const [one, two] = [filled(1), filled(2)];
    const sources = await both(folder.path, one, two);
    await using first = await haltedTransfer([sources[0]], folder.inbox, HALF);
    await first.halted;
    const listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
    using _listener = listener;
    const program = new URL("../transfer/programs/receive.ts", import.meta.url).pathname;
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "-q", program, `${listener.local.port}`, folder.inbox, "Infinity"],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    await sendFiles(({ signal }) => listener.accept({ signal }), [sources[1]]);
    assert((await process.output()).success);
    assertEquals(await Deno.readFile(`${folder.inbox}/x`), two);
    first.resume();
    assertEquals(refusedBy(await first.received), ["x: something else is there"]);
    assertEquals(await Deno.readFile(`${folder.inbox}/x`), two);
  },
});

for (const how of ["another file", "a hard link to another file", "a symbolic link"] as const) {
  Deno.test({
    name: `another program cannot pass off ${how} as the one received`,
    ignore: ON_WINDOWS,
    fn: async () => {
      await using folder = await scratch();
      await Deno.writeFile(`${folder.path}/x`, filled(1));
      await using running = await haltedTransfer([`${folder.path}/x`], folder.inbox, HALF);
      await running.halted;
      const part = `${folder.inbox}/${(await namesIn(folder.inbox))[0]}`;
      await Deno.writeTextFile(`${folder.path}/planted`, "planted");
      await Deno.rename(part, `${folder.path}/moved`);
      if (how === "another file") await Deno.writeTextFile(part, "planted");
      else if (how === "a symbolic link") run("ln", "-s", `${folder.path}/planted`, part);
      else run("ln", `${folder.path}/planted`, part);
      running.resume();
      assertMatch(endOf(await running.received), /^FileError replaced: .*moved or replaced it$/);
      assertMatch(endOf(await running.sent), /^TransferError failed: .*moved or replaced there$/);
      assert(!(await namesIn(folder.inbox)).includes("x"));
      assertEquals(await Deno.readTextFile(`${folder.path}/planted`), "planted");
    },
  });
}

for (const kind of ["fifo", "symbolic link", "hard link"] as const) {
  Deno.test({
    name: `a ${kind} with the name of an incomplete file is neither written to nor waited for`,
    ignore: ON_WINDOWS,
    fn: async () => {
      await using folder = await scratch();
      const content = filled(1);
      await Deno.writeFile(`${folder.path}/x`, content);
      const controller = new AbortController();
      {
        await using running = await haltedTransfer([`${folder.path}/x`], folder.inbox, HALF, {
          signal: controller.signal,
        });
        await running.halted;
        controller.abort();
      }
      const [name] = await namesIn(folder.inbox);
      const part = `${folder.inbox}/${name}`;
      await Deno.writeFile(`${folder.path}/victim`, content.subarray(0, 1000));
      await Deno.remove(part);
      if (kind === "fifo") run("mkfifo", part);
      else run("ln", ...kind === "hard link" ? [] : ["-s"], `${folder.path}/victim`, part);
      const { received } = await transfer([`${folder.path}/x`], folder.inbox);
      assertEquals(endOf(received), "ok");
      assertEquals(await Deno.readFile(`${folder.inbox}/x`), content);
      assertEquals((await Deno.stat(`${folder.path}/victim`)).size, 1000);
    },
  });
}

Deno.test({
  name: "a target folder that is replaced by a link during the transfer does not lead elsewhere",
  ignore: ON_WINDOWS,
  fn: async () => {
    await using folder = await scratch();
    await Deno.mkdir(`${folder.path}/data/z`, { recursive: true });
    await Deno.mkdir(`${folder.path}/home`);
    await Deno.writeFile(`${folder.path}/data/a`, filled(1));
    for (const name of ["b", "z/c"]) {
      await Deno.writeTextFile(`${folder.path}/data/${name}`, "planted");
    }
    await using running = await haltedTransfer([`${folder.path}/data`], folder.inbox, HALF);
    await running.halted;
    await Deno.rename(folder.inbox, `${folder.path}/renamed`);
    await Deno.mkdir(`${folder.path}/home/data`);
    run("ln", "-s", `${folder.path}/home`, folder.inbox);
    running.resume();
    assertMatch(endOf(await running.received), /^FileError /);
    assertEquals(await namesIn(`${folder.path}/home/data`), []);
  },
});

Deno.test({
  name:
    "a target folder that is renamed during the transfer ends it with an error, not with a success",
  ignore: ON_WINDOWS,
  fn: async () => {
    await using folder = await scratch();
    await Deno.writeFile(`${folder.path}/x`, filled(1));
    await using running = await haltedTransfer([`${folder.path}/x`], folder.inbox, HALF);
    await running.halted;
    await Deno.rename(folder.inbox, `${folder.path}/renamed`);
    await Deno.mkdir(folder.inbox);
    running.resume();
    assertMatch(endOf(await running.received), /^FileError replaced: /);
    assertEquals(await namesIn(folder.inbox), []);
    assert(!(await namesIn(`${folder.path}/renamed`)).includes("x"));
  },
});

Deno.test("an offer is not accepted because the application forgot to decide", async () => {
  await using folder = await scratch();
  await Deno.writeFile(`${folder.path}/x`, filled(1));
  const careless = receiveFiles as unknown as (next: unknown, folder: string) => Promise<unknown>;
  await assertRejects(
    () => careless(() => Promise.reject(new Error("it connects")), folder.inbox),
    TypeError,
    "onOffer must decide",
  );
});

for (
  const [what, path, mode] of [
    ["a hidden file into the target folder", ".bashrc", 0o644],
    ["a hidden folder into the target folder", ".ssh/authorized_keys", 0o644],
    ["an executable file into the target folder", "ls", 0o755],
    ["an executable file into an existing folder", "project/bin/tool", 0o755],
    ["a hook into an existing repository", "project/.git/hooks/pre-commit", 0o755],
    ["a hidden file into an existing folder", "project/.envrc", 0o644],
  ] as const
) {
  Deno.test({
    name: `an offer cannot plant ${what} unless that was allowed`,
    ignore: ON_WINDOWS,
    fn: async () => {
      await using folder = await scratch();
      const source = `${folder.path}/from/${path}`;
      await Deno.mkdir(source.slice(0, source.lastIndexOf("/")), { recursive: true });
      await Deno.writeTextFile(source, "planted", { mode });
      await Deno.mkdir(`${folder.inbox}/project/.git/hooks`, { recursive: true });
      await Deno.mkdir(`${folder.inbox}/project/bin`);
      const top = `${folder.path}/from/${path.split("/")[0]}`;
      let offer: IncomingOffer | undefined;
      const onOffer = (each: IncomingOffer) => {
        offer = each;
        return { accept: true, merge: true };
      };
      const { sent, received } = await transfer([top], folder.inbox, { onOffer });
      assertMatch(endOf(received), /^TransferError hidden: /);
      assertEquals(endOf(sent), "TransferError declined: The other side declined the offer");
      assertEquals(await namesIn(folder.inbox), ["project"]);
      assertEquals((await Deno.stat(`${folder.inbox}/project`)).isDirectory, true);
      assertEquals(offer!.needAllowHidden.map(({ path }) => path)[0], expectedPlanted(path));
      const allowed = await transfer([top], folder.inbox, { merge: true, allowHidden: true });
      assertEquals(endOf(allowed.received), "ok");
      assertEquals(await Deno.readTextFile(`${folder.inbox}/${path}`), "planted");
    },
  });
}

Deno.test("an offer is not merged into an existing folder unless that was allowed, and the sender learns nothing", async () => {
  await using folder = await scratch();
  await Deno.mkdir(`${folder.path}/project`);
  await Deno.writeTextFile(`${folder.path}/project/a`, "a");
  await Deno.mkdir(`${folder.inbox}/project`);
  const { sent, received } = await transfer([`${folder.path}/project`], folder.inbox);
  assertMatch(endOf(received), /^TransferError merge: Cannot receive: project exists already/);
  assertEquals(endOf(sent), "TransferError declined: The other side declined the offer");
  assertEquals(await namesIn(`${folder.inbox}/project`), []);
});

Deno.test("hidden and executable files inside of a folder that the transfer creates are allowed, and shown", async () => {
  await using folder = await scratch();
  await Deno.mkdir(`${folder.path}/project/.git`, { recursive: true });
  await Deno.writeTextFile(`${folder.path}/project/.git/config`, "");
  await Deno.writeTextFile(`${folder.path}/project/run.sh`, "", { mode: 0o755 });
  const { onOffer, offers } = taking();
  const { received } = await transfer([`${folder.path}/project`], folder.inbox, { onOffer });
  assertEquals(endOf(received), "ok");
  assertEquals(offers[0]!.hidden.map(({ path }) => path), ["project/.git", "project/.git/config"]);
  if (!ON_WINDOWS) assertEquals(offers[0]!.executables.map(({ path }) => path), ["project/run.sh"]);
  assertEquals(offers[0]!.needAllowHidden, []);
});

Deno.test("what an interrupted transfer began itself is resumed without leave to merge", async () => {
  await using folder = await scratch();
  await Deno.mkdir(`${folder.path}/project/.git`, { recursive: true });
  await Deno.writeTextFile(`${folder.path}/project/.git/config`, "[core]");
  await Deno.writeFile(`${folder.path}/project/x`, filled(1));
  const controller = new AbortController();
  {
    await using running = await haltedTransfer([`${folder.path}/project`], folder.inbox, HALF, {
      signal: controller.signal,
    });
    await running.halted;
    controller.abort();
  }
  const { onOffer, offers } = taking();
  const { received } = await transfer([`${folder.path}/project`], folder.inbox, { onOffer });
  assertEquals(endOf(received), "ok");
  assertEquals([offers[0]!.isResumed, offers[0]!.existingFolders, offers[0]!.needAllowHidden], [
    true,
    [],
    [],
  ]);
  assertEquals(await namesIn(folder.inbox), ["project"]);
  assertEquals(await namesIn(`${folder.inbox}/project`), [".git", "x"]);
});

Deno.test("a sender cannot read a hash of a local file out of an offer that was declined", async () => {
  await using folder = await scratch();
  await Deno.writeTextFile(`${folder.inbox}/secret`, "1234");
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const receiving = receiveFiles(
    ({ signal }) => systemNetwork.connectTcp(listener.local, { signal }),
    folder.inbox,
    { onOffer: () => false, maxFruitless: 1 },
  ).catch(() => {});
  using connection = await listener.accept();
  await connection.write(offerOf("secret", 4));
  const answer: number[] = [];
  const buffer = new Uint8Array(1000);
  for (let count; (count = await connection.read(buffer)) !== null;) {
    answer.push(...buffer.subarray(0, count));
  }
  assertEquals(answer, [7, 0, 0, 0, 1, 0]); // REFUSAL, declined, no reason
  connection.close();
  await receiving;
});

/** The bytes of an offer of one file, as version 2 of the protocol has them. */
function offerOf(name: string, size: number): Uint8Array {
  const path = new TextEncoder().encode(name);
  const entry = [
    0,
    0,
    ...new Array(8).fill(0),
    ...new Array(7).fill(0),
    size,
    0,
    path.length,
    ...path,
  ];
  return Uint8Array.of(
    ...[1, 0, 0, 0, 5, ...new TextEncoder().encode("PLFT"), 2],
    ...[8, 0, 0, 0, entry.length, ...entry],
    ...[10, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0],
  );
}

function expectedPlanted(path: string): string {
  return path === ".ssh/authorized_keys" ? ".ssh" : path;
}

/** Two sources of the same name and size. */
async function both(path: string, one: Uint8Array, two: Uint8Array): Promise<[string, string]> {
  for (const [name, content] of [["one", one], ["two", two]] as const) {
    await Deno.mkdir(`${path}/${name}`);
    await Deno.writeFile(`${path}/${name}/x`, content);
  }
  return [`${path}/one/x`, `${path}/two/x`];
}

/** What did not arrive. */
function refusedBy(settled: PromiseSettledResult<TransferResult>): string[] {
  assert(settled.status === "fulfilled");
  return settled.value.refused.map(({ path, reason }) => `${path}: ${reason}`);
}

function run(program: string, ...args: string[]): void {
  const { success } = new Deno.Command(program, { args }).outputSync();
  assert(success, `${program} failed`);
}

function filled(byte: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(SIZE).fill(byte);
}

const SIZE = 4 * 1024 * 1024;
const HALF = SIZE / 2;

/** Accepts every offer, and keeps it. */
function taking(): { onOffer: (offer: IncomingOffer) => true; offers: IncomingOffer[] } {
  const offers: IncomingOffer[] = [];
  return { onOffer: (offer) => (offers.push(offer), true), offers };
}
