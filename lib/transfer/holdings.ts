/**
 * What the receiver has of an offer already: tells the sender, and checks that its plan is about nothing else.
 *
 * @module
 */

import type { RunningHash } from "../base/crypto.ts";
import { malformed } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import type { TcpConnection } from "../net/network.ts";
import type { Manifest } from "./manifest.ts";
import {
  encodeTransferMessage,
  type HeldEntry,
  inMessages,
  MAX_HELD_BYTES,
  type PlanStep,
  type RefusalReason,
} from "./message.ts";
import type { Offer } from "./offer_reader.ts";
import type { ProgressMeter } from "./progress.ts";

/** An offer that was accepted. */
export interface AcceptedOffer extends Offer {
  /** The paths of the entries on this system, where they differ from the manifest. */
  readonly renamed: ReadonlyMap<number, string>;
  readonly meter: ProgressMeter;
  /** The places of the entries that are complete. */
  readonly done: Set<number>;
}

/** What this side has of an entry. */
export interface Found {
  /** Where it goes, relative to the target folder. */
  readonly path: string;
  /** What HELD says of it; nothing if nothing of it is there. */
  readonly held?: HeldEntry;
  /** The hash of the part, if there is one. */
  readonly hash?: RunningHash;
}

/** What is to be received, by the places of the entries. */
export interface ReceivePlan {
  readonly offer: AcceptedOffer;
  readonly steps: readonly PlanStep[];
  readonly found: ReadonlyMap<number, Found>;
  readonly refused: Map<number, RefusalReason>;
}

/** Sends HELD, as often as it takes, and ANSWER. */
export async function sendHeld(
  connection: TcpConnection,
  found: readonly Found[],
  refused: ReadonlyMap<number, RefusalReason>,
): Promise<void> {
  const held: HeldEntry[] = [
    ...found.flatMap(({ held }) => held ?? []),
    ...[...refused.keys()].map((index) => ({ index, state: "refused" }) as const),
  ];
  for (const some of inMessages(held, () => MAX_HELD_BYTES)) {
    await writeAll(connection, encodeTransferMessage({ type: "held", held: some }));
  }
  await writeAll(connection, encodeTransferMessage({ type: "answer", held: held.length }));
}

/** Checks that the plan keeps and continues only what this side has. */
export function checkPlan(
  steps: readonly PlanStep[],
  manifest: Manifest,
  found: ReadonlyMap<number, Found>,
): void {
  const isConsistent = steps.length === manifest.length && steps.every((step, index) => {
    const held = found.get(index)?.held;
    if (manifest[index]!.kind !== "file") return step === "keep";
    if (held === undefined) return step === "send";
    if (step === "keep") return held.state === "done" || held.state === "whole";
    if (step === "send") return held.state !== "done";
    return held.state === "part";
  });
  if (!isConsistent) throw malformed("plan", "it does not match the answer");
}

/** How many bytes of an entry need not be sent. */
export function bytesHeld(step: PlanStep, size: number, found: Found | undefined): number {
  if (step === "keep") return size;
  const held = found?.held;
  return step === "continue" && held !== undefined && "length" in held ? held.length : 0;
}
