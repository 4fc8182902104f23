// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * How fast one stream of a session over Noise is if its writer writes 64 KiB, 1 MiB or 16 MiB at once: over loopback to
 * another process, in alternating rounds. What counts is the ratio to 64 KiB in the same round. Large writes must not be
 * slower: the next record has to be encrypted while the system sends the one before.
 *
 *     deno run -A bench/write_size_bench.ts [ROUNDS]
 *
 * @module
 */

import { systemNetwork } from "../lib/net/system.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { cpuSeconds } from "./cpu_seconds.ts";
import { median } from "./median.ts";
import { overNoise } from "./noise_session.ts";

async function measure(rounds: number): Promise<void> {
  const receiver = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--unstable-net", import.meta.filename!, "receive"],
    stdout: "piped",
  }).spawn();
  try {
    const line = await receiver.stdout.getReader({ mode: "byob" })
      .read(new Uint8Array(5), { min: 5 });
    const port = Number(new TextDecoder().decode(line.value));
    const cpuNow = () => cpuSeconds(Deno.pid) + cpuSeconds(receiver.pid);
    const results = WRITE_BYTES.map(() => ({ rates: [] as number[], seconds: 0 }));
    for (const writeBytes of WRITE_BYTES) await send(port, writeBytes); // warm-up
    for (let i = 0; i < rounds; i++) {
      for (const [index, writeBytes] of WRITE_BYTES.entries()) {
        const before = cpuNow();
        results[index]!.rates.push(await send(port, writeBytes));
        results[index]!.seconds += cpuNow() - before;
      }
    }
    for (const [index, { rates, seconds }] of results.entries()) {
      const ratios = rates.map((rate, round) => rate / results[0]!.rates[round]!);
      console.log(JSON.stringify({
        kibibytesPerWrite: WRITE_BYTES[index]! / 1024,
        megabytesPerSecond: Math.round(median(rates)),
        ratio: Math.round(median(ratios) * 100) / 100,
        cpuSecondsPerGigabyte: Math.round(seconds / (rounds * BYTES / 1e9) * 100) / 100,
      }));
    }
  } finally {
    receiver.kill();
    await receiver.status;
  }
}

/** Megabytes per second, until the other side has everything. */
async function send(port: number, writeBytes: number): Promise<number> {
  const connection = await systemNetwork.connectTcp({ ip: "127.0.0.1", port });
  using session = await overNoise(connection, "controlling");
  const data = new Uint8Array(writeBytes);
  const startMs = performance.now();
  for (let sent = 0; sent < BYTES; sent += data.length) await session.write(data);
  await session.closeWrite();
  await session.read(new Uint8Array(1));
  return BYTES / 1000 / (performance.now() - startMs);
}

async function receive(): Promise<void> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  Deno.stdout.writeSync(new TextEncoder().encode(`${listener.local.port}`.padStart(5)));
  for (;;) discard(await listener.accept()).catch(() => {}); // the measurement is over
}

async function discard(connection: TcpConnection): Promise<void> {
  using session = await overNoise(connection, "controlled");
  const buffer = new Uint8Array(WRITE_BYTES[0]!);
  while (await session.read(buffer) !== null);
  await session.closeWrite();
}

const WRITE_BYTES = [65_536, 2 ** 20, 2 ** 24];
const BYTES = 2 ** 28;

const [mode] = Deno.args;
if (mode === "receive") await receive();
else {
  await measure(Number(mode ?? 9));
  Deno.exit(); // some connections are still closing
}
