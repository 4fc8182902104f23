// deno-lint-ignore-file no-console
/**
 * How much memory a rendezvous takes for each idle client, with and without TLS.
 *
 *     deno run -A --v8-flags=--expose-gc bench/client_memory.ts [CLIENTS]
 *
 * @module
 */

import { systemNetwork } from "../lib/net/system.ts";
import { openTlsAcceptor } from "../lib/net/system/tls_server.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { dialWebSocket } from "../lib/signal/websocket/connection.ts";
import { tlsFixture, TRUSTING_NETWORK } from "../tests/net/tls_fixtures.ts";

/** Serves until a line arrives on stdin, and then prints its memory; ends with stdin. */
async function serve(kind: string): Promise<void> {
  const files = { cert: tlsFixture("server.pem"), key: tlsFixture("server.key") };
  await using server = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    tls: kind === "tls" ? await openTlsAcceptor(files) : undefined,
    limits: { maxConnectionsPerSource: 10_000, sourceBurst: 1e9, maxConnections: 10_000 },
  });
  console.log(server.url.replace("localhost", "127.0.0.1"));
  for await (const _line of Deno.stdin.readable) {
    for (let i = 0; i < 3; i++) {
      (globalThis as { gc?: () => void }).gc?.();
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    console.log(Deno.memoryUsage().rss);
  }
}

async function measure(kind: string, clients: number): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--v8-flags=--expose-gc", import.meta.filename!, "serve", kind],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const stdin = child.stdin.getWriter();
  const url = new URL(`${(await lines.read()).value!.trim()}/topics/1`);
  const memory = async () => {
    await stdin.write(new TextEncoder().encode("\n"));
    return Number((await lines.read()).value);
  };
  const before = await memory();
  const limits = { maxMessageBytes: 4096, maxQueuedBytes: 4096 };
  const sockets = [];
  for (let i = 0; i < clients; i++) {
    sockets.push(await dialWebSocket(url, { network: TRUSTING_NETWORK, limits }));
  }
  const after = await memory();
  for (const socket of sockets) socket.abort();
  await stdin.close();
  child.kill("SIGKILL");
  await child.status;
  return (after - before) / clients / 1024;
}

if (Deno.args[0] === "serve") {
  await serve(Deno.args[1]!);
} else {
  const clients = Number(Deno.args[0] ?? 800);
  for (const kind of ["plain", "tls"]) {
    console.log(
      JSON.stringify({ kind, clients, kibEach: Math.round(await measure(kind, clients)) }),
    );
  }
  Deno.exit();
}
