/**
 * The story that both demonstrations tell: Alice and Bob punch, and each step is explained.
 *
 * @module
 */

import type { FamilyReport } from "../../../lib/nat/behavior.ts";
import { DelayedDelivery } from "../punches/punch_pair.ts";
import type { PunchProgram, StartedPunch } from "../punches/punch_program.ts";
import type { RunnerResult } from "../punches/runner_types.ts";

/** Shows the story, as slowly as people read. */
export interface Narrator {
  /** Begins a chapter. */
  heading(title: string): Promise<void>;
  /** Shows some lines. */
  print(...lines: readonly string[]): Promise<void>;
}

/** What both sides need. */
export interface PunchTogetherOptions {
  readonly servers: readonly string[];
  /** The NAT test report of each side. */
  readonly reports: readonly [FamilyReport | null, FamilyReport | null];
  /** How long a signaling message takes, one way. */
  readonly signalDelayMs: number;
}

/** The result of a punch that connected, for one side. */
export type Connected = Extract<RunnerResult, { outcome: "connected" }>;

/**
 * Alice and Bob punch.
 *
 * @throws {Error} if they do not connect
 */
export async function punchTogether(
  alice: PunchProgram,
  bob: PunchProgram,
  { servers, reports, signalDelayMs }: PunchTogetherOptions,
): Promise<readonly [Connected, Connected]> {
  const common = { servers, timeoutMs: 20_000, isWarm: false, signalRttMs: 2 * signalDelayMs };
  using post = new DelayedDelivery();
  const carry = (to: () => StartedPunch) => (message: string) => {
    post.carry(() => to().deliver(message), signalDelayMs);
  };
  const first: StartedPunch = alice.punch(
    { ...common, role: "controlling", report: reports[0] },
    carry(() => second),
  );
  const second: StartedPunch = bob.punch(
    { ...common, role: "controlled", report: reports[1] },
    carry(() => first),
  );
  const results = await Promise.all([first.result, second.result]);
  return [connected(results[0]), connected(results[1])];
}

function connected(result: RunnerResult): Connected {
  if (result.outcome === "connected") return result;
  throw new Error(`Cannot show a punch: ${result.message}`);
}

/** The last chapter: the connection. */
export async function narrateOutcome(
  narrator: Narrator,
  [alice, bob]: readonly [Connected, Connected],
): Promise<void> {
  const dialledAtMs = Math.max(alice.dialledAtMs, bob.dialledAtMs);
  const nominatedAtMs = Math.max(alice.nominatedAtMs, bob.nominatedAtMs);
  const elapsedMs = (nominatedAtMs - dialledAtMs).toFixed(0);
  await narrator.heading("One TCP connection, with nothing in between");
  await narrator.print(
    `Alice ${alice.local}  <──>  ${alice.remote}`,
    `Bob   ${bob.local}  <──>  ${bob.remote}`,
    `Both proved that they know the secret of their offers, and Alice nominated this`,
    `connection. Both could write ${elapsedMs} ms after they had made their plan.`,
    ``,
    `Alice writes "I am ${alice.local}", Bob reads "I am ${bob.received}".`,
    `Bob writes   "I am ${bob.local}", Alice reads "I am ${alice.received}".`,
  );
}

/** The chapter about the plan that both make. */
export async function narratePlan(
  narrator: Narrator,
  { reason, estimate }: Connected,
): Promise<void> {
  await narrator.heading("Both make the same plan from the two offers");
  await narrator.print(`"${reason}"`, `Chance of success: about ${Math.round(estimate * 100)} %.`);
}
