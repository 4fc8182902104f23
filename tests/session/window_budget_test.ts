import { assert, assertEquals } from "@std/assert";
import { WindowBudget } from "../../lib/session/receive_stream.ts";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const MIB = 1024 * 1024;
const LIMITS = { totalBytes: 64 * MIB, perOwnerBytes: 32 * MIB };
const WINDOW = 4 * MIB;

Deno.test("the first windows get all they can use", () => {
  const budget = new WindowBudget(LIMITS);
  const sizes = [1, 2, 3, 4].map((owner) => take(budget, `${owner}`));
  assertEquals(sizes, [WINDOW, WINDOW, WINDOW, WINDOW]);
});

Deno.test("a thousand windows of one owner hold no more than its part, and leave some for others", () => {
  const budget = new WindowBudget(LIMITS);
  for (let i = 0; i < 1000; i++) take(budget, "one");
  assert(budget.heldBytes <= LIMITS.perOwnerBytes, `${budget.heldBytes}`);
  assertEquals(take(budget, "other"), WINDOW);
});

Deno.test("windows of many owners hold no more than there is", () => {
  const budget = new WindowBudget(LIMITS);
  for (let owner = 0; owner < 1000; owner++) take(budget, `${owner}`);
  assert(budget.heldBytes <= LIMITS.totalBytes, `${budget.heldBytes}`);
});

Deno.test("what a window gives back is there for others", () => {
  const budget = new WindowBudget(LIMITS);
  const window = budget.of("one").open();
  window.hold(WINDOW);
  window.hold(-1);
  assertEquals(budget.heldBytes, 0);
  assertEquals(take(budget, "one"), WINDOW);
});

Deno.test("what waits in the least of each window is limited for each owner", () => {
  const budget = new WindowBudget(LIMITS);
  const windows = Array.from({ length: 2048 }, () => budget.of("one").open());
  assert(windows.every((window) => window.keep(16_384)));
  const further = budget.of("one").open();
  assertEquals([further.keep(1), budget.of("other").open().keep(16_384)], [false, true]);
  windows[0]!.keep(0);
  assertEquals(further.keep(1), true);
  for (const each of [...windows, further]) each.keep(0);
  assertEquals(budget.unreadBytes, 16_384);
});

Deno.test("what a window holds that is dropped is given back", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage: () => void = runInNewContext("gc");
  const budget = new WindowBudget(LIMITS);
  const kept = budget.of("one").open();
  kept.hold(1);
  (() => { // nothing refers to these windows once it has returned
    for (let i = 0; i < 100; i++) {
      const window = budget.of("one").open();
      window.hold(1000);
      window.keep(1000);
    }
  })();
  assertEquals([budget.heldBytes, budget.unreadBytes], [100_001, 100_000]);
  for (let i = 0; i < 100 && budget.unreadBytes > 0; i++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assertEquals([budget.heldBytes, budget.unreadBytes], [1, 0]);
  kept.hold(0);
});

Deno.test("if too much waits in all, an owner with little is not affected", () => {
  const budget = new WindowBudget(LIMITS);
  for (const owner of ["one", "two", "three"]) budget.of(owner).open().keep(30 * MIB);
  assertEquals(budget.of("three").open().keep(1), false);
  assertEquals(budget.of("other").open().keep(MIB / 4), true);
  assertEquals(budget.of("other").open().keep(1), false);
});

function take(budget: WindowBudget, owner: string): number {
  const window = budget.of(owner).open();
  const bytes = Math.min(WINDOW, window.mayHold());
  window.hold(bytes);
  return bytes;
}
