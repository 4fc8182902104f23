import { assertEquals } from "@std/assert";
import {
  type CodeRedeemEvent,
  codeRedeemWakeAtMs,
  startCodeRedeem,
  stepCodeRedeem,
} from "../../lib/code/redeem_engine.ts";

/** Steps through the events at their times, and returns the actions of each in short form. */
function play(events: readonly (readonly [number, CodeRedeemEvent["kind"], string?])[]): string[] {
  let state = startCodeRedeem(10_000, 0);
  return events.map(([atMs, kind, reason]) => {
    const step = stepCodeRedeem(state, { kind, reason } as CodeRedeemEvent, atMs);
    state = step.state;
    return step.actions.map((each) => each.kind === "fail" ? `fail ${each.reason}` : each.kind)
      .join(", ");
  });
}

const TABLE: readonly {
  readonly name: string;
  readonly steps: readonly [readonly [number, CodeRedeemEvent["kind"], string?], string][];
}[] = [
  {
    name: "hello, confirm, ticket",
    steps: [
      [[0, "time"], "send-hello"],
      [[100, "share"], "take-share, send-confirm"],
      [[200, "ticket"], "succeed"],
      [[300, "time"], ""],
    ],
  },
  {
    name: "only the first share is confirmed",
    steps: [
      [[0, "time"], "send-hello"],
      [[100, "share"], "take-share, send-confirm"],
      [[101, "share"], ""],
      [[799, "time"], ""],
      [[800, "time"], "send-confirm"],
    ],
  },
  {
    name: "no answer",
    steps: [
      [[0, "time"], "send-hello"],
      [[700, "time"], "send-hello"],
      [[2100, "time"], "send-hello"],
      [[4900, "time"], "send-hello"],
      [[7900, "time"], "send-hello"],
      [[10_000, "time"], "fail absent"],
    ],
  },
  {
    name: "a share, and then silence",
    steps: [
      [[0, "time"], "send-hello"],
      [[100, "share"], "take-share, send-confirm"],
      [[10_000, "time"], "fail interrupted"],
    ],
  },
  {
    name: "a refusal counts after a second without a ticket; the first one is the reason",
    steps: [
      [[0, "time"], "send-hello"],
      [[100, "share"], "take-share, send-confirm"],
      [[200, "refusal", "wrong"], ""],
      [[300, "refusal", "spent"], ""],
      [[1200, "time"], "fail wrong"],
    ],
  },
  {
    name: "the ticket overrides a refusal",
    steps: [
      [[0, "time"], "send-hello"],
      [[100, "share"], "take-share, send-confirm"],
      [[200, "refusal", "spent"], ""],
      [[1199, "ticket"], "succeed"],
    ],
  },
  {
    name: "before a share, words cannot be wrong and tickets do not fit",
    steps: [
      [[0, "time"], "send-hello"],
      [[100, "refusal", "wrong"], ""],
      [[100, "ticket"], ""],
      [[200, "refusal", "spent"], ""],
      [[1200, "time"], "fail spent"],
    ],
  },
];

for (const { name, steps } of TABLE) {
  Deno.test(`stepCodeRedeem(): ${name}`, () => {
    assertEquals(play(steps.map(([event]) => event)), steps.map(([, actions]) => actions));
  });
}

Deno.test("codeRedeemWakeAtMs() is the next time at which something is due", () => {
  let state = startCodeRedeem(10_000, 0);
  assertEquals(codeRedeemWakeAtMs(state), 0);
  state = stepCodeRedeem(state, { kind: "time" }, 0).state;
  assertEquals(codeRedeemWakeAtMs(state), 700);
  state = stepCodeRedeem(state, { kind: "share" }, 600).state;
  assertEquals(codeRedeemWakeAtMs(state), 1300);
  state = stepCodeRedeem(state, { kind: "ticket" }, 600).state;
  assertEquals(codeRedeemWakeAtMs(state), Infinity);
});
