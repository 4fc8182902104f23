// deno-lint-ignore-file no-console
/**
 * How long a message takes from one peer to another through mosquitto, beside the same bytes to a bare TCP echo in
 * another process and back, which are as many hops: on loopback, in rounds that take turns. Machines and their moods
 * differ, so what counts is the ratio of two rounds that follow each other; `baselines/mqtt.json` keeps the medians.
 *
 *     deno run -A bench/mqtt_bench.ts [--update]
 *
 * Fails if a ratio is more than twice the baseline's. Linux, with mosquitto installed.
 *
 * @module
 */

import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import type { SignalBus } from "../lib/signal/bus.ts";
import { mqttTransport } from "../lib/signal/mqtt/mod.ts";
import { writeAll } from "../lib/signal/websocket.ts";
import { Mosquitto } from "../tests/interop/mosquitto.ts";

/** What `baselines/mqtt.json` keeps: from publishing to receiving, by the round trip of the echo. */
interface Figures {
  readonly tcp: number;
  readonly tls: number;
  readonly webSocket: number;
}

async function measure(): Promise<Figures> {
  await using broker = await Mosquitto.start();
  await using secureBroker = await Mosquitto.start({ tls: true });
  await using echo = await startEcho();
  return {
    tcp: await compare("TCP", broker.url("mqtt"), echo.connection),
    tls: await compare("TLS", secureBroker.url("mqtts"), echo.connection, [secureBroker.caCert]),
    webSocket: await compare("WebSocket", broker.url("mqtt+ws"), echo.connection),
  };
}

async function compare(
  name: string,
  url: string,
  connection: TcpConnection,
  caCerts: readonly string[] = [],
): Promise<number> {
  const transport = mqttTransport(url, { caCerts });
  await using speaker = await transport.open({ network: systemNetwork });
  await using listener = await transport.open({ network: systemNetwork });
  let onMessage = () => {};
  await using _subscription = await listener.subscribe(TOPIC, () => onMessage());
  const hear = (listen: () => void) => onMessage = listen;
  await publish(speaker, hear, WARM_UP_MESSAGES);
  await echo(connection, WARM_UP_MESSAGES);
  const rounds: { mqtt: number; bare: number }[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    rounds.push({
      mqtt: await publish(speaker, hear, MESSAGES),
      bare: await echo(connection, MESSAGES),
    });
  }
  const us = (ms: number) => (ms * 1000).toFixed(0);
  const mqtt = us(median(rounds.map((round) => round.mqtt)));
  const bare = us(median(rounds.map((round) => round.bare)));
  console.log(`${name}: ${mqtt} µs from peer to peer, ${bare} µs for the bare echo`);
  return median(rounds.map((round) => round.mqtt / round.bare));
}

/** Milliseconds for each message. */
async function publish(
  speaker: SignalBus,
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

/** Another process that says what it hears, as a broker is one. */
async function startEcho(): Promise<AsyncDisposable & { connection: TcpConnection }> {
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

async function serveEcho(): Promise<void> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  console.log(listener.local.port);
  using connection = await listener.accept();
  const buffer = new Uint8Array(MESSAGE_BYTES);
  for (let count; (count = await connection.read(buffer)) !== null;) {
    await writeAll(connection, buffer.subarray(0, count));
  }
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
/** About as long as the messages of peers. */
const MESSAGE_BYTES = 2048;
const WARM_UP_MESSAGES = 2000;
const MESSAGES = 100;
const ROUNDS = 41;
const BASELINE = new URL("./baselines/mqtt.json", import.meta.url);

/** A ratio may be this much worse than the baseline's. */
const TOLERANCE = 2;

if (import.meta.main && Deno.args[0] === "echo") {
  await serveEcho();
} else if (import.meta.main) {
  const figures = await measure().catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.log("mosquitto or openssl is not installed (Debian packages of the same names)");
    Deno.exit(1);
  });
  for (const [name, figure] of Object.entries(figures)) {
    console.log(`${name}: ${figure.toFixed(2)} round trips of the bare echo`);
  }
  if (Deno.args.includes("--update")) {
    const round = (_: string, figure: unknown) =>
      typeof figure === "number" ? Math.round(figure * 100) / 100 : figure;
    Deno.writeTextFileSync(BASELINE, JSON.stringify(figures, round, 2) + "\n");
  } else {
    const baseline: Figures = JSON.parse(Deno.readTextFileSync(BASELINE));
    for (const key of Object.keys(figures) as (keyof Figures)[]) {
      if (figures[key] <= baseline[key] * TOLERANCE) continue;
      console.log(`${key} is ${figures[key].toFixed(2)}, and was ${baseline[key]}`);
      Deno.exitCode = 1;
    }
  }
}
