/**
 * What the programs that send and receive files tell the one that has started them.
 *
 * @module
 */

/** Prints an event as a line of JSON. */
export function print(event: Readonly<Record<string, unknown>>): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(event)}\n`);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/** The most memory that this process has had at once (Linux). */
export function peakMemoryBytes(): number {
  const status = Deno.readTextFileSync("/proc/self/status");
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
