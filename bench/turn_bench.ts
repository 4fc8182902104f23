// deno-lint-ignore-file no-console
/**
 * The throughput of a relayed stream, compared with a plain TCP forward by another Deno process, and with coturn's own
 * client through the same coturn, in alternating rounds. `baselines/turn.json` keeps the ratios.
 *
 *     deno run -A bench/turn_bench.ts [--update]
 *
 * Fails if a ratio is less than half of the baseline's: coturn alone varies that much on a busy machine. Linux, with
 * coturn installed.
 *
 * @module
 */

import { systemNetwork } from "../lib/net/system.ts";
import type { TransportAddress } from "../lib/net/address.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import type { StreamRelay } from "../lib/turn/stream_relay.ts";
import { CREDENTIAL, LOOPBACK, startTurn, streams } from "../tests/interop/turn_server.ts";

/** The contents of `baselines/turn.json`: the throughput of a relayed stream divided by the other's. */
interface Baseline {
  readonly byPlainForward: number;
  readonly byUclient: number;
}

async function compare(): Promise<Baseline> {
  await using coturn = await startTurn();
  await using relay = await streams(coturn);
  const rounds: Baseline[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const relayed = await measureRelay(relay);
    const forwarded = await measureForward();
    const uclient = await measureUclient(coturn.address);
    console.log(
      `relayed ${megabytes(relayed)}, forwarded ${megabytes(forwarded)}, uclient ${
        megabytes(uclient)
      }`,
    );
    rounds.push({ byPlainForward: relayed / forwarded, byUclient: relayed / uclient });
  }
  const medianOf = (key: keyof Baseline) =>
    rounds.map((round) => round[key]).sort((a, b) => a - b)[Math.floor(ROUNDS / 2)]!;
  return { byPlainForward: medianOf("byPlainForward"), byUclient: medianOf("byUclient") };
}

/** Bytes per second from this process to itself, through coturn. */
async function measureRelay(relay: StreamRelay): Promise<number> {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  using sender = await relay.connect(listener.local);
  using receiver = await listener.accept();
  return await measure(sender, receiver);
}

/** Bytes per second from this process to itself, through a process that only copies. */
async function measureForward(): Promise<number> {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  await using forwarder = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-net", import.meta.filename!, "forward", `${listener.local.port}`],
    stdout: "piped",
  }).spawn();
  const reader = forwarder.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const port = Number((await reader.read()).value);
  await reader.cancel();
  using sender = await systemNetwork.connectTcp({ ip: "127.0.0.1", port });
  using receiver = await listener.accept();
  return await measure(sender, receiver);
}

async function measure(sender: TcpConnection, receiver: TcpConnection): Promise<number> {
  const chunk = new Uint8Array(CHUNK);
  const buffer = new Uint8Array(4 * CHUNK);
  const startMs = performance.now();
  const writing = (async () => {
    for (let written = 0; written < TOTAL;) written += await sender.write(chunk);
  })();
  for (let read = 0; read < TOTAL;) {
    const count = await receiver.read(buffer);
    if (count === null) throw new Error(`Cannot measure: the stream ends at ${read}`);
    read += count;
  }
  await writing;
  return TOTAL / (performance.now() - startMs) * 1000;
}

/**
 * The most that coturn's client received in a second. It sends one message per millisecond and session, so it has enough
 * sessions to keep coturn busy.
 */
async function measureUclient({ ip, port }: TransportAddress): Promise<number> {
  const { stdout, stderr } = await new Deno.Command("turnutils_uclient", {
    args: [
      ...["-T", "-y", "-m", "16", "-n", "2000", "-l", "8000", "-z", "1", "-p", `${port}`],
      ...["-u", CREDENTIAL.username, "-w", CREDENTIAL.password, ip],
    ],
    signal: AbortSignal.timeout(30_000),
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  const received = new Map<number, number>();
  for (const [, second, bytes] of text.matchAll(/^(\d+): .*tot_recv_bytes ~ (\d+)/gm)) {
    received.set(Number(second), Number(bytes));
  }
  const steps = [...received].map(([second, bytes]) => bytes - (received.get(second - 1) ?? bytes));
  const most = Math.max(...steps);
  if (!(most > 0)) throw new Error(`Cannot measure: turnutils_uclient wrote\n${text}`);
  return most;
}

async function forward(targetPort: number): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log(listener.addr.transport === "tcp" ? listener.addr.port : 0);
  const incoming = await listener.accept();
  const outgoing = await Deno.connect({ hostname: "127.0.0.1", port: targetPort });
  listener.close();
  await Promise.allSettled([
    incoming.readable.pipeTo(outgoing.writable),
    outgoing.readable.pipeTo(incoming.writable),
  ]);
}

function megabytes(bytesPerSecond: number): string {
  return `${Math.round(bytesPerSecond / 1e6)} MB/s`;
}

const TOTAL = 64 * 1024 * 1024;
const CHUNK = 64 * 1024;
const ROUNDS = 3;
const TOLERANCE = 0.5;
const BASELINE = new URL("./baselines/turn.json", import.meta.url);

if (import.meta.main && Deno.args[0] === "forward") {
  await forward(Number(Deno.args[1]));
} else if (import.meta.main) {
  const found = await compare();
  console.log(`ratio: ${found.byPlainForward.toFixed(2)} by a plain forward`);
  console.log(`ratio: ${found.byUclient.toFixed(2)} by turnutils_uclient`);
  if (Deno.args.includes("--update")) {
    const rounded = (_: string, ratio: unknown) =>
      typeof ratio === "number" ? Math.round(ratio * 100) / 100 : ratio;
    Deno.writeTextFileSync(BASELINE, JSON.stringify(found, rounded, 2) + "\n");
  } else {
    const baseline: Baseline = JSON.parse(Deno.readTextFileSync(BASELINE));
    for (const key of ["byPlainForward", "byUclient"] as const) {
      if (found[key] >= baseline[key] * TOLERANCE) continue;
      console.log(`${key} is ${found[key].toFixed(2)}, and was ${baseline[key].toFixed(2)}`);
      Deno.exitCode = 1;
    }
  }
}
