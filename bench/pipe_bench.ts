// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * How fast `connect` and `listen` pass on a gigabyte from stdin to stdout, against a session over Noise between two
 * processes in the same run, and against a bare pipe of Deno: from stdin over TCP to stdout, and nothing else. Loopback,
 * without a file or a terminal.
 *
 * A pipe takes the processor time of the other two together. Where there are two processors, which each of the others keeps
 * busy, and both are as fast, it has less than 0.6 of either. docs/session.md says more.
 *
 *     deno run -A bench/pipe_bench.ts
 *
 * @module
 */

import { writeAll } from "../lib/base/reader.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { median } from "./median.ts";
import { overNoise } from "./noise_session.ts";

async function measure(): Promise<void> {
  await using rendezvous = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
  });
  const [sessions, bare, pipes]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < ROUNDS; i++) {
    sessions.push(await measureSession());
    bare.push(await measureBarePipe());
    pipes.push(await measurePipe(rendezvous.url));
  }
  const ratio = median(pipes.map((rate, index) => rate / sessions[index]!));
  console.log(JSON.stringify({
    sessionMegabytesPerSecond: Math.round(median(sessions)),
    barePipeMegabytesPerSecond: Math.round(median(bare)),
    pipeMegabytesPerSecond: Math.round(median(pipes)),
    pipeToSession: Math.round(ratio * 100) / 100,
  }));
}

async function measureSession(): Promise<number> {
  const receiver = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--unstable-net", import.meta.filename!, "receive"],
    stdout: "piped",
  }).spawn();
  try {
    const line = await receiver.stdout.getReader({ mode: "byob" })
      .read(new Uint8Array(5), { min: 5 });
    const port = Number(new TextDecoder().decode(line.value));
    const connection = await systemNetwork.connectTcp({ ip: "127.0.0.1", port });
    using session = await overNoise(connection, "controlling");
    const data = new Uint8Array(65_536);
    const startMs = performance.now();
    for (let sent = 0; sent < BYTES; sent += data.length) await session.write(data);
    await session.closeWrite();
    await session.read(data); // all has arrived
    return BYTES / 1000 / (performance.now() - startMs);
  } finally {
    receiver.kill();
    await receiver.status;
  }
}

/** From the moment when `listen` has its connection until it has written everything. */
async function measurePipe(rendezvous: string): Promise<number> {
  const run = [Deno.execPath(), "run", "--quiet", "-A", "--config", CONFIG, CLI].join(" ");
  const options = `--rendezvous ${rendezvous} --no-code`;
  const listen = new Deno.Command("sh", {
    args: ["-c", `exec ${run} listen ${options} </dev/null >/dev/null`],
    stderr: "piped",
  }).spawn();
  const printed = new Printed(listen.stderr);
  const ticket = await printed.until(/(punchline:[\w-]{60,})/);
  const connect = new Deno.Command("sh", {
    args: [
      "-c",
      `head -c ${BYTES} /dev/zero | ${run} connect ${ticket} --rendezvous ${rendezvous}`,
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  await printed.until(/(Connected)/);
  const startMs = performance.now();
  await printed.until(/(Closed)/); // it ends a second later, once its requests to routers are over
  const rate = BYTES / 1000 / (performance.now() - startMs);
  await Promise.all([listen.status, connect.status]);
  return rate;
}

async function measureBarePipe(): Promise<number> {
  const run = `${Deno.execPath()} run --quiet -A --config ${CONFIG} ${import.meta.filename!}`;
  const printing = new Deno.Command("sh", {
    args: ["-c", `exec ${run} print </dev/null >/dev/null`],
    stderr: "piped",
  }).spawn();
  const printed = new Printed(printing.stderr);
  const port = await printed.until(/port (\d+)/);
  const sending = new Deno.Command("sh", {
    args: ["-c", `head -c ${BYTES} /dev/zero | ${run} send ${port}`],
  }).spawn();
  await printed.until(/(connected)/);
  const startMs = performance.now();
  await Promise.all([printing.status, sending.status]);
  return BYTES / 1000 / (performance.now() - startMs);
}

/** Stdin goes to a port. While a chunk is sent, the next one is read. */
async function sendStdin(port: number): Promise<void> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  let [chunk, other] = [new Uint8Array(65_536), new Uint8Array(65_536)];
  let length = await Deno.stdin.read(chunk);
  while (length !== null) {
    const sent = writeAll(conn, chunk.subarray(0, length));
    [chunk, other] = [other, chunk];
    [length] = await Promise.all([Deno.stdin.read(chunk), sent]);
  }
}

/** What arrives at a port goes to stdout. */
async function printReceived(): Promise<void> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.error(`port ${listener.addr.port}`);
  using conn = await listener.accept();
  console.error("connected");
  const buffer = new Uint8Array(262_144);
  for (let length; (length = await conn.read(buffer)) !== null;) {
    await writeAll(Deno.stdout, buffer.subarray(0, length));
  }
}

async function receive(): Promise<void> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  Deno.stdout.writeSync(new TextEncoder().encode(`${listener.local.port}`.padStart(5)));
  const session = await overNoise(await listener.accept(), "controlled");
  const buffer = new Uint8Array(65_536);
  while (await session.read(buffer) !== null);
  await session.closeWrite();
  await session.finished;
}

/** What a process prints. */
class Printed {
  #text = "";
  #changed = Promise.withResolvers<void>();

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#read(stream);
  }

  async until(expression: RegExp): Promise<string> {
    for (;;) {
      const found = expression.exec(this.#text);
      if (found !== null) return found[1]!;
      await this.#changed.promise;
    }
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.#text += text;
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    }
  }
}

const CLI = new URL("../cli.ts", import.meta.url).pathname;
const CONFIG = new URL("../deno.json", import.meta.url).pathname;
const BYTES = 2 ** 30;
const ROUNDS = 3;

const [mode, port] = Deno.args;
if (mode === "receive") await receive();
else if (mode === "send") await sendStdin(Number(port));
else if (mode === "print") await printReceived();
else {
  await measure();
  Deno.exit(); // some connections are still closing
}
