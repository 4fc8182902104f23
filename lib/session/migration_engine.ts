/**
 * How a stream moves from path to path, as a pure engine: the rules of `docs/session.md`, "From path to path".
 *
 * Each side sends HELLO on a new path. The controlling side starts on the path once it has the other side's HELLO, or at
 * once if there is no other path. The controlled side starts once the other side has, or at once if there is no other
 * path. The path with the highest number wins.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { SESSION_VERSION } from "./frame.ts";

/** Whether a side numbers the paths and decides when the stream moves. */
export type SessionRole = "controlling" | "controlled";

/** The paths of one side. */
export interface MigrationState {
  readonly role: SessionRole;
  /** The highest path number so far; 0 before the first path. */
  readonly highestNumber: number;
  /** The open paths, in the order in which they were opened, without those that were replaced. */
  readonly paths: readonly MigrationPath[];
  /** The path on which this side sends. The controlling side may do so before the path is attached. */
  readonly currentId: number | undefined;
}

/** One path. */
export interface MigrationPath {
  readonly id: number;
  /** The number in its HELLOs; the controlled side learns it from the other side's. */
  readonly number: number | undefined;
  /**
   * `opened`: the other side has not sent HELLO. `greeted`: both sides have. `attached`: the stream runs over this path,
   * as far as this side knows.
   */
  readonly phase: "opened" | "greeted" | "attached";
}

/** What has happened on a path. */
export type MigrationEvent =
  | {
    readonly kind: "opened";
    readonly id: number;
    /** How many bytes this side has sent on earlier paths that are not acknowledged. */
    readonly unacknowledgedBytes: number;
  }
  | {
    /** HELLO was received. */
    readonly kind: "hello";
    readonly id: number;
    readonly version: number;
    readonly pathNumber: number;
  }
  /** START was received. */
  | { readonly kind: "start"; readonly id: number }
  /** The path has failed, or the caller has aborted it. */
  | { readonly kind: "failed"; readonly id: number };

/** What to do, in this order. */
export type MigrationAction =
  /** Send HELLO with this number. */
  | { readonly kind: "send-hello"; readonly id: number; readonly pathNumber: number }
  /** Apply the acknowledgement and the limit of the HELLO that was received. */
  | { readonly kind: "accept-hello" }
  /** Send ACK and START, and everything from now on, on this path. */
  | { readonly kind: "start"; readonly id: number }
  /** The stream runs over this path. */
  | { readonly kind: "attached"; readonly id: number }
  /** Replaced by a newer path: write what is half written, then close. */
  | { readonly kind: "close"; readonly id: number }
  /** Replaced by a newer path before it was attached: reset it. */
  | { readonly kind: "reset"; readonly id: number }
  /** The stream has lost its path. */
  | { readonly kind: "lost" }
  /** A path has ended before it was attached. */
  | { readonly kind: "not-attached" };

/** The next state, and what to do. */
export interface MigrationStep {
  readonly state: MigrationState;
  readonly actions: readonly MigrationAction[];
}

/** The state before the first path. */
export function initialMigrationState(role: SessionRole): MigrationState {
  return { role, highestNumber: 0, paths: [], currentId: undefined };
}

/**
 * Processes an event.
 *
 * @throws {MalformedMessageError} if the other side breaks the protocol
 */
export function stepMigration(state: MigrationState, event: MigrationEvent): MigrationStep {
  switch (event.kind) {
    case "opened":
      return state.role === "controlling" ? propose(state, event.id, event.unacknowledgedBytes) : {
        state: withPath(state, { id: event.id, number: undefined, phase: "opened" }),
        actions: [],
      };
    case "hello":
      return onHello(state, event);
    case "start":
      return event.id === state.currentId ? { state, actions: [] } : moveTo(state, event.id);
    case "failed":
      return onFailed(state, event.id);
  }
}

/** Whether the other side has sent HELLO on a path, which must be its first frame. */
export function isGreeted(state: MigrationState, id: number): boolean {
  const path = findPath(state, id);
  return path !== undefined && path.phase !== "opened";
}

/** The controlling side numbers a new path. It replaces those that are not attached. */
function propose(state: MigrationState, id: number, unacknowledgedBytes: number): MigrationStep {
  const pathNumber = state.highestNumber + 1;
  const replaced = replace(state, ({ phase }) => phase !== "attached");
  const next: MigrationState = {
    ...withPath(replaced.state, { id, number: pathNumber, phase: "opened" }),
    highestNumber: pathNumber,
  };
  const proposed: MigrationStep = {
    state: next,
    actions: [...replaced.actions, { kind: "send-hello", id, pathNumber }],
  };
  const mayStartAtOnce = next.currentId === undefined && unacknowledgedBytes <= MAX_UNASKED_BYTES;
  return mayStartAtOnce ? join(proposed, start(next, id)) : proposed;
}

