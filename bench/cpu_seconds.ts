/**
 * How much processor time a process has used. Linux.
 *
 * @module
 */

/** The seconds of all threads of a process, in user mode and in the kernel, since it started. */
export function cpuSeconds(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
