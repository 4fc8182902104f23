/**
 * `map_many.ts COUNT CALLERS release|abort`: maps COUNT ports, CALLERS at a time, and releases them, or aborts each call
 * at some time between its start and shortly after its end. Prints JSON.
 *
 * @module
 */

import { mapPort } from "../../../lib/portmap/map_port.ts";

const [count = "", callers = "", end] = Deno.args;
const ports = Array.from({ length: Number(count) }, (_, index) => 20_000 + index);
const startMs = performance.now();
let granted = 0;
await Promise.all(Array.from({ length: Number(callers) }, async () => {
  for (let port = ports.pop(); port !== undefined; port = ports.pop()) {
    if (end === "abort") await mapAndAbort(port);
    else await mapAndRelease(port);
  }
}));
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify({ granted, elapsedMs: performance.now() - startMs }));

async function mapAndRelease(internalPort: number): Promise<void> {
  await using mapping = await mapPort({ protocol: "tcp", internalPort });
  if (mapping.external.port === internalPort) granted++;
}

async function mapAndAbort(internalPort: number): Promise<void> {
  const abort = new AbortController();
  setTimeout(() => abort.abort(), internalPort % 20);
  try {
    const mapping = await mapPort({ protocol: "tcp", internalPort, signal: abort.signal });
    for await (const { event } of mapping.events) if (event === "mapped") granted++;
  } catch (error) {
    if (error !== abort.signal.reason) throw error;
  }
}
