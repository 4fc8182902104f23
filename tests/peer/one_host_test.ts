import { assertEquals } from "@std/assert";

Deno.test("twenty connects at once on one host connect there, although its STUN server answers only some", async () => {
  const program = new URL("programs/one_host.ts", import.meta.url).pathname;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", program, "20"],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  assertEquals(decoder.decode(stderr), "");
  assertEquals(JSON.parse(decoder.decode(stdout)), Array(20).fill("host"));
});
