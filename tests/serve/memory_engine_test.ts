import { assertEquals } from "@std/assert";
import {
  initialMemoryState,
  type MemoryAction,
  stepMemory,
} from "../../lib/serve/memory_engine.ts";

/** What is collected while these numbers of connections are counted, at these times. */
function collections(...counted: readonly (readonly [atMs: number, connections: number])[]) {
  let state = initialMemoryState(0);
  return counted.map(([atMs, connections]) => {
    const next = stepMemory(state, { kind: "counted", connections }, atMs);
    state = next.state;
    return next.actions.map(({ what }) => what).join();
  });
}

const TABLE: Readonly<
  Record<string, readonly (readonly [number, number, MemoryAction["what"] | ""])[]>
> = {
  "a server without clients collects nothing": [[500, 0, ""], [60_000, 0, ""]],
  "a few connections now and then are no reason": [
    ...[[500, 20, ""], [11_000, 40, ""], [22_000, 60, ""], [60_000, 64, ""]] as const,
  ],
  "a flood is collected every few thousand connections": [
    ...[[200, 1000, ""], [400, 2048, "garbage"], [600, 3000, ""]] as const,
    ...[[800, 4100, "garbage"], [1000, 6200, "garbage"]] as const,
  ],
  "everything is collected once, when a busy time is over": [
    ...[[500, 8192, "garbage"], [5000, 8192, ""], [10_499, 8192, ""]] as const,
    ...[[10_500, 8192, "everything"], [11_000, 8192, ""], [60_000, 8192, ""]] as const,
  ],
  "a busy time needs no flood": [
    ...[[500, 65, ""], [10_000, 65, ""], [10_500, 65, "everything"], [30_000, 65, ""]] as const,
  ],
  "while connections go on coming, the busy time is not over": [
    ...[[500, 100, ""], [10_000, 200, ""], [19_500, 300, ""], [29_000, 310, ""]] as const,
    ...[[29_500, 310, "everything"]] as const,
  ],
};

for (const [name, rows] of Object.entries(TABLE)) {
  Deno.test(`stepMemory(): ${name}`, () => {
    const found = collections(...rows.map(([atMs, connections]) => [atMs, connections] as const));
    assertEquals(found, rows.map(([, , what]) => what));
  });
}
