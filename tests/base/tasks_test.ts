import { assertEquals, assertRejects } from "@std/assert";
import { once, optionalResolvers, TaskGroup } from "../../lib/base/tasks.ts";

Deno.test("TaskGroup aborts its jobs when it is stopped, and waits for them", async () => {
  const events: string[] = [];
  const group = new TaskGroup((error) => events.push(`${error}`));
  group.run(async (signal) => {
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    await Promise.resolve();
    events.push("cleaned up");
    signal.throwIfAborted();
  });
  await group.stop("over");
  assertEquals(events, ["cleaned up"]);
});

Deno.test("TaskGroup reports the error of a job, and keeps working", async () => {
  const errors: unknown[] = [];
  const group = new TaskGroup((error) => errors.push(error));
  group.run(() => Promise.reject("one"));
  group.run(() => {
    throw "two";
  });
  await new Promise((resolve) => setTimeout(resolve));
  await group.stop();
  assertEquals(errors.sort(), ["one", "two"]);
});

Deno.test("TaskGroup waits for jobs started by its jobs, and starts none once it is stopped", async () => {
  const events: string[] = [];
  const group = new TaskGroup(() => {});
  group.run(async () => {
    await Promise.resolve();
    group.run(async () => {
      await Promise.resolve();
      events.push("inner");
    });
  });
  await new Promise((resolve) => setTimeout(resolve));
  await group.stop();
  group.run(() => Promise.resolve(events.push("late")));
  assertEquals(events, ["inner"]);
});

Deno.test("optionalResolvers() rejects for callers that wait, and causes no unhandled rejection", async () => {
  const { promise, reject } = optionalResolvers<void>();
  reject(new Error("expected"));
  await new Promise((resolve) => setTimeout(resolve));
  await assertRejects(() => promise, Error, "expected");
});

Deno.test("once() calls the function when its result is first needed, and keeps even undefined", () => {
  let calls = 0;
  const value = once(() => {
    calls++;
    return undefined;
  });
  assertEquals(calls, 0);
  assertEquals([value(), value(), calls], [undefined, undefined, 1]);
});
