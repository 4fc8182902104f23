import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { SharedJob } from "../../lib/base/tasks.ts";

Deno.test("SharedJob runs once for all callers", async () => {
  let runs = 0;
  const job = new SharedJob(() => Promise.resolve(++runs));
  assertEquals(await Promise.all([job.join(), job.join(), job.join()]), [1, 1, 1]);
  assert(!job.isAborted);
});

Deno.test("SharedJob runs while any caller waits, and is aborted and awaited when the last one leaves", async () => {
  let cleared = false;
  const job = new SharedJob((signal) =>
    new Promise<never>((_, reject) =>
      signal.addEventListener("abort", () => {
        cleared = true;
        reject(signal.reason);
      })
    )
  );
  const [first, last] = [new AbortController(), new AbortController()];
  const waiting = [job.join(first.signal), job.join(last.signal)];
  const reason = new Error("enough");
  first.abort(reason);
  assertStrictEquals(await assertRejects(() => waiting[0]!), reason);
  assert(!job.isAborted && !cleared);
  last.abort(reason);
  assertStrictEquals(await assertRejects(() => waiting[1]!), reason);
  assert(job.isAborted && cleared);
});

Deno.test("SharedJob rejects for all callers with the error of the job", async () => {
  const job = new SharedJob(() => Promise.reject(new Error("no")));
  await Promise.all([job.join(), job.join()].map((wait) => assertRejects(() => wait, Error, "no")));
});
