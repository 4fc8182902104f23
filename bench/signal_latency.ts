// deno-lint-ignore-file no-console
/**
 * How long a message takes from one peer to another through a server, beside the same bytes to a bare TCP echo in
 * another process and back, which are as many hops: on loopback, in rounds that take turns. Machines and their moods
 * differ, so what counts is the ratio of two rounds that follow each other.
 *
 * @module
 */

import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import type { SignalingConnection, SignalTransport } from "../lib/signal/transport.ts";
import { writeAll } from "../lib/base/reader.ts";

import { median } from "./median.ts";

/** From publishing to receiving, by the round trip of the echo: the median. */
export async function compareWithEcho(
  name: string,
  transport: SignalTransport,
  connection: TcpConnection,
): Promise<number> {
  await using speaker = await transport.open({ network: systemNetwork });
  await using listener = await transport.open({ network: systemNetwork });
  let onMessage = () => {};
  await using _subscription = await listener.subscribe(TOPIC, () => onMessage());
  const hear = (listen: () => void) => onMessage = listen;
  await publish(speaker, hear, WARM_UP_MESSAGES);
  await echo(connection, WARM_UP_MESSAGES);
  const rounds: { signal: number; bare: number }[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    rounds.push({
      signal: await publish(speaker, hear, MESSAGES),
      bare: await echo(connection, MESSAGES),
    });
  }
  const us = (ms: number) => (ms * 1000).toFixed(0);
  const signal = us(median(rounds.map((round) => round.signal)));
  const bare = us(median(rounds.map((round) => round.bare)));
  console.log(`${name}: ${signal} µs from peer to peer, ${bare} µs for the bare echo`);
  return median(rounds.map((round) => round.signal / round.bare));
}

/** Another process that says what it hears, as a broker is one. */
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

/**
 * Compares with what is kept, or keeps it if the program was told `--update`; a figure that is more than twice as bad
 * makes the program fail.
 */
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

/** Milliseconds for each message. */
async function publish(
  speaker: SignalingConnection,
  hear: (listen: () => void) => void,
  messages: number,
): Promise<number> {
  const message = new Uint8Array(MESSAGE_BYTES);
  const startMs = performance.now();
  for (let i = 0; i < messages; i++) {
    const heard = Promise.withResolvers<void>();
    hear(heard.resolve);
    await speaker.publish(TOPIC, message);
    await heard.promise;
  }
  return (performance.now() - startMs) / messages;
}

/** Milliseconds for each message. */
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
/** About as long as the messages of peers. */
const MESSAGE_BYTES = 2048;
const WARM_UP_MESSAGES = 2000;
const MESSAGES = 100;
const ROUNDS = 41;

/** A ratio may be this much worse than the baseline's. */
const TOLERANCE = 2;

if (import.meta.main && Deno.args[0] === "echo") await serveEcho();
