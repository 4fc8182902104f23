/**
 * The request for one IPv4 mapping as a state machine: what to read, to ask, to look up and to remove until the device has
 * granted the port or refused it. Nothing that stood in its table before is overwritten or removed, and nothing that was
 * asked for stays open without being announced.
 *
 * Pure: {@linkcode openMapping} and {@linkcode stepMapping} return the new state and the action that follows.
 *
 * | phase      | what happens                                   | next                                                 |
 * | ---------- | ---------------------------------------------- | ---------------------------------------------------- |
 * | `reading`  | nothing has the port, or the table is hidden   | `asking`                                             |
 * |            | this run has it                                | `asking`: a renewal, whatever its description is     |
 * |            | another host, or another program, has it       | `reading` another port, or `refused`                 |
 * |            | the same entry again, for another port         | `asking`: the table shows nothing true               |
 * | `asking`   | answered: success                              | `looking`, to confirm it                             |
 * |            | refused clearly                                | the next fallback, or `refused`                      |
 * |            | refused a renewal of what is there (718)       | `removing` it, then `asking` for the same port again |
 * |            | silent for 3 s                                 | `watching`                                           |
 * |            | garbled, or hung up                            | `looking`                                            |
 * | `watching` | it is there                                    | `granted`, although the request is unanswered        |
 * |            | it is not there, or the table is hidden        | `watching` on                                        |
 * |            | answered, refused, garbled, hung up            | as while `asking`                                    |
 * | `looking`  | it is there, on this service or on another one | `granted`, by that service                           |
 * |            | it is there on another port                    | `granted`; if the port had to be exact, `removing`   |
 * |            | another host has the port                      | the next fallback, or `refused`                      |
 * |            | it is not there                                | the next fallback, or `refused`                      |
 * |            | the table is hidden, after success             | `granted`                                            |
 * |            | the table is hidden, after anything else       | `removing`                                           |
 * | `removing` | removed                                        | the next fallback, or `refused`                      |
 *
 * @module
 */

import type { MappingRequest } from "../mapper.ts";
import type { PortMappingEntry } from "./actions.ts";
import {
  type AddMappingAttempt,
  type FallbackContext,
  firstAttempt,
  nextAttempt,
} from "./fallbacks.ts";
import {
  CONFLICT_IN_MAPPING_ENTRY,
  type IgdFailure,
  isClearRefusal,
  NO_SUCH_ENTRY_IN_ARRAY,
} from "./faults.ts";

/** What the request is doing; the table above has the transitions. */
export type MappingPhase =
  | "reading"
  | "asking"
  | "watching"
  | "looking"
  | "removing"
  | "granted"
  | "refused";

/** What is known about a request. */
export interface MappingState {
  readonly context: FallbackContext;
  readonly phase: MappingPhase;
  readonly attempt: AddMappingAttempt;
  /** Why the answer leaves open whether the port is open; `undefined` if it reported success. */
  readonly doubt: IgdFailure | undefined;
  /** Whether a mapping of this run has been removed once, because the device would not extend it. */
  readonly hasMadeRoom: boolean;
  /** What may be open without being announced. */
  readonly loose: readonly LoosePort[];
  /** The entry that has a port which was read before. */
  readonly stood: PortMappingEntry | undefined;
  /** Whether the table shows one entry for ports that have nothing to do with each other: then it shows nothing. */
  readonly isConfused: boolean;
}

/** A port that was asked for, by the index of the service. */
export interface LoosePort {
  readonly service: number;
  readonly externalPort: number;
}

/** What happened. */
export type MappingEngineEvent =
  /** What the table showed before the port was asked for. */
  | { readonly kind: "read"; readonly entry: PortMappingEntry | undefined | "unknown" }
  /** The device reported success, perhaps with another port. */
  | { readonly kind: "answered"; readonly externalPort: number | undefined }
  | { readonly kind: "failed"; readonly failure: IgdFailure }
  /** The device has not answered for a while; the request goes on. */
  | { readonly kind: "silent" }
  /** What the tables of all services show, that of the attempt's first. */
  | { readonly kind: "looked"; readonly seen: SeenMapping }
  | { readonly kind: "removed" };

