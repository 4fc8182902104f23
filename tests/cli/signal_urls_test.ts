import { assertEquals } from "@std/assert";
import { readCommand } from "../../lib/cli/arguments.ts";
import { type PeerInput, readSignalUrls } from "../../lib/cli/peer_options.ts";

const VARIABLES: Readonly<Record<string, readonly string[]>> = {
  PUNCHLINE_RENDEZVOUS: ["ws://192.0.2.1:3480"],
  PUNCHLINE_MQTT: ["mqtts://broker.example"],
};

/** Reads variables as they are permitted and set. */
const SECRETS = {
  readAll: (_option: string, texts: readonly string[], variable: string) =>
    Promise.resolve(texts.length > 0 ? texts : VARIABLES[variable]!),
} as unknown as PeerInput["secrets"];

for (
  const [options, urls] of [
    [[], ["ws://192.0.2.1:3480", "mqtts://broker.example"]],
    [["--rendezvous", "ws://192.0.2.9:80"], ["ws://192.0.2.9:80", "mqtts://broker.example"]],
    [["--lan"], ["lan:"]],
    [["--lan", "--rendezvous", "ws://192.0.2.9:80"], ["ws://192.0.2.9:80", "lan:"]],
    [["--hand"], []],
  ] as const
) {
  Deno.test(`listen ${options.join(" ")} with variables that name servers uses ${urls.join(" and ") || "none"}`, async () => {
    assertEquals(await readSignalUrls(readCommand("listen", options), SECRETS), [...urls]);
  });
}
