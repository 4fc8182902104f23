import { assert, assertEquals } from "@std/assert";

Deno.test("labTest() skips a test that this machine cannot run, with the reason", async () => {
  const { code, stdout } = await runUnsupported({ CI: "" });
  assertEquals(code, 0);
  assert(stdout.includes("this never runs (skipped: this machine cannot run it: it needs"), stdout);
  assert(stdout.includes("1 ignored"), stdout);
});

Deno.test("labTest() fails a test that this machine cannot run if CI is true", async () => {
  const { code, stdout } = await runUnsupported({ CI: "true" });
  assertEquals(code, 1);
  assert(stdout.includes("Cannot run the test: this machine cannot run it: it needs"), stdout);
});

async function runUnsupported(
  env: Record<string, string>,
): Promise<{ code: number; stdout: string }> {
  const program = new URL("programs/unsupported.ts", import.meta.url).href;
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "--quiet", "--no-lock", "-A", program],
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", ...env },
    stderr: "null",
  }).output();
  return { code, stdout: new TextDecoder().decode(stdout) };
}
