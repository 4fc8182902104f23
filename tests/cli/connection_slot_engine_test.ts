import { assertEquals } from "@std/assert";
import {
  EMPTY_SLOT,
  type SlotEvent,
  type SlotState,
  stepSlot,
} from "../../lib/cli/connection_slot_engine.ts";

const WANTED: SlotEvent = { kind: "wanted" };
const ASSIGNED: SlotEvent = { kind: "assigned" };
const CONNECTED: SlotEvent = { kind: "connected" };
const CLOSED: SlotEvent = { kind: "closed" };
const SILENT = { holder: 1, answers: false };

const CASES: readonly Case[] = [
  {
    name: "a newcomer makes us probe the holder, and is refused if it answers",
    events: [ASSIGNED, arrived(1), probed(1, { holder: 1, answers: true })],
    actions: ["", "probe 1", "refuse 1"],
    phase: "held",
  },
  {
    name: "a newcomer takes over from a holder that does not answer",
    events: [ASSIGNED, arrived(1), probed(1, SILENT), WANTED, taken(1), ASSIGNED],
    actions: ["", "probe 1", "keep 1, abandon", "", "", ""],
    phase: "held",
  },
  {
    name: "while one takes over, others may as well, without another probe",
    events: [ASSIGNED, arrived(1), probed(1, SILENT), arrived(2), ASSIGNED],
    actions: ["", "probe 1", "keep 1, abandon", "keep 2", "refuse 1, refuse 2"],
    phase: "held",
  },
  {
    name: "the holder is abandoned once, however many newcomers it did not answer for",
    events: [ASSIGNED, arrived(1), arrived(2), probed(1, SILENT), probed(2, SILENT)],
    actions: ["", "probe 1", "probe 2", "keep 1, abandon", "keep 2"],
    phase: "taken-over",
  },
  {
    name: "a probe of an earlier holder says nothing about the present one",
    events: [ASSIGNED, arrived(1), WANTED, ASSIGNED, probed(1, SILENT)],
    actions: ["", "probe 1", "", "", "refuse 1"],
    phase: "held",
  },
  {
    name: "a newcomer is kept if the slot has become vacant, whatever the holder answered",
    events: [ASSIGNED, arrived(1), WANTED, probed(1, { holder: 1, answers: true })],
    actions: ["", "probe 1", "", "keep 1"],
    phase: "vacant",
  },
  {
    name: "a vacant slot keeps four newcomers, and room for another once one is taken",
    events: [arrived(1), arrived(2), arrived(3), arrived(4), arrived(5), taken(2), arrived(6)],
    actions: ["keep 1", "keep 2", "keep 3", "keep 4", "refuse 5", "", "keep 6"],
    phase: "vacant",
  },
  {
    name: "a newcomer is refused if four wait by the time that its probe ends",
    events: [
      ...[ASSIGNED, arrived(5), WANTED, arrived(1), arrived(2), arrived(3), arrived(4)],
      probed(5, SILENT),
    ],
    actions: ["", "probe 5", "", "keep 1", "keep 2", "keep 3", "keep 4", "refuse 5"],
    phase: "vacant",
  },
  {
    name: "a further connection waits for a caller while the slot is vacant",
    events: [ASSIGNED, WANTED, CONNECTED, { kind: "received" }, ASSIGNED],
    actions: ["", "", "", "", ""],
    phase: "held",
  },
  {
    name:
      "a further connection that no caller has received is turned away when another gets the slot",
    events: [ASSIGNED, WANTED, CONNECTED, ASSIGNED],
    actions: ["", "", "", "turn-away"],
    phase: "held",
  },
  {
    name: "a further connection is turned away if the slot is held or closed",
    events: [ASSIGNED, CONNECTED, WANTED, CLOSED, CONNECTED],
    actions: ["", "turn-away", "", "", "turn-away"],
    phase: "closed",
  },
  {
    name: "closing refuses all who wait or are being decided about, and all who come later",
    events: [
      ...[ASSIGNED, arrived(1), WANTED, arrived(2), CONNECTED, CLOSED],
      ...[probed(1, SILENT), arrived(3), WANTED],
    ],
    actions: [
      ...["", "probe 1", "", "keep 2", "", "refuse 2, refuse 1, turn-away"],
      ...["", "refuse 3", ""],
    ],
    phase: "closed",
  },
];

for (const { name, events, actions, phase } of CASES) {
  Deno.test(name, () => {
    let state = EMPTY_SLOT;
    const seen = events.map((event) => {
      const step = stepSlot(state, event);
      state = step.state;
      return step.actions.map((each) => "id" in each ? `${each.kind} ${each.id}` : each.kind)
        .join(", ");
    });
    assertEquals(seen, actions);
    assertEquals(state.phase, phase);
  });
}

interface Case {
  readonly name: string;
  readonly events: readonly SlotEvent[];
  /** What each event leads to. */
  readonly actions: readonly string[];
  /** The phase in the end. */
  readonly phase: SlotState["phase"];
}

function arrived(id: number): SlotEvent {
  return { kind: "arrived", id };
}

function taken(id: number): SlotEvent {
  return { kind: "taken", id };
}

function probed(id: number, { holder, answers }: { holder: number; answers: boolean }): SlotEvent {
  return { kind: "probed", id, holder, answers };
}
