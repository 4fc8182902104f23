import { assertEquals, assertLess } from "@std/assert";

const MODULE = new URL("../../lib/net/system/garbage.ts", import.meta.url).href;

/** In a process of its own, because V8's flags hold for all of a process. */
const PROGRAM = `
  import { preferSmallMemory } from ${JSON.stringify(MODULE)};
  const collect = preferSmallMemory();
  let kept = [];
  for (let i = 0; i < 400_000; i++) kept.push({ i, text: [i] });
  const full = Deno.memoryUsage().heapTotal;
  kept = [];
  collect("garbage");
  const { heapUsed } = Deno.memoryUsage();
  collect("everything");
  console.log(JSON.stringify({ full, heapUsed, heapTotal: Deno.memoryUsage().heapTotal }));`;

Deno.test("preferSmallMemory() collects garbage and returns pages, and needs no permission", async () => {
  const { stdout, code } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", `data:application/typescript,${encodeURIComponent(PROGRAM)}`],
    stderr: "inherit",
  }).output();
  assertEquals(code, 0);
  const { full, heapUsed, heapTotal } = JSON.parse(new TextDecoder().decode(stdout));
  assertLess(heapUsed, full / 3);
  assertLess(heapTotal, full / 3);
});
