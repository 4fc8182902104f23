import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { RefusedError, UnreachableError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { PeerProgress } from "../../lib/peer/options.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { AccessKey } from "../../lib/signal/rendezvous/access_key.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { openRelayConnection } from "../../lib/signal/rendezvous/relay_connection.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { webSocketTransport } from "../../lib/signal/rendezvous/transport.ts";
import { simulate } from "../simnet/simulate.ts";

const KEY = "0123456789abcdef";

Deno.test("an access key is the first segment of a path", () => {
  const key = new AccessKey(KEY);
  assertEquals(key.strip(`/${KEY}/topics/1`), "/topics/1");
  assertEquals(key.strip(`/${KEY}/kitchen`), "/kitchen");
  assertEquals(key.strip(`/${KEY}/`), "/");
  for (const path of ["/", "/kitchen", `/${KEY}`, `/${KEY}x/kitchen`, `//${KEY}/kitchen`, ""]) {
    assertEquals(key.strip(path), undefined, path);
  }
});

for (const bad of ["", "short", "with a space in it", "ümlaut-0123456789", "x".repeat(129)]) {
  Deno.test(`not an access key: ${JSON.stringify(bad).slice(0, 30)}`, () => {
    const error = assertThrows(() => new AccessKey(bad), TypeError);
    assertEquals(error.message.includes(bad) && bad !== "", false);
  });
}

Deno.test("neither events nor attempts nor errors of peers show the key", async () => {
  await using server = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    accessKey: KEY,
    limits: { maxRelays: 0 },
  });
  const seen: PeerProgress[] = [];
  const onProgress = (progress: PeerProgress) => seen.push(progress);
  const url = `ws://127.0.0.1:${server.local.port}/${KEY}`;
  const options = { signaling: [url], servers: [], mapPorts: false, relayOnly: true, onProgress };
  await using listener = await Peer.open(options);
  await using dialer = await Peer.open({ ...options, listen: false });
  const accepting = listener.nextIncoming().then((incoming) => incoming.accept());
  const errors = await Promise.all(
    [dialer.connect(listener.ticket), accepting].map((each) =>
      assertRejects(() => each, UnreachableError)
    ),
  );
  const shown = `ws://127.0.0.1:${server.local.port}/…`;
  for (const { attempts } of errors) {
    assertEquals(attempts.map(({ remote }) => remote), [shown]);
    assertEquals(attempts.map(({ candidates }) => candidates[0]?.remote), [shown]);
  }
  assertEquals(new Set(seen.flatMap((each) => "url" in each ? [each.url] : [])), new Set([shown]));
  const all = JSON.stringify([seen, errors.map(({ message, attempts }) => [message, attempts])]);
  assertEquals(all.includes(KEY), false, all);
});

Deno.test("a private server serves those who know the key, and answers 404 to all others", () =>
  simulate(async ({ internet }) => {
    const { network, addresses } = internet.host("server", {});
    const client = internet.host("client", {});
    const local = { ip: addresses[0]!, port: 3480 };
    await using server = await serveRendezvous({ network, local, accessKey: KEY });
    assertEquals(server.url, `ws://${addresses[0]}:3480/${KEY}`);
    {
      await using _topics = await webSocketTransport(server.url).open(client);
      await using _room = await openWebSocketChannel(server.url, "kitchen", client);
      using _relay = await openRelayConnection(server.url, {
        ...client,
        token: new Uint8Array(32),
      });
    }
    const wrong = server.url.replace(KEY, "fedcba9876543210");
    for (const url of [wrong, `ws://${addresses[0]}:3480`]) {
      const tries = [
        () => webSocketTransport(url).open(client),
        () => openWebSocketChannel(url, "kitchen", client),
        () => openRelayConnection(url, { ...client, token: new Uint8Array(32) }),
      ];
      for (const open of tries) {
        const error = await open().then(() => undefined, (error) => error);
        assertEquals(error instanceof RefusedError && error.code, 404);
        if (open !== tries[2]) {
          assertStringIncludes(error.message, "access key in the URL is wrong");
        }
      }
    }
  }));
