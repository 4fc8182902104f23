/**
 * How long to wait for gateways, as data.
 *
 * @module
 */

/** RFC 6886 §3.1: 250 ms, doubled each time, nine requests: 127.75 s in all. */
export const RFC6886_WAITS_MS: readonly number[] = doubling(250, 9, Infinity);

/**
 * RFC 6887 §8.1.1: IRT 3 s, doubled up to MRT 1024 s. The RFC goes on for ever; these are fourteen requests in 102
 * minutes, after which whoever still wants a mapping asks anew.
 */
export const RFC6887_WAITS_MS: readonly number[] = doubling(3000, 14, 1_024_000);

/**
 * Ours: the first three of RFC 6886, 1.75 s in all. For PCP they depart from RFC 6887 §8.1.1, by which a request must
 * not be repeated before 3 s (a SHOULD): a person waits for the answer, and gateways are a millisecond away. Go on
 * with the RFC's waits in the background.
 */
export const FAST_WAITS_MS: readonly number[] = RFC6886_WAITS_MS.slice(0, 3);

/** RFC 6887 §8.1.1: each wait made up to a tenth shorter or longer, so that hosts do not ask in step. */
export function withJitter(waitsMs: readonly number[], random: () => number): number[] {
  return waitsMs.map((waitMs) => Math.round(waitMs * (0.9 + 0.2 * random())));
}

function doubling(firstMs: number, count: number, maximumMs: number): number[] {
  return Array.from({ length: count }, (_, index) => Math.min(firstMs * 2 ** index, maximumMs));
}
