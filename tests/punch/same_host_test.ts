import { assert, assertEquals } from "@std/assert";
import type { Network } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { spell } from "../../lib/punch/nomination.ts";
import { isOnSameHost } from "../../lib/punch/same_host.ts";

const signal = new AbortController().signal;
const secret = new Uint8Array(32).fill(1);

Deno.test("isOnSameHost() proves to both sides that they are on one host, in a few milliseconds", async () => {
  const options = { network: systemNetwork, secret, signal };
  const startedAtMs = performance.now();
  const sides = (["controlling", "controlled"] as const).map((role) =>
    isOnSameHost({ ...options, role })
  );
  assertEquals(await Promise.all(sides), [true, true]);
  assert(performance.now() - startedAtMs < 900);
});

Deno.test("isOnSameHost() keeps pairs apart that meet at the same time", async () => {
  const pairs = await Promise.all(Array.from({ length: 10 }, () => {
    const options = {
      network: systemNetwork,
      secret: crypto.getRandomValues(new Uint8Array(32)),
      signal,
    };
    return Promise.all([
      isOnSameHost({ ...options, role: "controlling" }),
      isOnSameHost({ ...options, role: "controlled" }),
    ]);
  }));
  assertEquals(pairs, Array(10).fill([true, true]));
});

Deno.test("isOnSameHost() rejects silence, another secret, and its own token", async () => {
  const network = systemNetwork;
  const other = new Uint8Array(32).fill(2);
  const wait = { network, timeoutMs: 100, signal };
  assertEquals(await isOnSameHost({ ...wait, secret, role: "controlling" }), false);
  assertEquals(
    await Promise.all([
      isOnSameHost({ ...wait, secret, role: "controlling" }),
      isOnSameHost({ ...wait, secret, role: "controlling" }),
      isOnSameHost({ ...wait, secret: other, role: "controlled" }),
    ]),
    [false, false, false],
  );
});

Deno.test("isOnSameHost() sends to ports of its own choice on loopback, and nowhere else", async () => {
  const sent: string[] = [];
  const network: Network = {
    ...systemNetwork,
    bindUdp: async (local) => {
      const socket = await systemNetwork.bindUdp(local);
      const send = socket.send.bind(socket);
      return Object.assign(socket, {
        send: (data: Uint8Array, to: { ip: string; port: number }) => {
          sent.push(to.ip);
          assert(to.port >= 23_472 && to.port < 23_536);
          return send(data, to);
        },
      });
    },
  };
  await isOnSameHost({ network, secret, role: "controlling", timeoutMs: 50, signal });
  assertEquals([...new Set(sent)], ["127.0.0.1"]);
});

Deno.test("spell() writes neither letters nor control characters, and keeps every bit", () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
  const spelled = spell(bytes);
  assert(spelled.every((byte) => byte >= 0xb0 && byte <= 0xbf));
  const read = bytes.map((_, i) => (spelled[2 * i]! & 15) << 4 | spelled[2 * i + 1]! & 15);
  assertEquals(read, bytes);
});
