/**
 * Telling what became of a probe.
 *
 * @module
 */

import { MalformedMessageError, NoResponseError } from "../base/errors.ts";
import { MappingRefusedError, type ProbeResult } from "./mapper.ts";

/** What a gateway that speaks the protocol told. */
export type Told = Omit<Extract<ProbeResult, { kind: "supported" }>, "kind" | "elapsedMs">;

/**
 * Runs a probe. What a gateway says or does not say is a result; anything else is thrown.
 *
 * @param waitsMs how long the probe waits for an answer
 */
export async function probeResult(
  waitsMs: readonly number[],
  probe: () => Promise<Told>,
): Promise<ProbeResult> {
  const startMs = performance.now();
  try {
    const told = await probe();
    return { kind: "supported", ...told, elapsedMs: performance.now() - startMs };
  } catch (error) {
    if (error instanceof MappingRefusedError) return { kind: "refused", error };
    if (error instanceof MalformedMessageError) return { kind: "garbled", reason: error.message };
    if (!(error instanceof NoResponseError)) throw error;
    return { kind: "silent", waitedMs: waitsMs.reduce((sum, waitMs) => sum + waitMs, 0) };
  }
}