/** What the tables of a device show about a mapping. */
export type SeenMapping =
  /** It leads to this host: the index of the service, and the entry. */
  | { readonly kind: "here"; readonly service: number; readonly entry: PortMappingEntry }
  | { readonly kind: "elsewhere"; readonly entry: PortMappingEntry }
  | { readonly kind: "nothing" }
  /** The device does not show its tables. */
  | { readonly kind: "hidden" };

/** What to do. */
export type MappingAction =
  /** Read the entry of the attempt's port. */
  | { readonly kind: "read" }
  /** Ask for the attempt. */
  | { readonly kind: "ask" }
  /** Look the attempt's port up, on all services. */
  | { readonly kind: "look" }
  | { readonly kind: "remove"; readonly port: LoosePort }
  | { readonly kind: "grant"; readonly granted: GrantedEntry }
  | { readonly kind: "refuse"; readonly failure: IgdFailure };

/** A mapping that the device granted. */
export interface GrantedEntry extends LoosePort {
  /** 0 if it never expires. */
  readonly leaseSeconds: number;
  /** The lease that was asked for. */
  readonly askedLeaseSeconds: number;
  readonly description: string;
}

/** The state after an event, and what to do about it. */
export interface MappingStep {
  readonly state: MappingState;
  readonly action: MappingAction;
}

/** The start of a request. */
export function openMapping(context: FallbackContext): MappingStep {
  const attempt = firstAttempt(context.request);
  return read({
    context,
    phase: "reading",
    attempt,
    doubt: undefined,
    hasMadeRoom: false,
    loose: [],
    stood: undefined,
    isConfused: false,
  });
}

/** The state and the action after an event; `undefined` for one that comes too late. */
export function stepMapping(
  state: MappingState,
  event: MappingEngineEvent,
): MappingStep | undefined {
  const { phase } = state;
  switch (event.kind) {
    case "read":
      return phase === "reading" ? onRead(state, event.entry) : undefined;
    case "silent":
      return phase === "asking" ? look({ ...state, phase: "watching" }) : undefined;
    case "answered":
      return isOpen(phase) ? onAnswered(state, event.externalPort) : undefined;
    case "failed":
      return isOpen(phase) ? onFailed(state, event.failure) : undefined;
    case "looked":
      if (phase === "watching") return onWatched(state, event.seen);
      return phase === "looking" ? onLooked(state, event.seen) : undefined;
    case "removed":
      return phase === "removing" ? onRemoved(state) : undefined;
  }
}

/** What is left to close after a request that ends without a grant. The ports are closed one after the other. */
export interface ClosingState {
  /** The one that is being closed comes first. */
  readonly loose: readonly LoosePort[];
  /** How the request ended, as far as was known when the port was looked up; until then, the device may still open it. */
  readonly end: RequestEnd | undefined;
}

/** The end of a request: the port that the device chose, if it did. */
export interface RequestEnd {
  readonly externalPort?: number;
}

/** What happened. */
export type ClosingEvent =
  /** What the tables of all services show. */
  | { readonly kind: "looked"; readonly seen: SeenMapping }
  /** An action is done; and how the request ended, if it has by now. */
  | { readonly kind: "deleted" | "waited"; readonly end: RequestEnd | undefined };

/** What to do. */
export type ClosingAction =
  /** Look the port up, on all services. */
  | { readonly kind: "look"; readonly port: LoosePort; readonly isUrgent: boolean }
  | { readonly kind: "delete"; readonly port: LoosePort }
  /** Wait a moment, or until the request ends. */
  | { readonly kind: "wait" }
  | { readonly kind: "end" };

/** The state after an event, and what to do about it. */
export interface ClosingStep {
  readonly state: ClosingState;
  readonly action: ClosingAction;
}

/** The start of closing. */
export function openClosing(
  loose: readonly LoosePort[],
  end: RequestEnd | undefined,
): ClosingStep {
  const [first] = loose;
  const state = { loose, end };
  if (first === undefined) return { state, action: { kind: "end" } };
  return { state, action: { kind: "look", port: portToClose(first, end), isUrgent: !end } };
}

