// deno-lint-ignore-file no-console
/**
 * How long a message takes from one peer to another through a server, compared with the same bytes to a bare TCP echo in
 * another process and back, which is the same number of hops: on loopback, in alternating rounds. Machines and their
 * load differ, so the result is the ratio of two consecutive rounds.
 *
 * @module
 */

import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import type { SignalingConnection, SignalTransport } from "../lib/signal/transport.ts";
import { writeAll } from "../lib/base/reader.ts";
import { median } from "./median.ts";

/** The median time from publishing to receiving, in round trips of the echo. */
export async function compareWithEcho(
  name: string,
  transport: SignalTransport,
  connection: TcpConnection,
): Promise<number> {
  await using publisher = await transport.open({ network: systemNetwork });
  await using subscriber = await transport.open({ network: systemNetwork });
  let onMessage = () => {};
  await using _subscription = await subscriber.subscribe(TOPIC, () => onMessage());
  const setListener = (listener: () => void) => onMessage = listener;
  await publish(publisher, setListener, WARM_UP_MESSAGES);
  await echo(connection, WARM_UP_MESSAGES);
  const rounds: { signal: number; bare: number }[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    rounds.push({
      signal: await publish(publisher, setListener, MESSAGES),
      bare: await echo(connection, MESSAGES),
    });
  }
  const us = (ms: number) => (ms * 1000).toFixed(0);
  const signal = us(median(rounds.map((round) => round.signal)));
  const bare = us(median(rounds.map((round) => round.bare)));
  console.log(`${name}: ${signal} µs from peer to peer, ${bare} µs for the bare echo`);
  return median(rounds.map((round) => round.signal / round.bare));
}

/** An echo in another process, because a broker is one, too. */
export async function startEcho(): Promise<AsyncDisposable & { connection: TcpConnection }> {
  const server = new Deno.Command(Deno.execPath(), {
    args: ["run", "--unstable-net", "--allow-net", import.meta.filename!, "echo"],
    stdout: "piped",
  }).spawn();
  const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const port = Number((await reader.read()).value);
  await reader.cancel();
  const connection = await systemNetwork.connectTcp({ ip: "127.0.0.1", port });
  return {
    connection,
    async [Symbol.asyncDispose]() {
      connection.close();
      await server.status;
    },
  };
}

/** Compares with the baseline, and makes the program fail if a figure is more than twice as bad; `--update` replaces it. */
export function judge(figures: Readonly<Record<string, number>>, baselineUrl: URL): void {
  for (const [name, figure] of Object.entries(figures)) {
    console.log(`${name}: ${figure.toFixed(2)} round trips of the bare echo`);
  }
  if (Deno.args.includes("--update")) {
    const round = (_: string, figure: unknown) =>
      typeof figure === "number" ? Math.round(figure * 100) / 100 : figure;
    Deno.writeTextFileSync(baselineUrl, JSON.stringify(figures, round, 2) + "\n");
    return;
  }
  const baseline: Record<string, number> = JSON.parse(Deno.readTextFileSync(baselineUrl));
  for (const [name, figure] of Object.entries(figures)) {
    if (figure <= baseline[name]! * TOLERANCE) continue;
    console.log(`${name} is ${figure.toFixed(2)}, and was ${baseline[name]}`);
    Deno.exitCode = 1;
  }
}

/** Milliseconds per message. */
async function publish(
  publisher: SignalingConnection,
  setListener: (listener: () => void) => void,
  messages: number,
): Promise<number> {
  const message = new Uint8Array(MESSAGE_BYTES);
  const startMs = performance.now();
  for (let i = 0; i < messages; i++) {
    const received = Promise.withResolvers<void>();
    setListener(received.resolve);
    await publisher.publish(TOPIC, message);
    await received.promise;
  }
  return (performance.now() - startMs) / messages;
}

/** Milliseconds per message. */
async function echo(connection: TcpConnection, messages: number): Promise<number> {
  const message = new Uint8Array(MESSAGE_BYTES);
  const answer = new Uint8Array(MESSAGE_BYTES);
  const startMs = performance.now();
  for (let i = 0; i < messages; i++) {
    await writeAll(connection, message);
    for (let read = 0; read < MESSAGE_BYTES;) read += (await connection.read(answer))!;
  }
  return (performance.now() - startMs) / messages;
}

async function serveEcho(): Promise<void> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  console.log(listener.local.port);
  using connection = await listener.accept();
  const buffer = new Uint8Array(MESSAGE_BYTES);
  for (let count; (count = await connection.read(buffer)) !== null;) {
    await writeAll(connection, buffer.subarray(0, count));
  }
}

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
/** About the length of the messages of peers. */
const MESSAGE_BYTES = 2048;
const WARM_UP_MESSAGES = 2000;
const MESSAGES = 100;
const ROUNDS = 41;

/** How many times the baseline a ratio may be. */
const TOLERANCE = 2;

if (import.meta.main && Deno.args[0] === "echo") await serveEcho();
