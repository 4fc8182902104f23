import { assertEquals } from "@std/assert";
import { WaitQueue } from "../../lib/base/wait_queue.ts";

Deno.test("a reader of items that leaves while it waits takes no item", async () => {
  const queue = new WaitQueue<number>(4);
  const [leaver, reader] = [queue.items(), queue.items()];
  const [left, read] = [leaver.next(), reader.next()];
  await leaver.return!();
  queue.push(1);
  queue.push(2);
  assertEquals(await left, { value: undefined, done: true });
  assertEquals(await leaver.next(), { value: undefined, done: true });
  assertEquals([await read, await reader.next()].map(({ value }) => value), [1, 2]);
});

Deno.test("the hold of a reader lasts from its first item until it leaves or the queue is closed", async () => {
  for (const how of ["leaves", "closed"] as const) {
    const queue = new WaitQueue<number>(4);
    let held = 0;
    const items = queue.items(() => {
      held++;
      return { [Symbol.dispose]: () => void held-- };
    });
    assertEquals(held, 0);
    queue.push(1);
    assertEquals(await items.next(), { value: 1, done: false });
    const waiting = items.next();
    assertEquals(held, 1);
    if (how === "leaves") await items.return!();
    else queue.close(new Error("closed"));
    assertEquals(await waiting, { value: undefined, done: true });
    assertEquals(held, 0, how);
  }
});

Deno.test("take() removes the first item that is wanted, and leaves the others", async () => {
  const queue = new WaitQueue<number>(4);
  for (const item of [1, 2, 3]) queue.push(item);
  assertEquals([queue.take((item) => item > 1), queue.take((item) => item > 3)], [2, undefined]);
  assertEquals([await queue.next(), await queue.next()], [1, 3]);
});
