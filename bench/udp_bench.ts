// deno-lint-ignore-file no-console
/**
 * A stream over a UDP path, over loopback to another process: without and with `--unstable-net`, in the clear and
 * secured with Noise in alternating rounds, in datagrams of at most 1452 bytes.
 *
 *     deno run -A bench/udp_bench.ts [--rounds N]
 *
 * Prints one line of JSON for each mode: the medians in MB/s, the median of the ratios of consecutive rounds, the
 * processor time of the sender for each packet of data (which includes the ACKs that it receives), and how much more
 * memory each end of a path takes while it transfers.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import process from "node:process";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { BufferedReader, writeAll } from "../lib/base/reader.ts";
import { secureConnectionFromKeys } from "../lib/noise/secure_connection.ts";
import { UdpDemultiplexer } from "../lib/udp/demultiplexer.ts";
import { DATA_HEADER_BYTES } from "../lib/udp/packet_message.ts";
import { derivePathKeys } from "../lib/udp/path_keys.ts";
import { UdpConnection } from "../lib/udp/udp_connection.ts";
import { median } from "./median.ts";

/** One transfer. */
interface Round {
  readonly megabytesPerSecond: number;
  readonly microsecondsPerPacket: number;
  readonly senderMegabytes: number;
  readonly receiverMegabytes: number;
}

const given = parseArgs(Deno.args, {
  string: ["rounds"],
  boolean: ["unstable-net"],
  default: { rounds: "9" },
});

async function measureMode(flags: readonly string[]): Promise<void> {
  const client = new Deno.Command(Deno.execPath(), {
    args: [...programArgs(flags), "client", ...flags, "--rounds", String(given.rounds)],
    stdout: "inherit",
    stderr: "inherit",
  });
  const { success } = await client.output();
  if (!success) Deno.exitCode = 1;
}

/** Without this repository's configuration, which sets `--unstable-net`. */
function programArgs(flags: readonly string[]): string[] {
  const config = new URL("../tests/cli/without_unstable.json", import.meta.url).pathname;
  const options = ["--no-lock", "--v8-flags=--expose-gc", "--config", config];
  return ["run", "-A", ...options, ...flags, import.meta.filename!];
}

/** Sends, as one process; the receiver is another. */
async function client(flags: readonly string[]): Promise<void> {
  await using server = new Deno.Command(Deno.execPath(), {
    args: [...programArgs(flags), "server"],
    stdout: "piped",
  }).spawn();
  const reader = server.stdout.getReader();
  const port = Number(new TextDecoder().decode((await reader.read()).value));
  await transfer(port, false);
  await transfer(port, true);
  const plain: Round[] = [];
  const secured: Round[] = [];
  for (let i = 0; i < Number(given.rounds); i++) {
    plain.push(await transfer(port, false));
    secured.push(await transfer(port, true));
  }
  const of = (rounds: readonly Round[], key: keyof Round) =>
    Math.round(median(rounds.map((round) => round[key])) * 10) / 10;
  const ratios = secured.map((round, i) => round.megabytesPerSecond / plain[i]!.megabytesPerSecond);
  const hasUnstable = "listenDatagram" in Deno;
  console.log(JSON.stringify({
    mode: hasUnstable ? "with --unstable-net" : "without --unstable-net",
    plainMegabytesPerSecond: of(plain, "megabytesPerSecond"),
    securedMegabytesPerSecond: of(secured, "megabytesPerSecond"),
    ratio: Math.round(median(ratios) * 100) / 100,
    plainMicroseconds: of(plain, "microsecondsPerPacket"),
    securedMicroseconds: of(secured, "microsecondsPerPacket"),
    senderMegabytes: of(plain, "senderMegabytes"),
    receiverMegabytes: of(plain, "receiverMegabytes"),
  }));
  server.kill();
}

