import { assertEquals } from "@std/assert";
import { readCommand } from "../../lib/cli/arguments.ts";
import type { CliIo } from "../../lib/cli/io.ts";
import { ConnectionEvents } from "../../lib/cli/peer_events.ts";
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
