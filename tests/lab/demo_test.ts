import { assertStringIncludes } from "@std/assert";
import { playInLab } from "../../lab/scenarios/demo/in_lab.ts";
import { playOnLoopback } from "../../lab/scenarios/demo/on_loopback.ts";
import type { Teller } from "../../lab/scenarios/demo/teller.ts";
import { labTest } from "./lab_test_case.ts";

labTest("the demonstration shows SYNs that cross, and ends with a connection", async () => {
  const told = await listen(playInLab);
  assertStringIncludes(told, "port-restricted x symmetric, sequential: predicted");
  assertStringIncludes(told, "Alice sends SYN     to 198.51.100.2:");
  assertStringIncludes(told, 'Alice reads "I am 192.168.2.2:');
});

Deno.test("the demonstration ends with a connection without a lab as well", async () => {
  assertStringIncludes(await listen(playOnLoopback), 'Bob reads "I am ');
});

async function listen(play: (teller: Teller) => Promise<void>): Promise<string> {
  const lines: string[] = [];
  await play({
    chapter: (title) => Promise.resolve(void lines.push(title)),
    say: (...said) => Promise.resolve(void lines.push(...said)),
  });
  return lines.join("\n");
}
