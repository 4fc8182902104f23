// deno-lint-ignore-file no-console
/**
 * What encryption costs: a connection secured with Noise beside a plain one, over loopback to another process, in
 * rounds that take turns. Machines and their moods differ, so what counts is the ratio of two rounds that follow each
 * other; `baselines/noise.json` keeps the medians.
 *
 *     deno run -A bench/noise_bench.ts [--update]
 *
 * Fails if a figure is less than half as good as the baseline's. The round trip depends on what else the machine does:
 * where a processor sleeps between two messages, waking it hides most of what the cipher costs.
 *
 * @module
 */

import type { TransportAddress } from "../lib/net/address.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { generateKeyPair, KeyPair, secureConnection } from "../lib/noise/mod.ts";
import { answerStream, compareBulk, compareRoundTrips, type Stream } from "./compare_streams.ts";
import { median } from "./median.ts";

/** What `baselines/noise.json` keeps. */
interface Figures {
  /** Bytes a second, writing 64 KiB at a time: secured by plain. */
  readonly bulkRatio: number;
  /** Milliseconds of a message of 64 bytes and its echo: secured by plain. */
  readonly roundTripRatio: number;
  /** Of an IK handshake on a connection that is open. */
  readonly handshakeMs: number;
  /** Of the first one in two processes that have just started. */
  readonly firstHandshakeMs: number;
}

async function measure(): Promise<Figures> {
  await using server = new Deno.Command(Deno.execPath(), {
    args: ["run", "--unstable-net", "--allow-net", import.meta.filename!, "serve"],
    stdout: "piped",
  }).spawn();
  await server.stdout.getReader({ mode: "byob" }).read(new Uint8Array(1)); // it listens
  const firstHandshakeMs = await handshake();
  const handshakeMs = await medianOf(HANDSHAKES, handshake);
  const roundTripRatio = await compareRoundTrips(PLAIN, SECURED);
  const bulkRatio = await compareBulk(PLAIN, SECURED);
  return { bulkRatio, roundTripRatio, handshakeMs, firstHandshakeMs };
}

async function handshake(): Promise<number> {
  using connection = await systemNetwork.connectTcp(SECURE_ADDRESS);
  const start = performance.now();
  using _secured = await secure(connection, "initiator");
  return performance.now() - start;
}

async function serve(address: TransportAddress): Promise<void> {
  using listener = await systemNetwork.listenTcp(address);
  await Deno.stdout.write(Uint8Array.of(0x2e));
  for (;;) {
    const connection = await listener.accept();
    answer(connection, address === SECURE_ADDRESS).catch(() => connection.close()); // the handshakes are cut short
  }
}

async function answer(connection: TcpConnection, isSecure: boolean): Promise<void> {
  using opened = isSecure ? await secure(connection, "responder") : connection;
  await answerStream(opened);
}

function secure(connection: TcpConnection, role: "initiator" | "responder") {
  const signal = AbortSignal.timeout(10_000);
  return secureConnection(connection, {
    ...{ pattern: "IK", role, signal },
    staticKey: role === "responder" ? RESPONDER_KEY : generateKeyPair(),
    remoteStaticKey: role === "responder" ? undefined : RESPONDER_KEY.publicKey,
  });
}

async function medianOf(times: number, measure: () => Promise<number>): Promise<number> {
  const found: number[] = [];
  for (let i = 0; i < times; i++) found.push(await measure());
  return median(found);
}

const PLAIN_ADDRESS: TransportAddress = { ip: "127.0.0.1", port: 34_791 };
const SECURE_ADDRESS: TransportAddress = { ip: "127.0.0.1", port: 34_792 };
const PLAIN: Stream = { name: "plain", open: () => systemNetwork.connectTcp(PLAIN_ADDRESS) };
const SECURED: Stream = {
  name: "secured",
  open: async () => await secure(await systemNetwork.connectTcp(SECURE_ADDRESS), "initiator"),
};
const RESPONDER_KEY = new KeyPair(new Uint8Array(32).fill(0x42));
const HANDSHAKES = 31;
const BASELINE = new URL("./baselines/noise.json", import.meta.url);

/** A figure may be this much worse than the baseline's. */
const TOLERANCE = 2;

if (import.meta.main && Deno.args[0] === "serve") {
  await Promise.all([serve(PLAIN_ADDRESS), serve(SECURE_ADDRESS)]);
} else if (import.meta.main) {
  const figures = await measure();
  for (const [name, figure] of Object.entries(figures)) {
    console.log(`${name}: ${figure.toFixed(2)}`);
  }
  if (Deno.args.includes("--update")) {
    const round = (_: string, figure: unknown) =>
      typeof figure === "number" ? Math.round(figure * 100) / 100 : figure;
    Deno.writeTextFileSync(BASELINE, JSON.stringify(figures, round, 2) + "\n");
  } else {
    const baseline: Figures = JSON.parse(Deno.readTextFileSync(BASELINE));
    for (const key of ["bulkRatio", "roundTripRatio", "handshakeMs"] as const) {
      const worse = key === "bulkRatio"
        ? baseline[key] / figures[key]
        : figures[key] / baseline[key];
      if (worse <= TOLERANCE) continue;
      console.log(`${key} is ${figures[key].toFixed(2)}, and was ${baseline[key]}`);
      Deno.exitCode = 1;
    }
  }
}