/** What to do next. A table that hides what it has is believed to have the port once the request has ended. */
export function stepClosing(state: ClosingState, event: ClosingEvent): ClosingStep {
  const { loose, end } = state;
  switch (event.kind) {
    case "looked": {
      const { seen } = event;
      const port = portToClose(loose[0]!, end);
      if (seen.kind === "here") {
        const there = { service: seen.service, externalPort: seen.entry.externalPort };
        return { state, action: { kind: "delete", port: there } };
      }
      if (seen.kind === "hidden" && end) return { state, action: { kind: "delete", port } };
      return end ? openClosing(loose.slice(1), end) : { state, action: { kind: "wait" } };
    }
    case "deleted":
      return openClosing(loose.slice(1), event.end);
    case "waited":
      return openClosing(loose, event.end);
  }
}

/** A device that chooses ports itself has chosen the one of its answer. */
function portToClose({ service, externalPort }: LoosePort, end?: RequestEnd): LoosePort {
  return { service, externalPort: end?.externalPort ?? externalPort };
}

/** Whether an entry leads to this host's port. */
export function leadsHere(
  entry: Pick<PortMappingEntry, "internalClient" | "internalPort" | "protocol">,
  { internal, protocol }: Pick<MappingRequest, "internal" | "protocol">,
): boolean {
  return entry.internalClient === internal.ip && entry.internalPort === internal.port &&
    entry.protocol === protocol;
}

/**
 * The same, or the table shows something else than the host's address, such as its name; or no port: miniupnpd 2.3.0 shows
 * 0 on nftables.
 */
export function mayLeadHere(
  entry: Pick<PortMappingEntry, "internalClient" | "internalPort" | "protocol">,
  request: Pick<MappingRequest, "internal" | "protocol">,
): boolean {
  const isNamed = entry.internalClient === "0.0.0.0" &&
    entry.internalPort === request.internal.port;
  const isPortless = entry.internalPort === 0 && entry.protocol === request.protocol &&
    entry.internalClient === request.internal.ip;
  return isNamed || isPortless || leadsHere(entry, request);
}

function isOpen(phase: MappingPhase): boolean {
  return phase === "asking" || phase === "watching";
}

function onRead(state: MappingState, entry: PortMappingEntry | undefined | "unknown"): MappingStep {
  const { request } = state.context;
  if (entry !== undefined && entry !== "unknown" && isRepeated(state.stood, entry)) {
    return ask({ ...state, isConfused: true });
  }
  if (entry === undefined || entry === "unknown") {
    return ask({ ...state, attempt: { ...state.attempt, isFree: entry === undefined } });
  }
  if (mayLeadHere(entry, request) && isHeld(state)) return ask(state);
  const by = entry.internalClient === request.internal.ip ? "this-host" : "another-host";
  return fallBack({ ...state, stood: entry }, { kind: "taken", by });
}

/** Whether an entry is the one that another port has, which was asked about for no better reason than that. */
function isRepeated(before: PortMappingEntry | undefined, entry: PortMappingEntry): boolean {
  return before !== undefined && before.externalPort !== entry.externalPort &&
    before.internalClient === entry.internalClient &&
    before.internalPort === entry.internalPort && before.description === entry.description;
}

function onAnswered(state: MappingState, externalPort: number | undefined): MappingStep {
  const attempt = { ...state.attempt, externalPort: externalPort ?? state.attempt.externalPort };
  const known: MappingState = { ...state, attempt, doubt: undefined };
  return look({ ...known, phase: "looking", loose: withLoose(known) });
}

function onFailed(state: MappingState, failure: IgdFailure): MappingStep {
  if (!isClearRefusal(failure)) return look({ ...state, phase: "looking", doubt: failure });
  const clear: MappingState = { ...state, loose: withoutLoose(state) };
  const isConflict = failure.kind === "fault" && failure.code === CONFLICT_IN_MAPPING_ENTRY;
  // A port that this run was granted is its own, whatever the device has made of its description.
  if (isConflict && isHeld(state) && !state.hasMadeRoom) {
    return remove({ ...clear, hasMadeRoom: true, doubt: undefined }, portOf(state));
  }
  return fallBack(clear, failure);
}

function onWatched(state: MappingState, seen: SeenMapping): MappingStep {
  // A renewal looks the same before it is done.
  return seen.kind === "here" && !isHeld(state) ? grant(state, seen) : look(state);
}

