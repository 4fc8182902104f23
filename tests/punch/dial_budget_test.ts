import { assert, assertEquals } from "@std/assert";
import { DialBudget, DialBudgets, type DialTarget } from "../../lib/punch/limits.ts";

function at(port: number, changes: Partial<DialTarget> = {}): DialTarget {
  const address = { ip: "192.0.2.1", port };
  return { address, isExternal: true, isExpected: false, isBirthday: false, ...changes };
}

/** How many of many packets the budget grants. */
function granted(budget: DialBudget, target: DialTarget, nowMs = 0, isReset = false): number {
  let count = 0;
  while (count < 2000 && budget.take(target, nowMs)) {
    count++;
    budget.note(target, isReset);
  }
  return count;
}

Deno.test("eight packets go to a port of the peer's external address", () => {
  const budget = new DialBudget();
  assertEquals(granted(budget, at(1)), 8);
  assertEquals(granted(budget, at(2), 0, true), 8);
  assertEquals(granted(budget, at(3, { isExpected: true })), 8);
});

Deno.test("200 packets go to the ports where the peer is expected, together, while they reset", () => {
  const budget = new DialBudget();
  assertEquals(granted(budget, at(1, { isExpected: true }), 0, true), 200);
  assertEquals(granted(budget, at(2, { isExpected: true }), 0, true), 8);
});

Deno.test("a port that stops resetting gets no more than the others", () => {
  const budget = new DialBudget();
  const target = at(1, { isExpected: true });
  for (let i = 0; i < 20; i++) {
    assert(budget.take(target, 0));
    budget.note(target, true);
  }
  budget.note(target, false);
  assert(!budget.take(target, 0));
});

Deno.test("1,300 packets go to the peer's external address, and 16 to each other address", () => {
  const budget = new DialBudget();
  let count = 0;
  for (let port = 1; port < 2000; port++) count += granted(budget, at(port));
  assertEquals(count, 1300);
  const other = { ip: "192.0.2.2", port: 1 };
  assertEquals(granted(budget, at(1, { address: other, isExternal: false })), 16);
});

Deno.test("a peer that moves its external address about gets one with many packets", () => {
  const budget = new DialBudget();
  granted(budget, at(1));
  const moved = { address: { ip: "192.0.2.2", port: 1 } };
  assertEquals(granted(budget, at(1, { ...moved, isBirthday: true, isExpected: true })), 16);
});

Deno.test("a second search for the same peer gets what the first has left, for a minute", () => {
  const budgets = new DialBudgets();
  assertEquals(granted(budgets.begin("a", 0), at(1), 1000), 8);
  assertEquals(granted(budgets.begin("a", 60_000), at(1), 60_000), 0);
  assertEquals(granted(budgets.begin("a", 60_000), at(2), 60_000), 8);
  assertEquals(granted(budgets.begin("b", 60_000), at(1), 60_000), 8);
  assertEquals(granted(budgets.begin("a", 61_001), at(1), 61_001), 8);
});

Deno.test("what goes to an address at which the peer proves itself does not count", () => {
  const budget = new DialBudget();
  const other = (port: number) =>
    at(port, { address: { ip: "192.0.2.2", port }, isExternal: false });
  for (let port = 1; port < 1000; port++) {
    assert(budget.take(other(port), 0));
    budget.prove({ ip: "192.0.2.2", port });
    budget.prove({ ip: "192.0.2.2", port: 5000 }); // to which nothing went
  }
  assertEquals(granted(budget, other(1)), 16);
});

Deno.test("the budgets of many peers are forgotten, oldest first", () => {
  const budgets = new DialBudgets();
  const first = budgets.begin("first", 0);
  for (let i = 0; i < 1024; i++) budgets.begin(`${i}`, 0);
  assert(budgets.begin("first", 0) !== first);
});
