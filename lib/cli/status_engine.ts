/**
 * What a command is waiting for, in one line that is redrawn in place. Pure: events in, text out; `screen.ts` draws it.
 *
 * ```text
 * Looking for the peer, 3 s of 30 s: LAN ok, broker.hivemq.com ok, broker.emqx.io: no DNS
 * ```
 *
 * @module
 */

import type { NetworkErrorReason } from "../base/errors.ts";

/** What is known about the wait. */
export interface StatusState {
  /** What is waited for; `null` if nothing is. */
  readonly task: StatusTask | null;
  /** How each way to meet the peer is, in the order in which they were first tried. */
  readonly ways: ReadonlyMap<string, MeetingWay>;
}

/** What is waited for. */
export interface StatusTask {
  /** Such as `Looking for the peer`. */
  readonly text: string;
  /** Whether the ways to meet belong into the line. */
  readonly isMeeting: boolean;
  readonly sinceMs: number;
  /** How long it may take; `null` if there is no limit. */
  readonly timeoutMs: number | null;
}

/** A way to meet the peer. */
export interface MeetingWay {
  readonly state: "opening" | "open" | "failed" | "lost" | "skipped";
  /** Why it cannot be used, in a word or two. */
  readonly why: string | null;
}

/** Something happened. */
export type StatusEvent =
  | {
    readonly kind: "task";
    readonly text: string;
    readonly isMeeting?: boolean;
    readonly timeoutMs?: number;
  }
  /** A way to meet has changed. */
  | { readonly kind: "way"; readonly url: string } & MeetingWay
  /** Nothing is waited for any more. */
  | { readonly kind: "idle" };

/** A part of the line, and what it means. */
export interface StatusPart {
  readonly text: string;
  readonly tone: "plain" | "good" | "bad" | "faint";
}

/** Before anything is waited for. */
export const INITIAL_STATUS: StatusState = { task: null, ways: new Map() };

/**
 * What is known after an event.
 *
 * @example
 * ```ts
 * import { INITIAL_STATUS, statusParts, stepStatus } from "./status_engine.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const task = { kind: "task", text: "Looking for the peer", isMeeting: true } as const;
 * const way = { kind: "way", url: "lan:", state: "open", why: null } as const;
 * const state = stepStatus(stepStatus(INITIAL_STATUS, task, 0), way, 10);
 * const text = statusParts(state, 3000).map((part) => part.text).join("");
 * assertEquals(text, "Looking for the peer, 3 s: LAN ok");
 * ```
 */
export function stepStatus(state: StatusState, event: StatusEvent, nowMs: number): StatusState {
  switch (event.kind) {
    case "task": {
      const { text, isMeeting = false, timeoutMs = null } = event;
      if (state.task?.text === text) return state; // the time goes on
      return { ...state, task: { text, isMeeting, sinceMs: nowMs, timeoutMs } };
    }
    case "way": {
      const { url, why } = event;
      // A way that failed is tried again and again; until it opens, what matters is why it failed.
      const last = state.ways.get(url);
      const isRetry = event.state === "opening" && last !== undefined;
      if (isRetry) return state;
      return { ...state, ways: new Map(state.ways).set(url, { state: event.state, why }) };
    }
    case "idle":
      return { ...state, task: null };
  }
}

/**
 * The line, as parts that may have colours; none if nothing is waited for. Which ways fail, and why, is always in it: what
 * fits less is left out first, and if it cannot hold all of them they take turns.
 *
 * @param fits whether a line is short enough
 */
export function statusParts(
  { task, ways }: StatusState,
  nowMs: number,
  fits: (text: string) => boolean = () => true,
): StatusPart[] {
  if (task === null) return [];
  const elapsedMs = nowMs - task.sinceMs;
  const elapsed = elapsedText(elapsedMs);
  const isLimited = task.timeoutMs !== null && elapsedMs < task.timeoutMs + 1000;
  const limit = isLimited ? ` of ${limitText(task.timeoutMs!)}` : ""; // a limit that was passed was none
  const plain = (text: string): StatusPart => ({ text, tone: "plain" });
  const faint = (text: string): StatusPart => ({ text, tone: "faint" });
  const full = [plain(task.text), faint(`, ${elapsed}${limit}`)];
  if (!task.isMeeting || ways.size === 0) return full;
  const starts = [
    full,
    [plain(task.text), faint(`, ${elapsed}`)],
    [plain(inOneWord(task.text)), faint(`, ${elapsed}`)],
    [faint(elapsed)],
  ];
  const count = countPart(ways);
  const failed = [...ways].filter(([, way]) => isFailed(way));
  const counted = failed.length === 0 ? [count] : [count, plain(", "), ...waysParts(failed)];
  const rests = [
    [[full, waysParts([...ways])]],
    (failed.length === 0 ? starts.slice(0, 2) : starts).map((start) => [start, counted]),
    failed.length === 0 ? [[full, []]] : turnsOf(failed, elapsedMs).flatMap((way) => [
      [[faint(elapsed)], [count, plain(", "), way]],
      [[], [count, plain(", "), way]],
      [[], [way]],
    ]),
  ].flat() as [StatusPart[], StatusPart[]][];
  const lines = rests.map(([start, rest]) =>
    start.length > 0 && rest.length > 0 ? [...start, plain(": "), ...rest] : [...start, ...rest]
  );
  return lines.find((line) => fits(line.map(({ text }) => text).join(""))) ?? lines.at(-1)!;
}

