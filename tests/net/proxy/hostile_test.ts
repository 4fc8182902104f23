/**
 * Proxies that want to hold a client up, or fill its memory; in virtual time.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { NetworkError } from "../../../lib/base/errors.ts";
import { throughProxy } from "../../../lib/net/proxy/client.ts";
import type { TcpConnection } from "../../../lib/net/network.ts";
import { simulate } from "../../simnet/simulate.ts";

const PORT = 3128;

/** What becomes of a connection through a proxy that behaves so; and when, and how much the proxy got rid of. */
async function failureOf(
  scheme: "http" | "socks5",
  behave: (connection: TcpConnection, send: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<{ error: NetworkError; afterMs: number; sentBytes: number }> {
  return await simulate(async ({ internet, time }) => {
    const link = { delayMs: 5 };
    const [host, client] = [internet.host("proxy", { link }), internet.host("a", { link })];
    const ip = host.addresses[0]!;
    using listener = await host.network.listenTcp({ ip, port: PORT });
    let sentBytes = 0;
    const serving = (async () => {
      const connection = await listener.accept();
      try {
        await behave(connection, async (bytes) => {
          for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
          sentBytes += bytes.length;
        });
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error; // the client has had enough
      }
      connection.reset();
    })();
    const proxy = throughProxy(client.network, { url: `${scheme}://${ip}:${PORT}` });
    const startedMs = time.nowMs;
    const dial = () =>
      proxy.networkFor("meet.example").connectTcp({ ip: "198.51.100.1", port: 443 });
    const error = await assertRejects(dial, NetworkError);
    const afterMs = time.nowMs - startedMs;
    await serving;
    return { error, afterMs, sentBytes };
  });
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

for (const scheme of ["http", "socks5"] as const) {
  Deno.test(`a ${scheme} proxy that accepts and says nothing is left after 12 s`, async () => {
    const { error, afterMs } = await failureOf(scheme, async (connection) => {
      while (await connection.read(new Uint8Array(99)) !== null);
    });
    assertEquals([error.reason, Math.round(afterMs)], ["timed-out", 12_000]);
    assertStringIncludes(error.message, "no answer in 12 s");
  });

  Deno.test(`a ${scheme} proxy that sends a byte a second is left after 12 s`, async () => {
    const answer = scheme === "http"
      ? "HTTP/1.1 200 OK\r\nX-Padding: and so on\r\n"
      : "\x05\x00\x05\x00\x00\x03\xff";
    const { error, afterMs } = await failureOf(scheme, async (_connection, send) => {
      for (const byte of new TextEncoder().encode(answer.repeat(10))) {
        await send(new Uint8Array([byte & 0xff]));
        await pause(1000);
      }
    });
    assertEquals([error.reason, Math.round(afterMs)], ["timed-out", 12_000]);
  });
}

Deno.test("a proxy whose head has no end is left after 8 KiB, however fast it sends", async () => {
  const { error, sentBytes } = await failureOf("http", async (_connection, send) => {
    await send(new TextEncoder().encode("HTTP/1.1 200 OK\r\n"));
    for (let count = 0; count < 1000; count++) {
      await send(new TextEncoder().encode(`X-${count}: ${"a".repeat(1000)}\r\n`));
    }
  });
  assertEquals(error.reason, "proxy");
  assertStringIncludes(error.message, "more than 8192 bytes");
  assert(sentBytes < 500_000, `${sentBytes} bytes`); // what its buffers and the link hold
});

Deno.test("a proxy that announces a long address and sends none is left in time", async () => {
  const { error, afterMs } = await failureOf("socks5", async (connection, send) => {
    await connection.read(new Uint8Array(99));
    await send(new Uint8Array([5, 0]));
    await connection.read(new Uint8Array(99));
    await send(new Uint8Array([5, 0, 0, 3, 255, 1, 2, 3]));
    while (await connection.read(new Uint8Array(99)) !== null);
  });
  assertEquals([error.reason, Math.round(afterMs)], ["timed-out", 12_000]);
});
