// deno-lint-ignore-file no-console
/**
 * Many punches at once in one process, over real sockets: both sides on this host, so that none is in between.
 *
 * ```sh
 * deno run -A --v8-flags=--expose-gc bench/punches_at_once.ts [PAIRS]
 * ```
 *
 * @module
 */

import { punch, type PunchedConn } from "../lib/punch/punch.ts";
import { memoryChannelPair } from "../tests/signal/memory_channel.ts";

const [pairs = 200] = Deno.args.map(Number);
await punchAll(4); // compiles

const before = memoryUsage();
const startedMs = performance.now();
const conns = await punchAll(pairs);
const elapsedMs = performance.now() - startedMs;
const held = memoryUsage();
const met = conns.filter((conn): conn is PunchedConn => !(conn instanceof Error));
const punchMs = met.map(({ punch }) => punch.elapsedMs).sort((a, b) => a - b);
for (const conn of met) conn.close();
console.log(JSON.stringify({
  pairs,
  met: met.length / 2,
  elapsedMs: Math.round(elapsedMs),
  elapsedMsPerPair: round(elapsedMs / pairs),
  medianMs: Math.round(punchMs[Math.floor(punchMs.length / 2)] ?? NaN),
  slowestMs: Math.round(punchMs.at(-1) ?? NaN),
  heapKibPerConnection: round((held.heapUsed - before.heapUsed) / 1024 / conns.length),
  residentKibPerConnection: round((held.rss - before.rss) / 1024 / conns.length),
  errors: conns.filter((conn) => conn instanceof Error).slice(0, 3).map(String),
}));

async function punchAll(pairs: number): Promise<(PunchedConn | Error)[]> {
  const sides = Array.from({ length: pairs }, () => {
    const [a, b] = memoryChannelPair();
    const side = async (channel: typeof a, role: "controlling" | "controlled") =>
      await punch({ channel, role, servers: [] }).catch((error: Error) => error);
    return [side(a, "controlling"), side(b, "controlled")];
  });
  return await Promise.all(sides.flat());
}

function memoryUsage(): Deno.MemoryUsage {
  (globalThis as { gc?: () => void }).gc?.();
  return Deno.memoryUsage();
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
