/**
 * The fields of events that `listen`, `connect` and `punch` print with `--json`, in order.
 *
 * @module
 */

const PATH = ["strategy", "method", "transport", "local", "remote"] as const;

export const ATTEMPT_KEYS: readonly string[] = [
  ...["event", ...PATH, "candidates", "outcome", "reason", "remedy", "elapsedMs"],
  ...["tries", "resets"],
];

export const CONNECTED_KEYS: readonly string[] = [
  ...["event", ...PATH, "relayed", "elapsedMs", "punchMs", "attempts"],
];
