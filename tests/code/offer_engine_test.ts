import { assertEquals } from "@std/assert";
import {
  type CodeOfferEvent,
  codeOfferWakeAtMs,
  openCodeOffer,
  stepCodeOffer,
} from "../../lib/code/offer_engine.ts";

/** Steps through the events, and returns the actions of each in short form. */
function play(events: readonly (CodeOfferEvent & { readonly atMs?: number })[]): string[] {
  let state = openCodeOffer(60_000, 0);
  return events.map(({ atMs = 0, ...event }) => {
    const step = stepCodeOffer(state, event as CodeOfferEvent, atMs);
    state = step.state;
    return step.actions.map((action) =>
      action.kind === "report"
        ? `report ${action.report.kind}`
        : action.kind === "refuse"
        ? `refuse ${action.reason}`
        : action.kind
    ).join(", ");
  });
}

const confirm = (digest: string) => ({ kind: "confirm", digest }) as const;
const judged = (digest: string, isRight: boolean) => ({ kind: "judged", digest, isRight }) as const;

const TABLE: readonly {
  readonly name: string;
  readonly steps: readonly [CodeOfferEvent & { readonly atMs?: number }, string][];
}[] = [
  {
    name: "a hello gets a share, and a probe the answer that the number is taken",
    steps: [[{ kind: "hello" }, "share"], [{ kind: "probe" }, "taken"], [
      { kind: "hello" },
      "share",
    ]],
  },
  {
    name: "the right words spend the code; the same side gets the ticket again, others a refusal",
    steps: [
      [confirm("a"), "judge"],
      [judged("a", true), "hand-over, report spent"],
      [confirm("a"), "hand-over"],
      [confirm("b"), "refuse spent"],
      [{ kind: "hello" }, "refuse spent"],
      [{ kind: "probe" }, "taken"],
    ],
  },
  {
    name: "three different wrong guesses end the code; repeated ones do not count",
    steps: [
      [confirm("a"), "judge"],
      [judged("a", false), "refuse wrong, report wrong-guess"],
      [confirm("a"), "refuse wrong"],
      [judged("a", false), ""],
      [confirm("b"), "judge"],
      [judged("b", false), "refuse wrong, report wrong-guess"],
      [confirm("c"), "judge"],
      [judged("c", false), "refuse wrong, report out-of-guesses"],
      [confirm("d"), "refuse out-of-guesses"],
      [confirm("a"), "refuse wrong"],
      [{ kind: "hello" }, "refuse out-of-guesses"],
      [judged("e", true), ""],
      [{ kind: "time", atMs: 70_000 }, ""],
    ],
  },
  {
    name: "two wrong guesses leave the code to the right words",
    steps: [
      [judged("a", false), "refuse wrong, report wrong-guess"],
      [judged("b", false), "refuse wrong, report wrong-guess"],
      [judged("c", true), "hand-over, report spent"],
      [judged("d", true), ""],
    ],
  },
  {
    name: "a code expires once, and whoever comes later is told so, whatever the words",
    steps: [
      [{ kind: "hello", atMs: 59_999 }, "share"],
      [{ ...confirm("a"), atMs: 60_000 }, "report expired, refuse expired"],
      [{ kind: "hello", atMs: 60_001 }, "refuse expired"],
      [{ ...judged("a", true), atMs: 60_001 }, ""],
      [{ ...confirm("a"), atMs: 60_001 }, "refuse expired"],
      [{ kind: "probe", atMs: 60_001 }, "taken"],
    ],
  },
  {
    name: "a code that is spent does not expire, and its ticket may be sent again",
    steps: [
      [judged("a", true), "hand-over, report spent"],
      [{ kind: "time", atMs: 60_000 }, ""],
      [{ ...confirm("a"), atMs: 60_001 }, "hand-over"],
    ],
  },
];

for (const { name, steps } of TABLE) {
  Deno.test(`stepCodeOffer(): ${name}`, () => {
    assertEquals(play(steps.map(([event]) => event)), steps.map(([, actions]) => actions));
  });
}

Deno.test("stepCodeOffer() answers 64 messages at once, and 32 a second", () => {
  const at = (atMs: number, count: number) =>
    Array.from({ length: count }, () => ({ kind: "hello", atMs }) as const);
  const answers = play([...at(0, 100), ...at(1000, 100), ...at(900, 1)]);
  const count = (from: number, to: number) => answers.slice(from, to).filter((each) => each).length;
  assertEquals([count(0, 100), count(100, 200), count(200, 201)], [64, 32, 0]);
});

Deno.test("codeOfferWakeAtMs() is when an open code expires", () => {
  const open = openCodeOffer(60_000, 0);
  assertEquals(codeOfferWakeAtMs(open), 60_000);
  assertEquals(codeOfferWakeAtMs(stepCodeOffer(open, judged("a", true), 0).state), Infinity);
});
