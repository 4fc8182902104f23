import { assert, assertEquals } from "@std/assert";
import { WindowBudget } from "../../lib/session/receive_stream.ts";

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

function take(budget: WindowBudget, owner: string): number {
  const window = budget.of(owner).open();
  const bytes = Math.min(WINDOW, window.mayHold());
  window.hold(bytes);
  return bytes;
}