/** The control connection says which ports and whether to encrypt; the path carries the data. */
async function transfer(serverPort: number, isSecured: boolean): Promise<Round> {
  using control = await systemNetwork.connectTcp({ ip: "127.0.0.1", port: serverPort });
  using socket = new UdpDemultiplexer(await bind());
  await writeAll(control, Uint8Array.of(isSecured ? 1 : 0, ...portBytes(socket.local.port)));
  const numbers = new BufferedReader(control, { initialLength: 16 });
  const port = await readNumber(numbers, 2);
  const path = openPath(socket, port, "controlling");
  using stream = isSecured ? secure(path, "initiator") : path;
  const data = crypto.getRandomValues(new Uint8Array(65_536));
  const before = resident();
  let peak = 0;
  const { user, system } = process.cpuUsage();
  const start = performance.now();
  for (let i = 0; i < WRITES; i++) {
    await writeAll(stream, data);
    if (i % 64 === 0) peak = Math.max(peak, resident());
  }
  await stream.closeWrite();
  if (await stream.read(new Uint8Array(1)) !== null) throw new Error("Cannot measure: an echo");
  const elapsedMs = performance.now() - start;
  const cpu = process.cpuUsage();
  const bytes = WRITES * data.length;
  const packets = bytes / (PATH_BYTES - DATA_HEADER_BYTES);
  const receiverMegabytes = await readNumber(numbers, 4) / 1e6;
  stream.close();
  await path.released;
  return {
    megabytesPerSecond: bytes / elapsedMs / 1000,
    microsecondsPerPacket: (cpu.user + cpu.system - user - system) / packets,
    senderMegabytes: (peak - before) / 1e6,
    receiverMegabytes,
  };
}

async function server(): Promise<void> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  await Deno.stdout.write(new TextEncoder().encode(String(listener.local.port)));
  for (;;) await answer(await listener.accept());
}

async function answer(connection: TcpConnection): Promise<void> {
  using control = connection;
  const numbers = new BufferedReader(control, { initialLength: 16 });
  const isSecured = await readNumber(numbers, 1) === 1;
  const port = await readNumber(numbers, 2);
  using socket = new UdpDemultiplexer(await bind());
  const path = openPath(socket, port, "controlled");
  using stream = isSecured ? secure(path, "responder") : path;
  await writeAll(control, portBytes(socket.local.port));
  const buffer = new Uint8Array(65_536);
  const before = resident();
  let peak = 0;
  for (let reads = 0; await stream.read(buffer) !== null; reads++) {
    if (reads % 256 === 0) peak = Math.max(peak, resident());
  }
  await writeAll(control, numberBytes(Math.max(0, peak - before)));
  await stream.closeWrite();
  stream.close();
  await path.released;
}

function bind() {
  return systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 }, { maxDatagramBytes: 1500 });
}

function openPath(
  socket: UdpDemultiplexer,
  port: number,
  role: "controlling" | "controlled",
): UdpConnection {
  const keys = derivePathKeys(new Uint8Array(32), role);
  return new UdpConnection(socket, {
    remote: { ip: "127.0.0.1", port },
    keys,
    maxDatagramBytes: PATH_BYTES,
  });
}

function secure(path: UdpConnection, role: "initiator" | "responder") {
  const [one, other] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  const [sendKey, receiveKey] = role === "initiator" ? [one, other] : [other, one];
  return secureConnectionFromKeys(path, { sendKey, receiveKey, handshakeHash: new Uint8Array(32) });
}

function resident(): number {
  return Deno.memoryUsage().rss;
}

function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >> 8, port);
}

function numberBytes(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

async function readNumber(reader: BufferedReader, length: number): Promise<number> {
  while (reader.buffered < length) {
    if (!await reader.fill(length)) throw new Error("Cannot measure: the control connection ended");
  }
  return reader.take(length).reduce((value, byte) => value * 256 + byte, 0);
}

const PATH_BYTES = 1452;
const WRITES = 1600;

if (given._[0] === "server") await server();
else if (given._[0] === "client") {
  await client(given["unstable-net"] ? ["--unstable-net"] : []);
} else for (const flags of [[], ["--unstable-net"]]) await measureMode(flags);