/** Such as `Connecting` for `Found by LAN, connecting`. */
function inOneWord(text: string): string {
  const word = /\w+ing\b/i.exec(text)?.[0] ?? text;
  return word[0]!.toUpperCase() + word.slice(1);
}

/** The way whose turn it is, by its name and by the end of that. */
function turnsOf(failed: readonly [string, MeetingWay][], elapsedMs: number): StatusPart[] {
  const [url, way] = failed[Math.floor(elapsedMs / TURN_MS) % failed.length]!;
  const name = wayName(url);
  const short = /[^.]+\.[a-z]+(?::\d+)?$/i.exec(name)?.[0] ?? name;
  return [wayPart(name, way), wayPart(short, way)];
}

/** How many ways work. */
function countPart(ways: ReadonlyMap<string, MeetingWay>): StatusPart {
  const states = [...ways.values()];
  const open = states.filter(({ state }) => state === "open").length;
  const tone = open > 0 ? "good" : states.some(isFailed) ? "bad" : "faint";
  return { text: `${open} of ${ways.size} ok`, tone };
}

function isFailed({ state }: MeetingWay): boolean {
  return state === "failed" || state === "lost";
}

/** What to say once about an event: that a way to meet fails, and why; `undefined` if that is not new. */
export function newlyFailed({ ways }: StatusState, event: StatusEvent): string | undefined {
  if (event.kind !== "way" || !isFailed(event)) return undefined;
  const last = ways.get(event.url);
  const isKnown = last !== undefined && isFailed(last) && last.why === event.why;
  return isKnown ? undefined : wayPart(wayName(event.url), event).text;
}

/** The ways to meet and how they are, for a line that stays; `undefined` if there is no way that failed. */
export function failedWays({ ways }: StatusState): string | undefined {
  const hasFailed = [...ways.values()].some(isFailed);
  return hasFailed ? waysParts([...ways]).map(({ text }) => text).join("") : undefined;
}

/** A URL of signaling, as people call the way: `LAN`, or the server. */
export function wayName(url: string): string {
  if (url.startsWith("lan:")) return "LAN";
  if (url.startsWith("hand:")) return "copy and paste";
  const host = url.replace(/^[a-z+]+:\/\//, "").replace(/^.*@/, "").replace(/[/?#].*$/, "");
  return host.replace(/:(?:443|80|1883|8883|8886)$/, "");
}

/** Why a way cannot be used, in a word or two. */
export function reasonInWords(reason: NetworkErrorReason): string {
  return REASONS[reason];
}

/** A time, as `12 s`, `2:05` or `1:00:00`. */
export function elapsedText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const two = (number: number) => `${number}`.padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60)];
  return hours > 0
    ? `${hours}:${two(minutes % 60)}:${two(seconds % 60)}`
    : `${minutes}:${two(seconds % 60)}`;
}

/** A time that something may take, as `300 ms`, `12 s` or `2:05`. */
export function limitText(ms: number): string {
  return ms < 1000 ? `${ms} ms` : elapsedText(ms);
}

function waysParts(ways: readonly (readonly [string, MeetingWay])[]): StatusPart[] {
  return ways.flatMap(([url, way], index) => [
    ...index > 0 ? [{ text: ", ", tone: "plain" } as const] : [],
    wayPart(wayName(url), way),
  ]);
}

function wayPart(name: string, { state, why }: MeetingWay): StatusPart {
  switch (state) {
    case "opening":
      return { text: `${name}…`, tone: "faint" };
    case "open":
      return { text: `${name} ok`, tone: "good" };
    case "skipped":
      return { text: `${name}: skipped`, tone: "faint" };
    case "failed":
    case "lost":
      return { text: `${name}: ${why ?? state}`, tone: "bad" };
  }
}

/** How long each of several ways is shown. Chosen by us: time to read it. */
const TURN_MS = 3000;

const REASONS: Readonly<Record<NetworkErrorReason, string>> = {
  "refused": "refused",
  "reset": "lost",
  "unreachable": "unreachable",
  "timed-out": "no answer",
  "address-in-use": "address in use",
  "address-not-available": "no such address here",
  "name-not-found": "no DNS",
  "not-permitted": "not permitted",
  "not-allowed": "skipped",
  "proxy": "proxy refuses",
  "tls": "TLS failed",
  "closed": "closed",
  "other": "failed",
};
