/**
 * The connectivity checks of a UDP punch as a state machine: which probe goes where and when, which pair of addresses
 * carries datagrams both ways, and which of these pairs is nominated. Pure; `udp_checks.ts` owns the sockets, the keys
 * and the timer, and passes on only datagrams that the peer has authenticated.
 *
 * ```text
 *   checking --(ANSWER; controlling side)--> valid --(due)--> nominated --(ANSWER)--> confirmed
 *       |                                                        |
 *       |                                                        +--(no ANSWER)--> checking
 *       +--(NOMINATE; controlled side)--------------------------------------------> confirmed
 * ```
 *
 * A probe that arrives is answered, and its source is probed, too (a triggered check: RFC 8445 §7.3.1.4): a NAT may have
 * given the peer another address than the one in its offer.
 *
 * @module
 */

import { ipFamily, ipScope, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import { UDP_LIMITS } from "./limits.ts";
import type { PunchPlan } from "./plan_types.ts";
import {
  FIRST_FRESH_SOCKET,
  NOMINATION,
  type PendingNomination,
  type UdpCheck,
  type UdpChecksAction,
  type UdpChecksEvent,
  type UdpChecksOptions,
  type UdpChecksState,
  type UdpNomination,
  type UdpSocketId,
  type ValidPair,
} from "./udp_check_types.ts";

/** The checks before they start. */
export function initialUdpChecksState(plan: PunchPlan, options: UdpChecksOptions): UdpChecksState {
  const { carryingMs = 0 } = options;
  const lasting = OPENING_TRIES + Math.floor(carryingMs / KEEP_OPEN_MS);
  const tries = carryingMs === 0 ? TRIES : Math.min(TRIES, lasting);
  let fresh = FIRST_FRESH_SOCKET;
  const checks = plan.dials.flatMap((dials, entry) => {
    const { targets, perTarget, from, localPorts, startMs, spacingMs } = dials;
    return Array.from({ length: perTarget }, () => targets).flat().map((target, index) => ({
      index,
      check: {
        entry,
        socket: from === "punch" ? socketOf(target) : fresh++,
        target,
        localPort: localPorts?.[index] ?? 0,
        phase: "probing",
        dueMs: startMs + index * spacingMs,
        maxTries: dials.maxTries === 1 ? 1 : tries,
        sentMs: [],
        isTriggered: false,
      } satisfies UdpCheck,
    }));
  }).sort((a, b) => a.index - b.index || a.check.entry - b.check.entry);
  return {
    options,
    startedAtMs: null,
    endsAtMs: endsAtMs(plan, carryingMs),
    checks: checks.map(({ check }) => check),
    copies: 0,
    seen: new Set(),
    sent: 0,
    valid: [],
    nomination: null,
    pending: [],
    nominations: 0,
    rivalAtMs: null,
    phase: "checking",
  };
}

/** A side that has nothing to probe answers the other side's probes. */
function endsAtMs({ method, dials }: PunchPlan, carryingMs: number): number {
  if (method === "impossible") return 0;
  if (dials.length === 0) return Math.max(UDP_LIMITS.timeoutMs, carryingMs);
  return Math.max(...dials.map(({ startMs, timeoutMs }) => startMs + timeoutMs));
}

/** What an event leads to. */
export function stepUdpChecks(
  state: UdpChecksState,
  event: UdpChecksEvent,
  nowMs: number,
): { readonly state: UdpChecksState; readonly actions: readonly UdpChecksAction[] } {
  const actions: UdpChecksAction[] = [];
  if (state.phase === "over") return { state, actions };
  const changed = apply(state, event, nowMs, actions);
  return { state: advance(changed, nowMs, actions), actions };
}

/** When to send the next `time` event; `Infinity` if only another event can change anything. */
export function udpChecksWakeAtMs(state: UdpChecksState): number {
  const { startedAtMs, phase, nomination, endsAtMs, valid, checks } = state;
  if (startedAtMs === null || phase === "over") return Infinity;
  if (phase === "nominated") return nomination!.dueMs;
  let atMs = endsAtMs;
  for (const { dueMs } of valid) atMs = Math.min(atMs, dueMs);
  for (const each of checks) if (isProbed(each, state)) atMs = Math.min(atMs, each.dueMs);
  return atMs;
}

function apply(
  state: UdpChecksState,
  event: UdpChecksEvent,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  switch (event.kind) {
    case "started":
      return {
        ...state,
        startedAtMs: nowMs,
        endsAtMs: nowMs + state.endsAtMs,
        checks: state.checks.map((each) => ({ ...each, dueMs: nowMs + each.dueMs })),
      };
    case "probe":
      return onProbe(state, event, nowMs, actions);
    case "answer":
      return event.value.check === NOMINATION
        ? onConfirmed(state, event, nowMs, actions)
        : onAnswer(state, event, nowMs, actions);
    case "nominate":
      return onNominate(state, event, nowMs, actions);
    case "rival":
      if (state.rivalAtMs !== null) return state; // anyone may dial the punch port, again and again
      return { ...state, rivalAtMs: nowMs, valid: state.valid.map((each) => held(each, nowMs)) };
    case "refused":
      return state.checks[event.check]!.phase === "probing"
        ? withCheck(state, event.check, { phase: "ended" })
        : state;
    case "time":
      return state;
    case "stopped":
      return { ...state, phase: "over" };
  }
}

/** The peer reaches this side from there. */
function onProbe(
  state: UdpChecksState,
  { socket, from, counter, isAllowed }: Extract<UdpChecksEvent, { kind: "probe" }>,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  const id = `${counter} ${socket} ${from.ip} ${from.port}`;
  if (state.seen.has(id) || state.seen.size >= MAX_SEEN || !isAllowed) return state;
  // The peer sends each probe once, so that it comes from one address: whoever captures some can send them from many.
  const isCopy = state.seen.has(`${counter}`) && !isPlanned(state, from);
  if (isCopy && state.copies >= MAX_COPIES || state.sent >= UDP_LIMITS.maxSyns) return state;
  actions.push({ kind: "answer" });
  const answered = {
    ...state,
    sent: state.sent + 1,
    copies: state.copies + (isCopy ? 1 : 0),
    seen: new Set(state.seen).add(id).add(`${counter}`),
    checks: state.checks.map((each) => postponed(each, nowMs)),
  };
  return probed(answered, socket, from, nowMs);
}

function isPlanned({ checks }: UdpChecksState, from: TransportAddress): boolean {
  return checks.some(({ entry, target }) => entry >= 0 && sameTransportAddress(target, from));
}

/** Probes a pair that the peer uses, unless that is known to be valid. */
function probed(
  state: UdpChecksState,
  socket: UdpSocketId,
  from: TransportAddress,
  nowMs: number,
): UdpChecksState {
  const index = state.checks.findIndex((each) =>
    each.socket === socket && sameTransportAddress(each.target, from)
  );
  const known = state.checks[index];
  if (known === undefined) {
    const triggered: UdpCheck = {
      entry: -1,
      socket,
      target: from,
      localPort: 0,
      phase: "probing",
      dueMs: nowMs,
      maxTries: TRIGGERED_TRIES,
      sentMs: [],
      isTriggered: true,
    };
    return { ...state, checks: [...state.checks, triggered] };
  }
  // The peer's filter is open now, which it may not have been for the last probe.
  const lastMs = known.sentMs.at(-1) ?? -Infinity;
  const isDue = known.phase !== "valid" && nowMs - lastMs >= MIN_GAP_MS;
  if (!isDue) return state;
  const maxTries = Math.max(known.maxTries, Math.min(known.sentMs.length + 2, 2 * TRIES));
  const changes = { phase: "probing", dueMs: nowMs, maxTries, isTriggered: true } as const;
  return withCheck(state, index, changes);
}

/** The rest of a spray waits: it is of use only if the pair that was found does not work after all. */
function postponed(check: UdpCheck, nowMs: number): UdpCheck {
  const isSpray = check.maxTries === 1 && check.sentMs.length === 0 && check.phase === "probing";
  return isSpray ? { ...check, dueMs: Math.max(check.dueMs, nowMs + POSTPONE_MS) } : check;
}

/** Datagrams get there and back. */
function onAnswer(
  state: UdpChecksState,
  { socket, from, value }: Extract<UdpChecksEvent, { kind: "answer" }>,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  const check = state.checks[value.check];
  const sentAtMs = check?.sentMs[value.index];
  const isAnswer = check !== undefined && sentAtMs !== undefined && check.phase !== "valid" &&
    check.socket === socket && sameTransportAddress(check.target, from);
  if (!isAnswer) return state;
  const rttMs = nowMs - sentAtMs;
  const isControlled = state.options.role === "controlled";
  const dueMs = isControlled ? Infinity : nowMs + waitMs(state, from, rttMs);
  const pair = { socket, remote: from, rttMs, dueMs };
  const isHeld = state.options.hasRival && state.rivalAtMs !== null;
  const next = {
    ...withCheck(state, value.check, { phase: "valid" }),
    valid: [...state.valid, isHeld ? held(pair, state.rivalAtMs!) : pair],
  };
  const pending = isControlled && state.pending.find((each) => isPair(each, socket, from));
  return pending ? nominated(next, pending, nowMs, actions) : next;
}

/** How long the punch by TCP has to connect: it does so in the same round trip, as far as it can. */
function waitMs(
  { options }: UdpChecksState,
  { ip }: TransportAddress,
  rttMs: number,
): number {
  if (!options.hasRival) return 0;
  const scope = ipScope(ip);
  const isNear = scope !== "global" && scope !== "documentation";
  return isNear ? NEAR_WAIT_MS : WAIT_MS + rttMs / 8;
}

/** A connection over TCP needs another round trip to prove that it has reached the peer. */
function held(pair: ValidPair, rivalAtMs: number): ValidPair {
  return { ...pair, dueMs: Math.max(pair.dueMs, rivalAtMs + pair.rttMs + PROOF_MS) };
}

/** The controlling side has chosen. It repeats that until it is answered. */
function onNominate(
  state: UdpChecksState,
  { socket, from, counter, isAllowed, index }: Extract<UdpChecksEvent, { kind: "nominate" }>,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  const { options, nomination, seen, pending } = state;
  const id = `${counter} ${socket} ${from.ip} ${from.port}`;
  const isReplayed = seen.has(id) || seen.size >= MAX_SEEN;
  if (options.role === "controlling" || isReplayed || !isAllowed) return state;
  if (index >= MAX_NOMINATIONS) return state;
  const next = { ...state, seen: new Set(seen).add(id) };
  const given = { index, socket, remote: from };
  if (nomination !== null && index <= nomination.index) {
    const isRepeated = index === nomination.index && isPair(nomination, socket, from);
    if (!isRepeated || state.sent >= UDP_LIMITS.maxSyns) return next;
    actions.push({ kind: "acknowledge" });
    return { ...next, sent: state.sent + 1 };
  }
  const isValid = state.valid.some((each) => isPair(each, socket, from));
  if (isValid) return nominated(next, given, nowMs, actions);
  const waiting = { ...next, pending: [...pending, given].slice(-MAX_PENDING) };
  return nomination === null ? probed(waiting, socket, from, nowMs) : waiting;
}

/** Both sides use this pair from now on. */
function nominated(
  state: UdpChecksState,
  { index, socket, remote }: PendingNomination,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  actions.push({ kind: "acknowledge" }, { kind: "found" }, { kind: "confirmed", isLate: false });
  const { rttMs } = state.valid.find((each) => isPair(each, socket, remote))!;
  const dueMs = nowMs + LINGER_MS;
  const common = { index, socket, remote, rttMs, atMs: nowMs };
  const nomination = { ...common, tries: 0, dueMs, isConfirmed: true };
  const sent = state.sent + 1;
  return { ...state, sent, nomination, nominations: index + 1, pending: [], phase: "nominated" };
}

/** The controlled side knows. */
function onConfirmed(
  state: UdpChecksState,
  { socket, from, value }: Extract<UdpChecksEvent, { kind: "answer" }>,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  const { nomination } = state;
  const isAnswer = nomination !== null && !nomination.isConfirmed && nomination.tries > 0 &&
    nomination.index === value.index && isPair(nomination, socket, from);
  if (!isAnswer) return state;
  const isLate = nowMs - nomination.atMs >= nomination.rttMs + FIRST_REPEAT_MS / 2;
  actions.push({ kind: "confirmed", isLate });
  return { ...state, nomination: { ...nomination, isConfirmed: true, dueMs: nowMs } };
}

/** What is due by now. */
function advance(
  state: UdpChecksState,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  if (state.startedAtMs === null || state.phase === "over") return state;
  if (state.phase === "nominated") return advanceNomination(state, nowMs, actions);
  const best = state.valid.length > 0 && state.valid.some(({ dueMs }) => dueMs <= nowMs)
    ? bestOf(state.valid)
    : undefined;
  if (best !== undefined && state.nominations < MAX_NOMINATIONS) {
    actions.push({ kind: "nominate" }, { kind: "found" });
    const { socket, remote, rttMs } = best;
    const nomination: UdpNomination = {
      index: state.nominations,
      socket,
      remote,
      rttMs,
      atMs: nowMs,
      tries: 1,
      dueMs: nowMs + repeatMs(rttMs, 1),
      isConfirmed: false,
    };
    const nominations = state.nominations + 1;
    return { ...state, nomination, nominations, phase: "nominated", sent: state.sent + 1 };
  }
  if (nowMs >= state.endsAtMs) return { ...state, phase: "over" };
  return probe(state, nowMs, actions);
}

/** Sends the probes that are due. */
function probe(
  state: UdpChecksState,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  let { sent } = state;
  const checks = state.checks.map((each, check): UdpCheck => {
    if (!isProbed(each, state) || each.dueMs - nowMs >= TIMER_MS) return each;
    if (each.sentMs.length >= each.maxTries || sent >= UDP_LIMITS.maxSyns) {
      return each.phase === "valid" ? { ...each, dueMs: Infinity } : { ...each, phase: "ended" };
    }
    sent++;
    const { isTriggered } = each;
    actions.push({ kind: "probe", check, index: each.sentMs.length, isTriggered });
    const sentMs = [...each.sentMs, nowMs];
    const dueMs = nowMs + pauseMs(state, sentMs.length);
    return { ...each, sentMs, dueMs, isTriggered: false };
  });
  return { ...state, checks, sent };
}

/**
 * Whether it sends further probes. The controlled side goes on until there is a nomination: the controlling side may have
 * started much earlier, and is only slowly probing now; each probe that arrives makes it send another one.
 */
function isProbed(
  { phase, sentMs, maxTries }: UdpCheck,
  { options, nomination }: UdpChecksState,
): boolean {
  if (phase !== "valid") return phase === "probing";
  return options.role === "controlled" && nomination === null && sentMs.length < maxTries;
}

/** A peer whose offer is still carried hears nothing: the probes keep this side's filter and mapping open for it. */
function pauseMs({ options }: UdpChecksState, tries: number): number {
  if ((options.carryingMs ?? 0) > 0 && tries >= OPENING_TRIES) return KEEP_OPEN_MS;
  return FIRST_REPEAT_MS * 2 ** Math.min(tries - 1, TRIES);
}

function advanceNomination(
  state: UdpChecksState,
  nowMs: number,
  actions: UdpChecksAction[],
): UdpChecksState {
  const nomination = state.nomination!;
  if (nowMs < nomination.dueMs) return state;
  if (nomination.isConfirmed) return { ...state, phase: "over" };
  const tries = nomination.tries + 1;
  if (tries <= NOMINATION_TRIES) {
    actions.push({ kind: "nominate" });
    const dueMs = nowMs + repeatMs(nomination.rttMs, tries);
    return { ...state, nomination: { ...nomination, tries, dueMs }, sent: state.sent + 1 };
  }
  actions.push({ kind: "lost" });
  const valid = state.valid.filter(({ socket, remote }) =>
    socket !== nomination.socket || !sameTransportAddress(remote, nomination.remote)
  );
  const phase = state.nominations < MAX_NOMINATIONS ? "checking" : "over";
  return { ...state, valid, phase, nomination: null };
}

/** Near ones before far ones, then the one with the shortest round trip. */
function bestOf(valid: readonly ValidPair[]): ValidPair {
  return [...valid].sort((a, b) => distance(a) - distance(b) || a.rttMs - b.rttMs)[0]!;
}

function distance({ remote: { ip } }: ValidPair): number {
  const scope = ipScope(ip);
  return scope === "loopback" ? 0 : scope === "global" || scope === "documentation" ? 2 : 1;
}

/**
 * Sooner than an answer can arrive: the other side has no path before it has the nomination, and drops what this one sends
 * over it. Then twice as much each time.
 */
function repeatMs(rttMs: number, tries: number): number {
  return Math.max(FIRST_REPEAT_MS, rttMs / 4) * 2 ** (tries - 1);
}

function socketOf({ ip }: TransportAddress): UdpSocketId {
  return ipFamily(ip) === 4 ? 0 : 1;
}

function isPair(
  pair: { readonly socket: UdpSocketId; readonly remote: TransportAddress },
  socket: UdpSocketId,
  remote: TransportAddress,
): boolean {
  return pair.socket === socket && sameTransportAddress(pair.remote, remote);
}

function withCheck(
  state: UdpChecksState,
  index: number,
  changes: Partial<UdpCheck>,
): UdpChecksState {
  return { ...state, checks: state.checks.with(index, { ...state.checks[index]!, ...changes }) };
}

/** How often a target is probed: as many datagrams as one port may get. */
const TRIES = UDP_LIMITS.maxSynsPerPort;

/** The same for an address that the peer has not named, from which its probes come. Chosen by us: few, but one may be lost. */
const TRIGGERED_TRIES = 4;

/** How many probes open a filter for a peer that starts minutes later. Chosen by us: one of them may be lost. */
const OPENING_TRIES = 2;

/**
 * Chosen by us: the eight probes that one port may get last for four minutes. Many routers close after 30 s, although RFC 4787
 * REQ-5 requires two minutes; the peer probes for 5 s, so its last probe meets an open filter.
 */
const KEEP_OPEN_MS = 35_000;

/** From the first probe of a target to the second; it doubles then. Chosen by us: 8 probes last for 5 s. */
const FIRST_REPEAT_MS = 40;

/** A probe that was just sent crosses the peer's; another one would tell nothing more. Chosen by us. */
const MIN_GAP_MS = 15;

/** Chosen by us: the longest round trips, and some. */
const POSTPONE_MS = 400;

/** The resolution of timers. */
const TIMER_MS = 1;

/** Chosen by us: what the other side sends in a search, with two entries each, and room for what repeats it. */
const MAX_SEEN = 3 * 1300;

/** Chosen by us: enough for an original that comes after its copy, and too little to use up what a search may send. */
const MAX_COPIES = 16;

/** How long TCP has to connect, in a LAN and otherwise. Chosen by us: how late timers are, with many jobs in a process. */
const NEAR_WAIT_MS = 150;
const WAIT_MS = 10;

/** More than the round trip that a proof over TCP takes. Chosen by us. */
const PROOF_MS = 50;

/** Chosen by us: with a loss of one datagram in five each way, fewer than one nomination in 1000 stays unanswered. */
const NOMINATION_TRIES = 7;

/** Chosen by us: a pair that carried probes and no nomination is rare, two in a row are rarer. */
const MAX_NOMINATIONS = 3;

/** Chosen by us: those that came too early, and copies of them. */
const MAX_PENDING = 8;

/** How long repeated nominations are answered. Chosen by us: all seven, the last after 2.5 s, or the first five at 0.4 s. */
const LINGER_MS = 3000;
