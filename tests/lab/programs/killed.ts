/**
 * Starts a lab with programs that never end, prints the network namespace of its host, and never ends itself.
 *
 * @module
 */

import { Lab } from "../../../lab/kernel/lab.ts";

if (import.meta.main) {
  await using lab = await Lab.start({ hosts: { a: {} } });
  // The second one leaves the process group and the parent that could end it.
  const script = "setsid sleep 1000 & readlink /proc/self/ns/net; sleep 1000";
  const child = lab.host("a").spawn("sh", ["-c", script]);
  await child.status;
}