function onHello(
  state: MigrationState,
  { id, version, pathNumber }: Extract<MigrationEvent, { kind: "hello" }>,
): MigrationStep {
  const path = findPath(state, id);
  if (path === undefined) return { state, actions: [] };
  if (path.phase !== "opened") throw new MalformedMessageError("Cannot continue: a second HELLO");
  if (version !== SESSION_VERSION) {
    const isOlder = version < SESSION_VERSION;
    throw new MalformedMessageError(
      `Cannot continue: the other side speaks version ${version} of the session, ` +
        `this side version ${SESSION_VERSION}`,
      { remedy: `Update Punchline on ${isOlder ? "the other side" : "this side"}` },
    );
  }
  return state.role === "controlling"
    ? onAnswer(state, path, pathNumber)
    : onProposal(state, path, pathNumber);
}

/** The other side accepts the path that this side has proposed. */
function onAnswer(state: MigrationState, path: MigrationPath, pathNumber: number): MigrationStep {
  if (pathNumber !== path.number) {
    throw new MalformedMessageError(
      `Cannot continue: HELLO has path number ${pathNumber} instead of ${path.number}`,
    );
  }
  const greeted: MigrationStep = {
    state: withPath(state, { ...path, phase: "greeted" }),
    actions: [{ kind: "accept-hello" }],
  };
  const moved = state.currentId === path.id
    ? attach(greeted.state, path.id)
    : moveTo(greeted.state, path.id);
  return join(greeted, moved);
}

/** The other side proposes a path. */
function onProposal(state: MigrationState, path: MigrationPath, pathNumber: number): MigrationStep {
  const { id } = path;
  if (pathNumber <= state.highestNumber) {
    return {
      state: withoutPath(state, id),
      actions: [{ kind: "reset", id }, { kind: "not-attached" }],
    };
  }
  const replaced = replace(state, ({ phase }) => phase === "greeted");
  const next: MigrationState = {
    ...withPath(replaced.state, { id, number: pathNumber, phase: "greeted" }),
    highestNumber: pathNumber,
  };
  const answered: MigrationStep = {
    state: next,
    actions: [
      ...replaced.actions,
      { kind: "accept-hello" },
      { kind: "send-hello", id, pathNumber },
    ],
  };
  return next.currentId === undefined ? join(answered, moveTo(next, id)) : answered;
}

function onFailed(state: MigrationState, id: number): MigrationStep {
  const path = findPath(state, id);
  if (path === undefined) return { state, actions: [] };
  const next = withoutPath(state, id);
  if (state.currentId === id) {
    const other = next.paths.find(({ phase }) => phase === "greeted");
    if (other !== undefined) return moveTo(next, other.id); // the other side is about to start on it
    if (path.phase === "attached") return { state: next, actions: [{ kind: "lost" }] };
  }
  return { state: next, actions: path.phase === "attached" ? [] : [{ kind: "not-attached" }] };
}

/** Starts on a path that both sides have accepted. */
function moveTo(state: MigrationState, id: number): MigrationStep {
  const started = start(state, id);
  return join(started, attach(started.state, id));
}

/** Sends on a path from now on, and leaves the one before. */
function start(state: MigrationState, id: number): MigrationStep {
  const { currentId } = state;
  const actions: MigrationAction[] = [{ kind: "start", id }];
  if (currentId === undefined) return { state: { ...state, currentId: id }, actions };
  return {
    state: { ...withoutPath(state, currentId), currentId: id },
    actions: [...actions, { kind: "close", id: currentId }],
  };
}

function attach(state: MigrationState, id: number): MigrationStep {
  const path = findPath(state, id)!;
  return {
    state: withPath(state, { ...path, phase: "attached" }),
    actions: [{ kind: "attached", id }],
  };
}

/** Resets the paths that a newer one replaces. */
function replace(
  state: MigrationState,
  isReplaced: (path: MigrationPath) => boolean,
): MigrationStep {
  const replaced = state.paths.filter(isReplaced);
  return {
    state: replaced.reduce((before, { id }) => withoutPath(before, id), state),
    actions: replaced.map(({ id }) => ({ kind: "reset", id })),
  };
}

function findPath(state: MigrationState, id: number): MigrationPath | undefined {
  return state.paths.find((path) => path.id === id);
}

/** Adds a path, or changes the one with its ID. */
function withPath(state: MigrationState, changed: MigrationPath): MigrationState {
  const isKnown = findPath(state, changed.id) !== undefined;
  const paths = isKnown
    ? state.paths.map((path) => path.id === changed.id ? changed : path)
    : [...state.paths, changed];
  return { ...state, paths };
}

function withoutPath(state: MigrationState, id: number): MigrationState {
  const paths = state.paths.filter((path) => path.id !== id);
  return { ...state, paths, currentId: state.currentId === id ? undefined : state.currentId };
}

function join(first: MigrationStep, second: MigrationStep): MigrationStep {
  return { state: second.state, actions: [...first.actions, ...second.actions] };
}

/** Chosen by us: without another path, sending this much twice is worth saving a round trip. */
const MAX_UNASKED_BYTES = 65_536;
