/**
 * Decides about newcomers to a command that serves one connection at a time. Pure; `connection_slot.ts` probes, accepts and
 * refuses.
 *
 * | the slot   | what happens                            | what follows                                          |
 * | ---------- | --------------------------------------- | ----------------------------------------------------- |
 * | vacant     | a newcomer arrives                      | keep it for whoever accepts                           |
 * | held       | a newcomer arrives                      | probe the holder                                      |
 * |            | the holder answers                      | refuse the newcomer                                   |
 * |            | the holder does not answer              | keep the newcomer, abandon the holder: taken over     |
 * | taken over | a newcomer arrives                      | keep it, too: the first that gets through has the slot |
 * | vacant     | a connection gets the slot              | held; refuse all who wait                             |
 * | any        | four wait, and another arrives          | refuse it                                             |
 * | closed     | a newcomer arrives                      | refuse it                                             |
 *
 * @module
 */

/** Everything that is known about the slot. */
export interface SlotState {
  readonly phase: "vacant" | "held" | "taken-over" | "closed";
  /** How many connections have had the slot: the number of the holder, which starts at 1. */
  readonly holder: number;
  /** Newcomers whose fate depends on whether the holder answers. */
  readonly probing: readonly number[];
  /** Newcomers that are kept and not accepted yet; the oldest first. */
  readonly waiting: readonly number[];
  /** Whether a further connection has got through, and no caller has it yet. */
  readonly hasFurther: boolean;
}

/** What happens to the slot; newcomers have numbers. */
export type SlotEvent =
  /** A caller wants the next connection. */
  | { readonly kind: "wanted" }
  | { readonly kind: "arrived"; readonly id: number }
  /** Whether the holder answered when this newcomer made us ask. */
  | {
    readonly kind: "probed";
    readonly id: number;
    readonly holder: number;
    readonly answers: boolean;
  }
  /** Accepting a kept newcomer has begun. */
  | { readonly kind: "taken"; readonly id: number }
  /** A further connection has got through. */
  | { readonly kind: "connected" }
  /** A caller has received that connection. */
  | { readonly kind: "received" }
  /** A connection gets the slot. */
  | { readonly kind: "assigned" }
  | { readonly kind: "closed" };

/** What the driver has to do. */
export type SlotAction =
  | { readonly kind: "probe"; readonly id: number; readonly holder: number }
  /** Keep the newcomer, to be accepted. */
  | { readonly kind: "keep"; readonly id: number }
  | { readonly kind: "refuse"; readonly id: number }
  /** End the holder's connection: it does not answer. */
  | { readonly kind: "abandon" }
  /** Tell the further connection that it is too late. */
  | { readonly kind: "turn-away" };

/** What follows from an event. */
export interface SlotStep {
  readonly state: SlotState;
  readonly actions: readonly SlotAction[];
}

/** Before the first connection. */
export const EMPTY_SLOT: SlotState = {
  phase: "vacant",
  holder: 0,
  probing: [],
  waiting: [],
  hasFurther: false,
};

/** The next state, and what to do now. */
export function stepSlot(state: SlotState, event: SlotEvent): SlotStep {
  switch (event.kind) {
    case "wanted":
      return {
        state: state.phase === "closed" ? state : { ...state, phase: "vacant" },
        actions: [],
      };
    case "arrived":
      return arrived(state, event.id);
    case "probed":
      return probed(state, event);
    case "taken":
      return { state: { ...state, waiting: without(state.waiting, event.id) }, actions: [] };
    case "connected":
      return isWanted(state)
        ? { state: { ...state, hasFurther: true }, actions: [] }
        : { state, actions: [{ kind: "turn-away" }] };
    case "received":
      return { state: { ...state, hasFurther: false }, actions: [] };
    case "assigned":
      return emptied({ ...state, phase: "held", holder: state.holder + 1 }, state.waiting);
    case "closed":
      return emptied({ ...state, phase: "closed", probing: [] }, [
        ...state.waiting,
        ...state.probing,
      ]);
  }
}

function arrived(state: SlotState, id: number): SlotStep {
  if (state.phase !== "held") return decided(state, id, isWanted(state));
  return {
    state: { ...state, probing: [...state.probing, id] },
    actions: [{ kind: "probe", id, holder: state.holder }],
  };
}

/** Meanwhile the slot may have become vacant, or another may have it. */
function probed(
  state: SlotState,
  { id, holder, answers }: SlotEvent & { readonly kind: "probed" },
): SlotStep {
  if (!state.probing.includes(id)) return { state, actions: [] };
  const asked = { ...state, probing: without(state.probing, id) };
  if (state.phase !== "held") return decided(asked, id, isWanted(state));
  const { state: next, actions } = decided(asked, id, !answers && holder === state.holder);
  if (next.waiting.length === asked.waiting.length) return { state: next, actions };
  return { state: { ...next, phase: "taken-over" }, actions: [...actions, { kind: "abandon" }] };
}

/** Keeps the newcomer if it may and there is room, or else refuses it. */
function decided(state: SlotState, id: number, mayStay: boolean): SlotStep {
  if (!mayStay || state.waiting.length >= MAX_WAITING) {
    return { state, actions: [{ kind: "refuse", id }] };
  }
  return {
    state: { ...state, waiting: [...state.waiting, id] },
    actions: [{ kind: "keep", id }],
  };
}

/** Nothing waits for this slot any more. */
function emptied(state: SlotState, refused: readonly number[]): SlotStep {
  const actions: SlotAction[] = refused.map((id) => ({ kind: "refuse", id }));
  if (state.hasFurther) actions.push({ kind: "turn-away" });
  return { state: { ...state, waiting: [], hasFurther: false }, actions };
}

function isWanted({ phase }: SlotState): boolean {
  return phase === "vacant" || phase === "taken-over";
}

function without(ids: readonly number[], id: number): readonly number[] {
  return ids.filter((each) => each !== id);
}

/** Chosen by us: more newcomers than that at a time are refused. */
const MAX_WAITING = 4;
