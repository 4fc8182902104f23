/**
 * Two programs punch, and tell what they do.
 *
 * @module
 */

import { SignalPost } from "../punches/signal_post.ts";
import type { FamilyReport } from "../../../lib/nat/behavior.ts";
import type { PunchProgram, StartedPunch } from "../punches/punch_program.ts";
import type { RunnerResult } from "../punches/punch_runner.ts";
import type { Teller } from "./teller.ts";

/** What both sides need. */
export interface MeetingOptions {
  readonly servers: readonly string[];
  /** What each knows of its NAT. */
  readonly reports: readonly [FamilyReport | null, FamilyReport | null];
  /** One way of a message of theirs. */
  readonly signalDelayMs: number;
}

/** How it ended, for each side. */
export type Connected = Extract<RunnerResult, { outcome: "connected" }>;

/**
 * Alice and Bob punch.
 *
 * @throws {Error} if they do not meet
 */
export async function meet(
  alice: PunchProgram,
  bob: PunchProgram,
  { servers, reports, signalDelayMs }: MeetingOptions,
): Promise<readonly [Connected, Connected]> {
  const common = { servers, timeoutMs: 20_000, isWarm: false, signalRttMs: 2 * signalDelayMs };
  using post = new SignalPost();
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

/** The last part: what came of it. */
export async function tellOutcome(
  teller: Teller,
  [alice, bob]: readonly [Connected, Connected],
): Promise<void> {
  const dialledAtMs = Math.max(alice.dialledAtMs, bob.dialledAtMs);
  const nominatedAtMs = Math.max(alice.nominatedAtMs, bob.nominatedAtMs);
  await teller.chapter("One TCP connection between them, and nobody else on the way");
  await teller.say(
    `Alice ${alice.local}  <──>  ${alice.remote}`,
    `Bob   ${bob.local}  <──>  ${bob.remote}`,
    `Both proved to each other that they know the secret of their offers, Alice chose this`,
    `connection, and ${
      (nominatedAtMs - dialledAtMs).toFixed(0)
    } ms after both had made their plan, both can write.`,
    ``,
    `Alice writes "I am ${alice.local}", Bob reads "I am ${bob.heard}".`,
    `Bob writes   "I am ${bob.local}", Alice reads "I am ${alice.heard}".`,
  );
}

/** The plan of both, in words. */
export async function tellPlan(teller: Teller, { reason, estimate }: Connected): Promise<void> {
  await teller.chapter("Both make the same plan of the two offers");
  await teller.say(`"${reason}"`, `Chance of success: about ${Math.round(estimate * 100)} %.`);
}
