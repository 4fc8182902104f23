import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import { ReadAhead, WaitingConnections } from "../../lib/cli/waiting_connections.ts";
import type { TcpConnection } from "../../lib/net/network.ts";

Deno.test("the newest connection that waits is next, and those that their clients have closed are last", async () => {
  const waiting = new WaitingConnections(1);
  const order: string[] = [];
  const first = Promise.withResolvers<void>();
  const all = ["first", "older", "closed", "newer"].map((name) => {
    const connection = connectionOf([], { ends: name === "closed" });
    return waiting.through(connection, async () => {
      order.push(name);
      if (name === "first") await first.promise;
    });
  });
  await delay(1);
  first.resolve();
  await Promise.all(all);
  assertEquals(order, ["first", "newer", "older", "closed"]);
});

Deno.test("in a shortage, connections that their clients have closed are given up", async () => {
  const waiting = new WaitingConnections(1);
  const first = Promise.withResolvers<void>();
  const running = waiting.through(connectionOf([], { ends: false }), () => first.promise);
  const closed = waiting.through(connectionOf(["GET /"], { ends: true }), () => Promise.resolve());
  const open = waiting.through(connectionOf(["GET /"], { ends: false }), () => Promise.resolve(1));
  const rejected = assertRejects(() => closed, NetworkError, "too many open files");
  await delay(1);
  waiting.note("begins");
  await rejected;
  first.resolve();
  await running;
  assertEquals(await open, 1);
});

Deno.test("in a shortage, the job of a connection that its client has closed is aborted", async () => {
  const waiting = new WaitingConnections(1);
  const running = waiting.through(connectionOf([], { ends: true }), async (signal) => {
    await delay(60_000, { signal });
  });
  const rejected = assertRejects(() => running, NetworkError, "too many open files");
  await delay(1);
  waiting.note("begins");
  await rejected;
  assertEquals(
    await waiting.through(connectionOf([], { ends: false }), () => Promise.resolve(1)),
    1,
  );
});

Deno.test("a job that finds no free file descriptor begins a shortage", async () => {
  const waiting = new WaitingConnections(1);
  const cause = Object.assign(new Error("too many"), { code: "EMFILE" });
  const failing = waiting.through(connectionOf([], { ends: false }), async () => {
    await delay(1);
    throw new NetworkError("Cannot dial", "other", { cause });
  });
  const closed = waiting.through(connectionOf([], { ends: true }), () => Promise.resolve());
  await Promise.all([
    assertRejects(() => failing, NetworkError, "Cannot dial"),
    assertRejects(() => closed, NetworkError, "too many open files"),
  ]);
});

Deno.test("in a shortage, the newest eight connections are kept", async () => {
  const waiting = new WaitingConnections(1);
  const first = Promise.withResolvers<void>();
  const running = waiting.through(connectionOf([], { ends: false }), () => first.promise);
  const others = Array.from(
    { length: 20 },
    (_, i) => waiting.through(connectionOf([], { ends: false }), () => Promise.resolve(i)),
  );
  const outcomes = Promise.allSettled(others);
  await delay(1);
  waiting.note("begins");
  first.resolve();
  await running;
  const done = (await outcomes).flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
  assertEquals(done, [12, 13, 14, 15, 16, 17, 18, 19]);
});

Deno.test("ReadAhead returns everything that was read ahead, and the end", async () => {
  const connection = connectionOf(["one", "two", "three"], { ends: true });
  await delay(1);
  assertEquals(connection.hasEnded, true);
  assertEquals(await readAll(connection), "onetwothree");
});

Deno.test("ReadAhead reads on after what it read ahead, whoever asks first", async () => {
  const many = Array.from({ length: 40 }, (_, i) => `<${i}>`);
  assertEquals(await readAll(connectionOf(many, { ends: true })), many.join(""));
  const later = connectionOf(many, { ends: true });
  await delay(1);
  assertEquals(later.hasEnded, false);
  assertEquals(await readAll(later), many.join(""));
});

/** A connection over which these chunks arrive. */
function connectionOf(chunks: readonly string[], { ends }: { ends: boolean }): ReadAhead {
  const left = chunks.map((chunk) => new TextEncoder().encode(chunk));
  const address = { ip: "127.0.0.1", port: 1 };
  const connection: TcpConnection = {
    local: address,
    remote: address,
    read(buffer) {
      const chunk = left.shift();
      if (chunk === undefined) return ends ? Promise.resolve(null) : new Promise(() => {});
      const length = Math.min(buffer.length, chunk.length);
      buffer.set(chunk.subarray(0, length));
      if (length < chunk.length) left.unshift(chunk.subarray(length));
      return Promise.resolve(length);
    },
    write: (data) => Promise.resolve(data.length),
    closeWrite: () => Promise.resolve(),
    close() {},
    reset() {},
    [Symbol.dispose]() {},
  };
  return new ReadAhead(connection);
}

async function readAll(connection: TcpConnection): Promise<string> {
  const buffer = new Uint8Array(2);
  let text = "";
  for (let length; (length = await connection.read(buffer)) !== null;) {
    text += new TextDecoder().decode(buffer.subarray(0, length));
  }
  return text;
}
