// deno-lint-ignore-file no-console
/**
 * How long a message takes from one peer to another through the topics of a rendezvous server in another process,
 * compared with a bare TCP echo: see `signal_latency.ts`. `baselines/signal.json` keeps the ratio.
 *
 *     deno run -A bench/signal_bench.ts [--update]
 *
 * Fails if the ratio is more than twice the baseline's.
 *
 * @module
 */

import { systemNetwork } from "../lib/net/system.ts";
import { serveRendezvous, webSocketTransport } from "../lib/signal/mod.ts";
import { compareWithEcho, judge, startEcho } from "./signal_latency.ts";

async function measure() {
  await using server = await startServer();
  await using echo = await startEcho();
  const transport = webSocketTransport(server.url);
  return { webSocket: await compareWithEcho("WebSocket topics", transport, echo.connection) };
}

async function startServer(): Promise<AsyncDisposable & { url: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--unstable-net", "--allow-net", import.meta.filename!, "serve"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const url = (await reader.read()).value!.trim();
  await reader.cancel();
  return {
    url,
    async [Symbol.asyncDispose]() {
      await child.stdin.close();
      await child.status;
    },
  };
}

/** Serves until stdin ends. The rate is unlimited, because latency is measured. */
async function serve(): Promise<void> {
  await using server = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    limits: { topicBurst: Number.MAX_SAFE_INTEGER, sourceBurst: Number.MAX_SAFE_INTEGER },
  });
  console.log(server.url);
  await Deno.stdin.read(new Uint8Array(1));
}

if (import.meta.main && Deno.args[0] === "serve") await serve();
else if (import.meta.main) {
  judge(await measure(), new URL("./baselines/signal.json", import.meta.url));
}
