import { assertStringIncludes } from "@std/assert";
import { playInLab } from "../../lab/scenarios/demo/in_lab.ts";
import { playOnLoopback } from "../../lab/scenarios/demo/on_loopback.ts";
import type { Narrator } from "../../lab/scenarios/demo/story.ts";
import { labTest } from "./lab_test_case.ts";

labTest("the demonstration shows crossing SYNs, and ends with a connection", async () => {
  const story = await record(playInLab);
  assertStringIncludes(story, "port-restricted x symmetric, sequential: predicted");
  assertStringIncludes(story, "Alice sends SYN     to 198.51.100.2:");
  assertStringIncludes(story, 'Alice reads "I am 192.168.2.2:');
});

Deno.test("the demonstration ends with a connection even without the lab", async () => {
  assertStringIncludes(await record(playOnLoopback), 'Bob reads "I am ');
});

async function record(play: (narrator: Narrator) => Promise<void>): Promise<string> {
  const lines: string[] = [];
  await play({
    heading: (title) => Promise.resolve(void lines.push(title)),
    print: (...printed) => Promise.resolve(void lines.push(...printed)),
  });
  return lines.join("\n");
}
