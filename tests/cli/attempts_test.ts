import { assertEquals } from "@std/assert";
import type { CliIo } from "../../lib/cli/io.ts";
import { ConnectionEvents } from "../../lib/cli/peer_events.ts";
import { noTerminal } from "./no_terminal.ts";

Deno.test("what a server says about an attempt stays within its line", () => {
  const lines: string[] = [];
  const io = { ...noTerminal(), err: (line: string) => void lines.push(line) } as unknown as CliIo;
  new ConnectionEvents(io, { asJson: false }).attempts([{
    kind: "relay",
    method: null,
    transport: "tcp",
    local: null,
    remote: "ws://192.0.2.1:3480",
    candidates: [],
    outcome: "refused",
    elapsedMs: 5,
    tries: 0,
    resets: 0,
    reason: "no\nConnected, all is well",
  }]);
  assertEquals(lines, [
    "  relay to ws://192.0.2.1:3480: refused after 5 ms: no\\nConnected, all is well",
  ]);
});
