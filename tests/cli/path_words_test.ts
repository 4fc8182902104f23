import { assertEquals } from "@std/assert";
import { readCommand } from "../../lib/cli/arguments.ts";
import type { CliIo } from "../../lib/cli/io.ts";
import { ConnectionEvents, routeInWords } from "../../lib/cli/peer_events.ts";
import { rulesOutDirect } from "../../lib/cli/peer_options.ts";
import type { PeerPath } from "../../lib/peer/connection.ts";

const RELAYED = { kind: "relay", method: null, transport: "tcp", relayed: true } as PeerPath;

for (
  const [options, text] of [
    [[], "relay, still looking for a direct path"],
    [["--strategy", "lan,relay"], "relay, still looking for a direct path"],
    [["--strategy", "relay"], "relay"],
    [["--relay-only"], "relay"],
  ] as const
) {
  Deno.test(`connect ${options.join(" ")} over a relay says: ${text}`, () => {
    const isRelayOnly = rulesOutDirect(readCommand("connect", ["laptop", ...options]));
    const events = new ConnectionEvents({} as CliIo, { asJson: false, isRelayOnly });
    assertEquals(events.pathOrSearch(RELAYED), text);
  });
}

const [PUNCHED_TCP, PUNCHED_UDP] = [
  { kind: "punch-tcp", transport: "tcp" },
  { kind: "punch-udp", transport: "udp" },
] as const;

for (
  const [path, route] of [
    [{ ...PUNCHED_TCP, method: "simultaneous-open" }, "by TCP simultaneous open"],
    [{ ...PUNCHED_UDP, method: "simultaneous-open" }, "by UDP hole punching"],
    [{ ...PUNCHED_TCP, method: "one-sided-open" }, "by TCP hole punching, opened by one side"],
    [{ ...PUNCHED_UDP, method: "port-prediction" }, "by UDP hole punching by port prediction"],
    [{ ...PUNCHED_UDP, method: "birthday" }, "by UDP hole punching by many ports at once"],
    [{ kind: "lan", method: null, transport: "tcp" }, "over the local network"],
    [{ kind: "relay", method: null, transport: "tcp" }, "over a relay"],
  ] as const
) {
  Deno.test(`send and recv say: Sent 3 files, ${route}`, () => {
    assertEquals(routeInWords(path), route);
  });
}
