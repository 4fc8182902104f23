/**
 * The UDP flows of a forwarded port, as a pure function: which of them are there, and for how long. A flow is what a NAT
 * calls a session: one client's datagrams and the answers to it.
 *
 * @module
 */

/** The flows by key; the one that was idle longest is first. */
export type UdpFlowsState = ReadonlyMap<string, UdpFlowState>;

/** One flow. */
export interface UdpFlowState {
  /** `refused`: the other side does not want it, so that its datagrams are dropped for a while. */
  readonly phase: "new" | "answered" | "refused";
  /** When a datagram was last noted; for a refused one, when it was refused. */
  readonly lastMs: number;
}

/** What happens. */
export type UdpFlowsEvent =
  /** A datagram from the client. The first one opens a flow. */
  | { readonly kind: "sent"; readonly key: string }
  /** A datagram for the client. */
  | { readonly kind: "answered"; readonly key: string }
  /** The other side does not want the flow. */
  | { readonly kind: "refused"; readonly key: string }
  /** The other side has ended it. */
  | { readonly kind: "ended"; readonly key: string }
  | { readonly kind: "time" };

/** What to do. */
export type UdpFlowsAction =
  | { readonly kind: "open"; readonly key: string }
  /** End the flow: it was idle for too long, or another one takes its place. */
  | { readonly kind: "end"; readonly key: string }
  /** Drop the datagram. */
  | { readonly kind: "drop" };

/** The result of a step. */
export interface UdpFlowsStep {
  readonly state: UdpFlowsState;
  readonly actions: readonly UdpFlowsAction[];
}

/** No flow. */
export const NO_UDP_FLOWS: UdpFlowsState = new Map();

/** One step. */
export function stepUdpFlows(
  state: UdpFlowsState,
  event: UdpFlowsEvent,
  nowMs: number,
): UdpFlowsStep {
  switch (event.kind) {
    case "sent":
      return onSent(state, event.key, nowMs);
    case "answered": {
      const flow = state.get(event.key);
      if (flow === undefined || flow.phase === "refused") return { state, actions: [DROP] };
      return { state: noted(state, event.key, "answered", nowMs), actions: [] };
    }
    case "refused":
      if (!state.has(event.key)) return { state, actions: [] };
      return { state: moved(state, event.key, { phase: "refused", lastMs: nowMs }), actions: [] };
    case "ended":
      return { state: without(state, [event.key]), actions: [] };
    case "time": {
      const over = [...state].filter(([, flow]) => endsAtMs(flow) <= nowMs).map(([key]) => key);
      return { state: without(state, over), actions: over.map((key) => ({ kind: "end", key })) };
    }
  }
}

/** When a step with `time` has something to do. */
export function udpFlowsWakeAtMs(state: UdpFlowsState): number {
  let atMs = Infinity;
  for (const flow of state.values()) atMs = Math.min(atMs, endsAtMs(flow));
  return atMs;
}

function onSent(state: UdpFlowsState, key: string, nowMs: number): UdpFlowsStep {
  const flow = state.get(key);
  if (flow?.phase === "refused") return { state, actions: [DROP] };
  if (flow !== undefined) return { state: noted(state, key, flow.phase, nowMs), actions: [] };
  const opened: UdpFlowState = { phase: "new", lastMs: nowMs };
  if (state.size < MAX_UDP_FLOWS) {
    return { state: moved(state, key, opened), actions: [{ kind: "open", key }] };
  }
  const [oldest, { lastMs }] = firstToSpare(state);
  if (nowMs - lastMs < SPARED_MS) return { state, actions: [DROP] };
  return {
    state: moved(without(state, [oldest]), key, opened),
    actions: [{ kind: "end", key: oldest }, { kind: "open", key }],
  };
}

/** Without a copy of all, since a flood asks for it with each datagram. */
function firstToSpare(state: UdpFlowsState): readonly [string, UdpFlowState] {
  for (const flow of state) if (flow[1].phase !== "answered") return flow;
  return state.entries().next().value!;
}

/** A copy for each datagram would cost more than to send it: within a second, nothing changes. */
function noted(
  state: UdpFlowsState,
  key: string,
  phase: UdpFlowState["phase"],
  nowMs: number,
): UdpFlowsState {
  const flow = state.get(key)!;
  if (flow.phase === phase && nowMs - flow.lastMs < NOTED_MS) return state;
  return moved(state, key, { phase, lastMs: nowMs });
}

/** With this flow as the one that was idle shortest. */
function moved(state: UdpFlowsState, key: string, flow: UdpFlowState): UdpFlowsState {
  const flows = new Map(state);
  flows.delete(key);
  return flows.set(key, flow);
}

function without(state: UdpFlowsState, keys: readonly string[]): UdpFlowsState {
  if (!keys.some((key) => state.has(key))) return state;
  const flows = new Map(state);
  for (const key of keys) flows.delete(key);
  return flows;
}

function endsAtMs({ phase, lastMs }: UdpFlowState): number {
  return lastMs + (phase === "answered" ? ANSWERED_MS : UNANSWERED_MS);
}

const DROP: UdpFlowsAction = { kind: "drop" };

/** Chosen by us: a port for each lookup of a name would use up a thousand streams within minutes. */
export const MAX_UDP_FLOWS = 256;

/** RFC 4787 §4.3, REQ-5: not below two minutes; Linux keeps a flow as long that was answered. */
const ANSWERED_MS = 120_000;

/** As Linux does. */
const UNANSWERED_MS = 30_000;

/** Chosen by us: a flow that was idle for this long makes room for a new one if there are too many. */
const SPARED_MS = 5000;

/** Chosen by us: little beside the timeouts. */
const NOTED_MS = 1000;
