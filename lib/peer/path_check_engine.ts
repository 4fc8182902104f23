/**
 * Whether a TCP path carries long packets, as a pure engine. Both sides begin with {@linkcode PADDING_BYTES} of padding, in
 * packets as long as TCP makes them. A path that swallows those ("MTU hole", RFC 2923 §2.1) has carried the handshakes
 * before, and then stalls.
 *
 * @module
 */

/** What is known of a path. */
export interface PathCheckState {
  /** Without progress for this long, the path is given up. */
  readonly patienceMs: number;
  readonly startedAtMs: number;
  /** When padding or an answer came last, or the start. */
  readonly progressAtMs: number;
  /** When anything came last, or the start: it shows that the other side has not given up the path. */
  readonly silentSinceMs: number;
  /** How much of the other side's padding has come. */
  readonly receivedBytes: number;
  /** Whether the other side has answered something that was sent after this side's padding. */
  readonly isAnswered: boolean;
  readonly verdict: PathCheckVerdict;
}

/** `carries`: packets of every length, each way. `hole`: not the long ones. `lost`: it broke for another reason. */
export type PathCheckVerdict = "open" | "carries" | "hole" | "lost";

/** What happens to a path. */
export type PathCheckEvent =
  /** Padding of the other side. */
  | { readonly kind: "received"; readonly bytes: number }
  /** What follows its padding. */
  | { readonly kind: "heard" }
  | { readonly kind: "answered" }
  /** The other side has closed or reset it, or it was cut. */
  | { readonly kind: "ended" }
  /** This side has closed or reset it: another path took its place, or it was silent for long. */
  | { readonly kind: "closed" }
  | { readonly kind: "time" };

/**
 * The state of a new path.
 *
 * @param punchMs how long it took to find, which is at least a round trip
 */
export function initialPathCheckState(punchMs: number, nowMs: number): PathCheckState {
  const patienceMs = Math.min(MAX_PATIENCE_MS, STALL_MS + Math.max(MIN_TRIP_MS, 2 * punchMs));
  return {
    patienceMs,
    startedAtMs: nowMs,
    progressAtMs: nowMs,
    silentSinceMs: nowMs,
    receivedBytes: 0,
    isAnswered: false,
    verdict: "open",
  };
}

/** Processes an event; a verdict is final. */
export function stepPathCheck(
  state: PathCheckState,
  event: PathCheckEvent,
  nowMs: number,
): PathCheckState {
  if (state.verdict !== "open") return state;
  switch (event.kind) {
    case "received":
      return judged({
        ...state,
        receivedBytes: state.receivedBytes + event.bytes,
        progressAtMs: nowMs,
        silentSinceMs: nowMs,
      });
    case "heard":
      return { ...state, silentSinceMs: nowMs };
    case "answered":
      return judged({ ...state, isAnswered: true, progressAtMs: nowMs, silentSinceMs: nowMs });
    case "ended": {
      // The other side's patience ends a little earlier or later than this side's.
      const isStalled = nowMs >= state.progressAtMs + state.patienceMs / 2;
      return { ...state, verdict: isStalled ? "hole" : "lost" };
    }
    case "closed": {
      const isSilent = nowMs >= state.silentSinceMs + SILENT_MS;
      return { ...state, verdict: isSilent ? "hole" : "lost" };
    }
    case "time": {
      if (hasPadding(state) && nowMs >= state.startedAtMs + MAX_CHECK_MS) {
        return { ...state, verdict: "carries" }; // otherwise the other side would have given up
      }
      const lateMs = nowMs - pathCheckEndsAtMs(state);
      if (lateMs > LATE_MS) return { ...state, silentSinceMs: nowMs - state.patienceMs + GRACE_MS };
      return lateMs >= 0 ? { ...state, verdict: "hole" } : state;
    }
  }
}

/** When to send the next `time` event. */
export function pathCheckEndsAtMs(state: PathCheckState): number {
  const endsAtMs = state.silentSinceMs + state.patienceMs;
  return hasPadding(state) ? Math.min(endsAtMs, state.startedAtMs + MAX_CHECK_MS) : endsAtMs;
}

function judged(state: PathCheckState): PathCheckState {
  return state.isAnswered && hasPadding(state) ? { ...state, verdict: "carries" } : state;
}

function hasPadding({ receivedBytes }: PathCheckState): boolean {
  return receivedBytes >= PADDING_BYTES;
}

/** Chosen by us: six packets of the usual length, which a new connection may send at once (RFC 6928). */
export const PADDING_BYTES = 8192;

/** Chosen by us: TCP has sent again several times by then. */
const STALL_MS = 1000;

/** Chosen by us: how far the two sides' starts may be apart on a usual path. */
const MIN_TRIP_MS = 250;

/** Chosen by us: the session gives up a path that is silent for a little longer. */
const SILENT_MS = 4000;

/** Chosen by us: a program that looks so late was held up, and has not read yet what has arrived meanwhile. */
const LATE_MS = 100;

/** Chosen by us: for reading that. */
const GRACE_MS = 250;

/** How long a side that sends, but answers nothing, keeps the check going. Chosen by us: far longer than answers wait. */
const MAX_CHECK_MS = 30_000;

/** Chosen by us: less than the session waits for the other side. */
const MAX_PATIENCE_MS = 8000;
