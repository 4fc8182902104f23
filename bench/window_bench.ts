// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * How much one stream of a session carries over a long path: a proxy in this process delays what goes either way, and the
 * other side is another process. The same without a delay is for comparison, since the proxy costs time as well. Then the
 * same beside a second stream of the connection that sends as much as it can: what both carry, and the part of the first,
 * which should be a half.
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
import type { SessionStream } from "../lib/session/stream.ts";
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
    const beside: Carried[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      near.push((await carry(target, 0)).rate);
      far.push((await carry(target, rttMs)).rate);
      beside.push(await carry(target, rttMs, true));
    }
    const ratio = median(far.map((rate, index) => rate / near[index]!));
    console.log(JSON.stringify({
      rttMs,
      megabytesPerSecond: Math.round(median(far)),
      withoutDelay: Math.round(median(near)),
      ratio: Math.round(ratio * 100) / 100,
      besideAnother: {
        bothMegabytesPerSecond: Math.round(median(beside.map((both) => both.rate + both.other))),
        share: Math.round(median(beside.map(({ rate, other }) => rate / (rate + other))) * 100) /
          100,
      },
    }));
  } finally {
    server.kill();
    await server.status;
  }
}

/** Megabytes per second, of one stream and of the other. */
interface Carried {
  readonly rate: number;
  readonly other: number;
}

/** Once the windows have grown. */
async function carry(
  target: TransportAddress,
  rttMs: number,
  isBesideAnother = false,
): Promise<Carried> {
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
  const other = isBesideAnother ? new Flood(await session.openStream()) : undefined;
  await send(WARM_UP_BYTES);
  const [startMs, otherBefore] = [performance.now(), other?.sent ?? 0];
  const rate = await send(BULK_BYTES);
  const otherRate = ((other?.sent ?? 0) - otherBefore) / 1000 / (performance.now() - startMs);
  await other?.end();
  await session.closeWrite();
  await session.read(new Uint8Array(1)); // all has arrived
  session.close();
  await session[Symbol.asyncDispose]();
  await proxying;
  return { rate, other: otherRate };
}

/** Writes to a stream as fast as it can. */
class Flood {
  /** How many bytes so far. */
  sent = 0;
  #isOver = false;
  readonly #done: Promise<void>;

  constructor(stream: SessionStream) {
    this.#done = this.#run(stream);
  }

  /** Ends the stream. */
  async end(): Promise<void> {
    this.#isOver = true;
    await this.#done;
  }

  async #run(stream: SessionStream): Promise<void> {
    const data = new Uint8Array(WRITE_BYTES);
    while (!this.#isOver) this.sent += await stream.write(data);
    await stream.closeWrite();
  }
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
  (async () => {
    for await (const stream of session.streams) discard(stream).catch(() => {}); // as above
  })();
  await discard(session);
}

async function discard(stream: Pick<SessionStream, "read" | "closeWrite">): Promise<void> {
  const buffer = new Uint8Array(WRITE_BYTES);
  while (await stream.read(buffer) !== null);
  await stream.closeWrite();
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
