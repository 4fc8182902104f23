/**
 * For `deno run --preload`: the wall clock of this process jumps ahead with SIGUSR1, and back with SIGUSR2, by as
 * many milliseconds as `CLOCK_JUMP_MS` says.
 *
 * @module
 */

const JUMP_MS = Number(Deno.env.get("CLOCK_JUMP_MS"));

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

Deno.addSignalListener("SIGUSR1", () => offsetMs += JUMP_MS);
Deno.addSignalListener("SIGUSR2", () => offsetMs -= JUMP_MS);
