// deno-lint-ignore-file no-console
/**
 * How long it takes to send and receive 256 MiB over loopback in pieces of 64 KiB, with a connection of this library and
 * with one of `Deno.connect`, in alternating rounds, with the same `Deno.Conn` in another process at the other end.
 * Machines and their load vary, so only the ratio of the medians counts; `baselines/conn.json` keeps it.
 *
 *     deno run -A bench/conn_bench.ts [--update]
 *
 * Fails if a ratio is less than 80 % of the baseline's.
 *
 * @module
 */

import { toDenoConn } from "../lib/net/deno_conn.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { median } from "./median.ts";

/** The contents of `baselines/conn.json`: Deno's time divided by ours. More than 1 means that we are faster. */
interface Baseline {
  readonly sendRatio: number;
  readonly receiveRatio: number;
}

type Direction = "send" | "receive";

async function compare(): Promise<Baseline> {
  await using peer = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", import.meta.filename!, "peer"],
    stdout: "piped",
  }).spawn();
  const port = await readPort(peer.stdout);
  const dials: Record<string, () => Promise<Deno.Conn>> = {
    deno: () => Deno.connect({ hostname: "127.0.0.1", port }),
    ours: async () => toDenoConn(await systemNetwork.connectTcp({ ip: "127.0.0.1", port })),
  };
  const times = new Map<string, number[]>();
  for (let round = 0; round < ROUNDS; round++) {
    const turns = Object.entries(dials);
    if (round % 2 === 1) turns.reverse(); // the order may matter, so it alternates
    for (const [name, dial] of turns) {
      for (const direction of ["send", "receive"] as const) {
        using conn = await dial();
        const key = `${name} ${direction}`;
        times.set(key, [...times.get(key) ?? [], await measure(conn, direction)]);
      }
    }
  }
  for (const [key, all] of times) {
    const rate = TOTAL_BYTES / 1e6 / median(all);
    console.log(`${key}: ${median(all).toFixed(0)} ms, ${rate.toFixed(2)} GB/s`);
  }
  peer.kill();
  const ratio = (direction: Direction) =>
    median(times.get(`deno ${direction}`)!) / median(times.get(`ours ${direction}`)!);
  return { sendRatio: ratio("send"), receiveRatio: ratio("receive") };
}

async function measure(conn: Deno.Conn, direction: Direction): Promise<number> {
  const startedMs = performance.now();
  await conn.write(new Uint8Array([direction === "send" ? 1 : 0]));
  if (direction === "send") {
    await send(conn);
    await conn.read(new Uint8Array(1)); // the peer has it all
  } else {
    await receive(conn);
  }
  return performance.now() - startedMs;
}

async function send(conn: Deno.Conn): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  for (let left = TOTAL_BYTES; left > 0;) left -= await conn.write(piece.subarray(0, left));
  await conn.closeWrite();
}

async function receive(conn: Deno.Conn): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  let received = 0;
  for (let length; (length = await conn.read(piece)) !== null;) received += length;
  if (received !== TOTAL_BYTES) throw new Error(`Cannot measure: ${received} bytes arrived`);
}

/** Receives on connections whose first byte is 1, and sends on others; one connection at a time. */
async function serve(): Promise<void> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log((listener.addr as Deno.NetAddr).port);
  for await (const accepted of listener) {
    using conn = accepted;
    const first = new Uint8Array(1);
    await conn.read(first);
    if (first[0] === 1) await receive(conn);
    else await send(conn);
  }
}

async function readPort(stdout: ReadableStream<Uint8Array>): Promise<number> {
  const reader = stdout.getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return Number(new TextDecoder().decode(value));
}

const TOTAL_BYTES = 256 * 1024 * 1024;
const PIECE_BYTES = 65_536;
const ROUNDS = 31;
const TOLERANCE = 0.8;
const BASELINE = new URL("./baselines/conn.json", import.meta.url);

if (import.meta.main && Deno.args[0] === "peer") {
  await serve();
} else if (import.meta.main) {
  const found = await compare();
  console.log(
    `ratios: send ${found.sendRatio.toFixed(2)}, receive ${found.receiveRatio.toFixed(2)}`,
  );
  if (Deno.args.includes("--update")) {
    const rounded = (_: string, value: unknown) =>
      typeof value === "number" ? Math.round(value * 100) / 100 : value;
    Deno.writeTextFileSync(BASELINE, JSON.stringify(found, rounded, 2) + "\n");
  } else {
    const baseline: Baseline = JSON.parse(Deno.readTextFileSync(BASELINE));
    for (const key of ["sendRatio", "receiveRatio"] as const) {
      if (found[key] >= baseline[key] * TOLERANCE) continue;
      console.log(`${key} is ${found[key].toFixed(2)}, and was ${baseline[key].toFixed(2)}`);
      Deno.exitCode = 1;
    }
  }
}