function onLooked(state: MappingState, seen: SeenMapping): MappingStep {
  const { doubt, attempt, context: { request } } = state;
  switch (seen.kind) {
    case "here": {
      const isOther = seen.entry.externalPort !== attempt.externalPort;
      if (!isOther || !request.exactExternalPort) return grant(state, seen);
      const port = { service: seen.service, externalPort: seen.entry.externalPort };
      return remove({ ...state, doubt: CONFLICT }, port);
    }
    case "elsewhere":
      if (state.isConfused) return onLooked(state, { kind: "hidden" });
      return fallBack({ ...state, loose: withoutLoose(state) }, CONFLICT);
    case "nothing":
      return fallBack({ ...state, loose: withoutLoose(state) }, doubt ?? NOT_THERE);
    case "hidden": {
      return doubt === undefined ? grant(state) : remove(state, portOf(state));
    }
  }
}

function onRemoved(state: MappingState): MappingStep {
  const clear: MappingState = { ...state, loose: withoutLoose(state) };
  return state.doubt === undefined ? ask(clear) : fallBack(clear, state.doubt);
}

/** The next attempt, on a port whose entry has been read; without an attempt left, the request ends. */
function fallBack(state: MappingState, failure: IgdFailure): MappingStep {
  const attempt = nextAttempt(state.attempt, failure, state.context);
  if (attempt === undefined) {
    return { state: { ...state, phase: "refused" }, action: { kind: "refuse", failure } };
  }
  const next: MappingState = { ...state, attempt, doubt: undefined };
  const isRead = attempt.action === "AddAnyPortMapping" ||
    attempt.externalPort === state.attempt.externalPort &&
      attempt.service === state.attempt.service;
  return isRead ? ask(next) : read(next);
}

function read(state: MappingState): MappingStep {
  return { state: { ...state, phase: "reading" }, action: { kind: "read" } };
}

function ask(state: MappingState): MappingStep {
  const asking: MappingState = { ...state, phase: "asking", loose: withLoose(state) };
  return { state: asking, action: { kind: "ask" } };
}

function look(state: MappingState): MappingStep {
  return { state, action: { kind: "look" } };
}

function remove(state: MappingState, port: LoosePort): MappingStep {
  return { state: { ...state, phase: "removing" }, action: { kind: "remove", port } };
}

function grant(
  state: MappingState,
  seen?: { readonly service: number; readonly entry: PortMappingEntry },
): MappingStep {
  const { leaseSeconds, description, service, externalPort } = state.attempt;
  const granted: GrantedEntry = {
    service: seen?.service ?? service,
    externalPort: seen?.entry.externalPort ?? externalPort,
    // An entry with a lease of 0 may expire: some devices never report leases (miniupnp #466). IGD 2 makes 0 a week.
    leaseSeconds: seen?.entry.leaseSeconds || leaseSeconds,
    askedLeaseSeconds: leaseSeconds,
    description,
  };
  return {
    state: { ...state, phase: "granted", loose: [] },
    action: { kind: "grant", granted },
  };
}

/** Whether this run was granted the attempt's port before. */
function isHeld({ attempt, context: { request } }: MappingState): boolean {
  return (request.held ?? []).some(({ protocol, internal, external }) =>
    protocol === request.protocol && external.port === attempt.externalPort &&
    internal.ip === request.internal.ip && internal.port === request.internal.port
  );
}

function portOf({ attempt: { service, externalPort } }: MappingState): LoosePort {
  return { service, externalPort };
}

/** What is held is announced, so it is not loose. */
function withLoose(state: MappingState): readonly LoosePort[] {
  return isHeld(state) ? state.loose : [...withoutLoose(state), portOf(state)];
}

function withoutLoose({ attempt, loose }: MappingState): readonly LoosePort[] {
  return loose.filter((port) => port.externalPort !== attempt.externalPort);
}

const CONFLICT: IgdFailure = { kind: "fault", code: CONFLICT_IN_MAPPING_ENTRY, description: "" };
const NOT_THERE: IgdFailure = { kind: "fault", code: NO_SUCH_ENTRY_IN_ARRAY, description: "" };
