import { assertEquals } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { NetworkWatch } from "../../lib/cli/network_watch.ts";
import { ConnectionEvents } from "../../lib/cli/peer_events.ts";
import type { CliIo } from "../../lib/cli/io.ts";
import { PRIMARY, withScene, withServer } from "../scenes/nat_scene.ts";

/** What a watch reports, and which addresses it dials, if a server with this URL cannot be opened. */
async function watchOf(
  url: string,
  { named = [], error }: { named?: readonly string[]; error?: unknown } = {},
): Promise<{ kinds: string[]; dialled: string[] }> {
  return await withScene({ router: { blocks: ["udp", "tcp"] } }, async ({ client, internet }) => {
    internet.names.set("inside.example.net", ["192.168.7.1"]);
    internet.names.set("outside.example.net", ["8.8.4.4"]);
    const dialled = new Set<string>();
    const network: typeof client.network = {
      ...client.network,
      connectTcp: (to, options) => {
        dialled.add(to.ip);
        return client.network.connectTcp(to, options);
      },
    };
    const lines: string[] = [];
    const io = { err: (line: string) => lines.push(line) } as unknown as CliIo;
    const events = new ConnectionEvents(io, { asJson: true });
    await using watch = new NetworkWatch(events, named, { network });
    watch.onProgress({ event: "signaling", url, state: "opening" });
    if (error !== undefined) watch.onProgress({ event: "signaling", url, state: "failed", error });
    await watch.explain();
    const found = lines.map((line) => JSON.parse(line)).filter(({ event }) => event === "finding");
    return { kinds: found.map(({ kind }) => kind), dialled: [...dialled] };
  });
}

for (
  const [what, url, options, kinds, dialled] of [
    ["a server on the internet", "wss://outside.example.net", {}, ["blocked"], ["8.8.4.4"]],
    [
      "a server inside that the user named",
      "ws://inside.example.net:3480",
      {
        named: ["ws://inside.example.net:3480"],
      },
      ["blocked", "dns"],
      ["192.168.7.1"],
    ],
    ["a server inside that a ticket names", "ws://inside.example.net:3480", {}, [], []],
    ["an address inside that a ticket names", "ws://192.168.7.1:3480", {}, [], []],
    [
      "a server that the user has to name first",
      "ws://outside.example.net",
      {
        error: new NetworkError("Cannot use it", "not-allowed"),
      },
      [],
      [],
    ],
    ["this host", "ws://127.0.0.1:3480", {}, [], []],
    ["the local network", "lan:", {}, [], []],
    ["a name that does not exist", "ws://no.example.net", {}, ["dns"], []],
  ] as const
) {
  Deno.test(`a watch over ${what} finds ${kinds.join() || "nothing"}`, async () => {
    assertEquals(await watchOf(url, options), { kinds: [...kinds], dialled: [...dialled] });
  });
}

Deno.test("a watch says that TCP is blocked if a STUN server answers over UDP, and asks none if it must not", async () => {
  for (const servers of [[PRIMARY], []]) {
    await withServer({ router: { blocks: ["tcp"] } }, async ({ client, internet }) => {
      internet.names.set("outside.example.net", ["8.8.4.4"]);
      const lines: string[] = [];
      const io = { err: (line: string) => lines.push(line) } as unknown as CliIo;
      const events = new ConnectionEvents(io, { asJson: true });
      const { network } = client;
      await using watch = new NetworkWatch(events, [], { network, servers });
      const url = "wss://outside.example.net:3480";
      watch.onProgress({ event: "signaling", url, state: "opening" });
      await watch.explain();
      const [found] = lines.map((line) => JSON.parse(line))
        .filter(({ event }) => event === "finding");
      assertEquals(found.kind, servers.length > 0 ? "tcp-blocked" : "blocked");
      if (servers.length === 0) return;
      assertEquals(
        found.summary,
        "TCP is blocked: no connection to ports 80, 443 and 3480 of the servers got through, while UDP is answered",
      );
    });
  }
});
