import { assertEquals } from "@std/assert";
import {
  EMPTY_OFFER_RACE,
  type OfferRaceEvent,
  stepOfferRace,
} from "../../lib/transfer/offer_race_engine.ts";

const ABORTED: OfferRaceEvent = { kind: "aborted" };
const NINE = [1, 2, 3, 4, 5, 6, 7, 8, 9];
const EIGHT = NINE.slice(0, 8);

const CASES: readonly Case[] = [
  {
    name: "the only receiver looks at the offer, and has the transfer when it accepts",
    events: [arrived(1), shown(1), accepted(1)],
    actions: ["show 1", "", "win 1"],
  },
  {
    name: "the first that accepts wins, and the others are told why they lose",
    events: [arrived(1), arrived(2), shown(1), shown(2), accepted(2)],
    actions: ["show 1", "show 2", "", "", "win 2, refuse 1 too-late"],
  },
  {
    name: "one in the middle of the offer is reset: a refusal would be lost",
    events: [arrived(1), arrived(2), shown(2), accepted(2)],
    actions: ["show 1", "show 2", "", "win 2, reset 1"],
  },
  {
    name: "one that is refused can no longer accept, fail or decide the race",
    events: [
      ...[arrived(1), shown(1), arrived(2), shown(2), accepted(1)],
      ...[shown(2), accepted(2), failed(2), told(2)],
    ],
    actions: ["show 1", "", "show 2", "", "win 1, refuse 2 too-late", "", "", "", ""],
  },
  {
    name: "one that arrives after the decision is turned away",
    events: [arrived(1), shown(1), accepted(1), arrived(2)],
    actions: ["show 1", "", "win 1", "turn-away 2"],
  },
  {
    name: "one that declines is told before it counts as gone, and the others go on",
    events: [arrived(1), arrived(2), shown(1), failed(1), told(1), shown(2), accepted(2)],
    actions: ["show 1", "show 2", "", "tell 1", "report 1", "", "win 2"],
  },
  {
    name: "one that leaves is told to the end, although another wins meanwhile",
    events: [arrived(1), arrived(2), shown(2), failed(1), accepted(2), told(1)],
    actions: ["show 1", "show 2", "", "tell 1", "win 2", ""],
  },
  {
    name: "the race fails with the error of the last receiver that leaves",
    events: [arrived(1), arrived(2), failed(2), failed(1), told(2), told(1), arrived(3)],
    actions: ["show 1", "show 2", "tell 2", "tell 1", "report 2", "fail 1", "turn-away 3"],
  },
  {
    name: "the race goes on without further receivers, and fails if it has no other",
    events: [arrived(1), exhausted(7), failed(1), told(1), exhausted(8)],
    actions: ["show 1", "report 7", "tell 1", "fail 1", ""],
  },
  {
    name: "a ninth receiver displaces the oldest",
    events: [...EIGHT.map(arrived), shown(1), arrived(9)],
    actions: [...EIGHT.map((id) => `show ${id}`), "", "refuse 1 too-many, show 9"],
  },
  {
    name:
      "a ninth receiver displaces the oldest, also in the middle of the offer or when it leaves",
    events: [...NINE.map(arrived), failed(2), arrived(10), told(2), accepted(1)],
    actions: [
      ...[...EIGHT.map((id) => `show ${id}`), "reset 1, show 9"],
      ...["tell 2", "show 10", "", ""],
    ],
  },
  {
    name: "after an abort newcomers are reset",
    events: [arrived(1), ABORTED, arrived(2), failed(1), told(1)],
    actions: ["show 1", "", "reset 2", "tell 1", "fail 1"],
  },
];

for (const { name, events, actions } of CASES) {
  Deno.test(name, () => {
    let state = EMPTY_OFFER_RACE;
    const seen = events.map((event) => {
      const step = stepOfferRace(state, event);
      state = step.state;
      return step.actions.map((each) => {
        if ("why" in each) return `${each.kind} ${each.id} ${each.why}`;
        return `${each.kind} ${"id" in each ? each.id : each.error}`;
      }).join(", ");
    });
    assertEquals(seen, actions);
  });
}

interface Case {
  readonly name: string;
  readonly events: readonly OfferRaceEvent[];
  /** What each event leads to. */
  readonly actions: readonly string[];
}

function arrived(id: number): OfferRaceEvent {
  return { kind: "arrived", id };
}

function shown(id: number): OfferRaceEvent {
  return { kind: "shown", id };
}

function accepted(id: number): OfferRaceEvent {
  return { kind: "accepted", id };
}

function failed(id: number): OfferRaceEvent {
  return { kind: "failed", id, error: id };
}

function told(id: number): OfferRaceEvent {
  return { kind: "told", id };
}

function exhausted(error: number): OfferRaceEvent {
  return { kind: "exhausted", error };
}
