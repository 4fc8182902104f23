// The TCP filter test through nftables filters in a network namespace of its own:
//
//   client 127.0.0.1:4000x  --- nftables --- server 127.0.0.1 and 127.0.0.2

import { assertEquals } from "@std/assert";
import { labTest } from "../lab/lab_test_case.ts";
import { privilegedCommand } from "../../lab/kernel/privileges.ts";

const RULES = `
table inet filter {
  chain input {
    type filter hook input priority 0;
    tcp flags & (syn | ack) != syn accept
    tcp dport 40002 drop
    tcp dport 40003 reject with tcp reset
    tcp dport 40004 ip saddr 127.0.0.2 drop
    tcp dport 40005 ip saddr 127.0.0.2 reject with tcp reset
    tcp dport 40006 reject with icmpx admin-prohibited
    tcp dport 40007 ip saddr 127.0.0.1 numgen inc mod 3 != 2 drop
    tcp dport 40007 ip saddr 127.0.0.2 numgen inc mod 3 != 2 drop
  }
}`;

const SCENARIO = new URL("./tcp_filter_kernel_scenario.ts", import.meta.url).pathname;

async function run(ports: readonly number[]): Promise<unknown[]> {
  const script = `ip link set lo up && nft -f - <<'RULES' && exec "$@"${"\n"}${RULES}\nRULES\n`;
  const [command, ...args] = privilegedCommand([
    ...["unshare", "--net", "--", "sh", "-c", script, "sh"],
    ...[Deno.execPath(), "run", "--allow-net", SCENARIO, ...ports.map(String)],
  ]);
  const signal = AbortSignal.timeout(60_000);
  const { stdout, stderr } = await new Deno.Command(command!, { args, signal }).output();
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  if (lines.length !== ports.length) throw new Error(new TextDecoder().decode(stderr));
  return lines.map((line) => JSON.parse(line));
}

labTest("testTcpFilter() distinguishes the filters of the kernel", async () => {
  const found = await run([40001, 40002, 40003, 40004, 40005, 40006]);
  assertEquals(found, [
    { sameAddress: "accepted", alternateAddress: "accepted", dials: [1, 1] },
    { sameAddress: "dropped", alternateAddress: "dropped", dials: [3, 3] },
    { sameAddress: "reset", alternateAddress: "reset", dials: [1, 1] },
    { sameAddress: "accepted", alternateAddress: "dropped", dials: [1, 3] },
    { sameAddress: "accepted", alternateAddress: "reset", dials: [1, 1] },
    { sameAddress: "unknown", alternateAddress: "unknown", dials: [3, 3] },
  ]);
});

labTest("testTcpFilter() does not mistake two lost SYNs of three for a filter", async () => {
  const [found] = await run([40007]) as { sameAddress: string; alternateAddress: string }[];
  assertEquals([found?.sameAddress, found?.alternateAddress], ["accepted", "accepted"]);
});
