// Failures of dials, caused by nftables in a network namespace of its own.

import { assertEquals } from "@std/assert";
import { labTest } from "../lab/lab_test_case.ts";
import { NetworkPlace } from "./network_place.ts";

const RULES = `
table inet filter {
  chain input {
    type filter hook input priority 0;
    tcp dport 2 reject with tcp reset
    tcp dport 3 reject with icmp port-unreachable
    tcp dport 4 reject with icmp host-unreachable
    tcp dport 5 reject with icmp net-unreachable
    tcp dport 6 reject with icmp admin-prohibited
  }
}`;

labTest("connectTcp() distinguishes a refusal from an ICMP error", async () => {
  await using place = await NetworkPlace.open("dialler");
  await place.sh(`nft -f - <<'END'\n${RULES}\nEND`);
  const scenario = new URL("./dial_errors_kernel_scenario.ts", import.meta.url).pathname;
  const { stdout, stderr } = await place.output(Deno.execPath(), [
    ...["run", "--allow-net", scenario],
    ...["1", "2", "3", "4", "5", "6"],
  ]);
  assertEquals(stdout.trim().split("\n"), [
    ...["refused", "refused", "refused"],
    ...["unreachable", "unreachable", "unreachable"],
  ], stderr);
});
