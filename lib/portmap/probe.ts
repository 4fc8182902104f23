/**
 * Probing: does a gateway speak a protocol?
 *
 * @module
 */

import { MalformedMessageError, NoResponseError } from "../base/errors.ts";
import { MappingRefusedError, type ProbeAnswer, type ProbeResult } from "./mapper.ts";

/**
 * Runs a probe. Whatever the gateway does is a result, silence included; any other failure is thrown.
 *
 * @param waitsMs how long the probe waits for an answer
 */
export async function probeResult(
  waitsMs: readonly number[],
  probe: () => Promise<ProbeAnswer>,
): Promise<ProbeResult> {
  const startMs = performance.now();
  try {
    const answer = await probe();
    return { kind: "supported", ...answer, elapsedMs: performance.now() - startMs };
  } catch (error) {
    if (error instanceof MappingRefusedError) return { kind: "refused", error };
    if (error instanceof MalformedMessageError) return { kind: "garbled", reason: error.message };
    if (!(error instanceof NoResponseError)) throw error;
    return { kind: "silent", waitedMs: waitsMs.reduce((sum, waitMs) => sum + waitMs, 0) };
  }
}
