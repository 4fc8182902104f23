/**
 * For `deno run --preload`: the wall clock of this process jumps ten years ahead with SIGUSR1, and ten years back with
 * SIGUSR2.
 *
 * @module
 */

const TEN_YEARS_MS = 10 * 365 * 86_400_000;

let offsetMs = 0;
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...args: unknown[]) {
    super(...(args.length === 0 ? [RealDate.now() + offsetMs] : args) as [number]);
  }
  static override now(): number {
    return RealDate.now() + offsetMs;
  }
} as DateConstructor;

Deno.addSignalListener("SIGUSR1", () => offsetMs += TEN_YEARS_MS);
Deno.addSignalListener("SIGUSR2", () => offsetMs -= TEN_YEARS_MS);
