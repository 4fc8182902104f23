/**
 * What this program may do. Never prompts.
 *
 * @module
 */

/** Whether everything of this kind is permitted. */
export function isFullyGranted(name: "net" | "read" | "write"): boolean {
  return Deno.permissions.querySync({ name }).state === "granted";
}
