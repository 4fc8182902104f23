// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * How much one stream of a session carries over a long path: a proxy in this process delays what goes either way, and the
 * other side is another process. The same without a delay is for comparison, since the proxy costs time as well.
 *
 *     deno run -A bench/window_bench.ts [RTT_MS]
 *
 * @module
 */

import { writeAll } from "../lib/base/reader.ts";
import type { TransportAddress } from "../lib/net/address.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { generateKeyPair, KeyPair } from "../lib/noise/handshake.ts";
import { secureConnection } from "../lib/noise/secure_connection.ts";
import { WindowBudget } from "../lib/session/receive_stream.ts";
import { StreamSession } from "../lib/session/streams.ts";
import { median } from "./median.ts";

async function measure(rttMs: number): Promise<void> {
  const server = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--unstable-net", import.meta.filename!, "receive"],
    stdout: "piped",
  }).spawn();
  try {
    const line = await server.stdout.getReader({ mode: "byob" }).read(new Uint8Array(5), {
      min: 5,
    });
    const target = { ip: "127.0.0.1", port: Number(new TextDecoder().decode(line.value)) };
    const [near, far]: [number[], number[]] = [[], []];
    for (let i = 0; i < ROUNDS; i++) {
      near.push(await carry(target, 0));
      far.push(await carry(target, rttMs));
    }
    const ratio = median(far.map((rate, index) => rate / near[index]!));
    console.log(JSON.stringify({
      rttMs,
      megabytesPerSecond: Math.round(median(far)),
      withoutDelay: Math.round(median(near)),
      ratio: Math.round(ratio * 100) / 100,
    }));
  } finally {
    server.kill();
    await server.status;
  }
}

/** Megabytes per second once the windows have grown. */
async function carry(target: TransportAddress, rttMs: number): Promise<number> {
  using proxy = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const proxying = (async () => {
    const [one, other] = [await proxy.accept(), await systemNetwork.connectTcp(target)];
    await Promise.allSettled([
      delayed(one, other, rttMs / 2),
      delayed(other, one, rttMs / 2),
    ]);
  })();
  const path = await secureConnection(await systemNetwork.connectTcp(proxy.local), {
    pattern: "IK",
    role: "initiator",
    signal: AbortSignal.timeout(10_000),
    staticKey: generateKeyPair(),
    remoteStaticKey: RECEIVER_KEY.publicKey,
  });
  const windows = new WindowBudget().of("receiver");
  const session = new StreamSession({ role: "controlling", windows });
  await session.attach(path);
  const data = new Uint8Array(WRITE_BYTES);
  const send = async (bytes: number) => {
    const startMs = performance.now();
    for (let sent = 0; sent < bytes; sent += data.length) await session.write(data);
    return bytes / 1000 / (performance.now() - startMs);
  };
  await send(WARM_UP_BYTES);
  const rate = await send(BULK_BYTES);
  await session.closeWrite();
  await session.read(new Uint8Array(1)); // all has arrived
  session.close();
  await session[Symbol.asyncDispose]();
  await proxying;
  return rate;
}

/** Passes on everything after a time. What is on its way is kept here: this is the path's length. */
async function delayed(from: TcpConnection, to: TcpConnection, delayMs: number): Promise<void> {
  const queue: { readonly dueMs: number; readonly chunk: Uint8Array | undefined }[] = [];
  const spare: Uint8Array[] = [];
  let wake = () => {};
  const writing = (async () => {
    for (;;) {
      const first = queue[0];
      const waitMs = first === undefined ? Infinity : first.dueMs - performance.now();
      if (waitMs > 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (waitMs < Infinity) setTimeout(resolve, waitMs);
        });
        continue;
      }
      queue.shift();
      if (first!.chunk === undefined) return await to.closeWrite();
      await writeAll(to, first!.chunk);
      spare.push(new Uint8Array(first!.chunk.buffer));
    }
  })();
  for (;;) {
    const buffer = spare.pop() ?? new Uint8Array(READ_BYTES);
    const length = await from.read(buffer).catch(() => null); // the end of the measurement
    const chunk = length === null ? undefined : buffer.subarray(0, length);
    queue.push({ dueMs: performance.now() + delayMs, chunk });
    if (queue.length === 1) wake();
    if (chunk === undefined) return await writing;
  }
}

async function receive(): Promise<void> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  Deno.stdout.writeSync(new TextEncoder().encode(`${listener.local.port}`.padStart(5)));
  for (;;) answer(await listener.accept()).catch(() => {}); // the measurement is over
}

async function answer(connection: TcpConnection): Promise<void> {
  const path = await secureConnection(connection, {
    pattern: "IK",
    role: "responder",
    signal: AbortSignal.timeout(10_000),
    staticKey: RECEIVER_KEY,
  });
  const windows = new WindowBudget().of("sender");
  using session = new StreamSession({ role: "controlled", windows });
  await session.attach(path);
  const buffer = new Uint8Array(WRITE_BYTES);
  while (await session.read(buffer) !== null);
  await session.closeWrite();
}

const RECEIVER_KEY = new KeyPair(new Uint8Array(32).fill(0x42));
const WRITE_BYTES = 65_536;
const READ_BYTES = 262_144;
const WARM_UP_BYTES = 128 * 1024 * 1024;
const BULK_BYTES = 384 * 1024 * 1024;
const ROUNDS = 3;

const [mode] = Deno.args;
if (mode === "receive") await receive();
else {
  await measure(Number(mode ?? 80));
  Deno.exit(); // some connections are still closing
}
