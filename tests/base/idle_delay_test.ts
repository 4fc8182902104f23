import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { idleDelay } from "../../lib/base/timers.ts";

Deno.test("idleDelay() ends after its time, and on abort", async () => {
  const others = delay(50); // keeps the program running until then
  await idleDelay(1, new AbortController().signal);
  await others;
  await idleDelay(1e9, AbortSignal.abort());
  const ended = new AbortController();
  const waiting = idleDelay(1e9, ended.signal);
  ended.abort();
  await waiting;
});

Deno.test("idleDelay() does not keep a program running", async () => {
  const url = new URL("../../lib/base/timers.ts", import.meta.url);
  const program = `
    const { idleDelay } = await import("${url}");
    idleDelay(1e9, new AbortController().signal);
  `;
  const { code } = await new Deno.Command(Deno.execPath(), { args: ["eval", program] }).output();
  assertEquals(code, 0);
});
