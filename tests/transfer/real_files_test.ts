/**
 * Transfers of real files over loopback.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { hash } from "../../lib/base/crypto.ts";
import type { TcpConnection, TcpListener } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { NextConnection } from "../../lib/transfer/reconnect.ts";
import { receiveFiles } from "../../lib/transfer/receiver.ts";
import { sendFiles } from "../../lib/transfer/sender.ts";
import { valueOf } from "./scene.ts";

const ON_WINDOWS = Deno.build.os === "windows";

Deno.test("a file of 64 MiB arrives complete over a connection that is cut three times", async () => {
  await using folder = await scratch();
  const content = pattern(64 * 1024 * 1024);
  await Deno.writeFile(`${folder.path}/big.bin`, content);
  await Deno.mkdir(`${folder.path}/in`);
  using listener = await listen();
  const cutting: TcpConnection[] = [];
  const cutAt = [10, 25, 50].map((mib) => mib * 1024 * 1024);
  const dial = dialTo(listener);
  const [sent, received] = await Promise.all([
    sendFiles(accepting(listener), [`${folder.path}/big.bin`]),
    receiveFiles(
      async (options) => {
        const connection = await dial(options);
        cutting.push(connection);
        return cuttable(connection);
      },
      `${folder.path}/in`,
      {
        onOffer: () => true,
        onProgress: ({ bytes }) => {
          if (bytes < (cutAt[0] ?? Infinity)) return;
          cutAt.shift();
          cutting.at(-1)!.reset();
        },
      },
    ),
  ]);
  assertEquals([sent.files, received.files, received.breaks], [1, 1, 3]);
  assertEquals(received.sentBytes, content.length, "bytes were sent twice");
  assertEquals(
    hash("sha256", await Deno.readFile(`${folder.path}/in/big.bin`)),
    hash("sha256", content),
  );
  assertEquals(await namesIn(`${folder.path}/in`), ["big.bin"]);
});

Deno.test({
  name: "a receiver that was killed resumes once it is started again",
  ignore: ON_WINDOWS,
  fn: async () => {
    await using folder = await scratch();
    const content = pattern(64 * 1024 * 1024);
    await Deno.writeFile(`${folder.path}/big.bin`, content);
    await Deno.mkdir(`${folder.path}/in`);
    using listener = await listen();
    const sending = sendFiles(accepting(listener), [`${folder.path}/big.bin`]);
    const first = startReceiver(listener, `${folder.path}/in`, 8 * 1024 * 1024);
    const killed = await first.output(); // it kills itself with SIGKILL, halfway
    assertEquals(killed.signal, "SIGKILL");
    assertMatch(
      (await namesIn(`${folder.path}/in`)).join(" "),
      /^big\.bin\.[0-9a-f]{10}\.punchline-part$/,
    );
    const { stdout } = await startReceiver(listener, `${folder.path}/in`, Infinity).output();
    const { resumedBytes } = JSON.parse(new TextDecoder().decode(stdout));
    assert(resumedBytes >= 7 * 1024 * 1024, `${resumedBytes} bytes were resumed`);
    assertEquals((await sending).breaks, 1);
    assertEquals(
      hash("sha256", await Deno.readFile(`${folder.path}/in/big.bin`)),
      hash("sha256", content),
    );
  },
});

Deno.test({
  name: "times, executable files and empty folders are preserved",
  ignore: ON_WINDOWS,
  fn: async () => {
    await using folder = await scratch();
    const data = `${folder.path}/data`;
    await Deno.mkdir(`${data}/empty`, { recursive: true });
    await Deno.mkdir(`${folder.path}/in`);
    await Deno.writeTextFile(`${data}/run.sh`, "#!/bin/sh\n", { mode: 0o755 });
    await Deno.writeTextFile(`${data}/plain`, "");
    const modified = new Date(1_700_000_000_000);
    await Deno.utime(`${data}/run.sh`, modified, modified);
    using listener = await listen();
    await Promise.all([
      sendFiles(accepting(listener), [data]),
      receiveFiles(dialTo(listener), `${folder.path}/in`, { onOffer: () => true }),
    ]);
    assertEquals(await namesIn(`${folder.path}/in/data`), ["empty", "plain", "run.sh"]);
    const info = await Deno.stat(`${folder.path}/in/data/run.sh`);
    assertEquals([info.mtime, info.mode! & 0o111], [modified, 0o111]);
    assertEquals((await Deno.stat(`${folder.path}/in/data/plain`)).mode! & 0o111, 0);
  },
});

Deno.test("an existing file is not overwritten, and the rest arrives", async () => {
  await using folder = await scratch();
  await Deno.writeTextFile(`${folder.path}/a`, "alpha");
  await Deno.writeTextFile(`${folder.path}/b`, "beta");
  await Deno.mkdir(`${folder.path}/in`);
  await Deno.writeTextFile(`${folder.path}/in/a`, "other");
  using listener = await listen();
  const [, received] = await Promise.allSettled([
    sendFiles(accepting(listener), [`${folder.path}/a`, `${folder.path}/b`]),
    receiveFiles(dialTo(listener), `${folder.path}/in`, { onOffer: () => true }),
  ]);
  const { files, refused } = valueOf(received);
  assertEquals([files, refused.map(({ path, by }) => [path, by])], [1, [["a", "receiver"]]]);
  assertEquals(await Deno.readTextFile(`${folder.path}/in/b`), "beta");
  assertEquals(await Deno.readTextFile(`${folder.path}/in/a`), "other");
});

function startReceiver(
  listener: TcpListener,
  folder: string,
  killAfter: number,
): Deno.ChildProcess {
  const program = new URL("./programs/receive.ts", import.meta.url).pathname;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", program, `${listener.local.port}`, folder, `${killAfter}`],
    stdout: "piped",
  }).spawn();
}

function listen(): Promise<TcpListener> {
  return systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
}

function accepting(listener: TcpListener): NextConnection {
  return ({ signal }) => listener.accept({ signal });
}

function dialTo(listener: TcpListener): NextConnection {
  return ({ signal }) => systemNetwork.connectTcp(listener.local, { signal });
}

/** Hides from the reader that this side reset the connection: it looks like an end instead. */
function cuttable(connection: TcpConnection): TcpConnection {
  const read = async (buffer: Uint8Array): Promise<number | null> => {
    try {
      return await connection.read(buffer);
    } catch {
      return null;
    }
  };
  return new Proxy(connection, {
    get: (target, key) => {
      if (key === "read") return read;
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function pattern(length: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(length / 4);
  for (let index = 0; index < words.length; index++) words[index] = Math.imul(index, 2_654_435_761);
  return new Uint8Array(words.buffer);
}

async function namesIn(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
}

/** A temporary folder for one test. */
async function scratch(): Promise<AsyncDisposable & { path: string }> {
  const dir = new URL("./scratch", import.meta.url).pathname;
  const path = await Deno.makeTempDir({ dir });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
