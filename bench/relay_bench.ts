// deno-lint-ignore-file no-console
/**
 * The relay of a rendezvous server against a bare TCP forwarder, over loopback: the server is a process of its own, and
 * both ends are one other, so what differs is the server. The clients send the frames of the relay in both cases, made
 * before, and count what arrives. As those of peers, the frames are encrypted, and their masks zero; `masked` is with others.
 *
 *     deno run -A bench/relay_bench.ts [--rounds N] [--megabytes N] [--pairs N] [--tls]
 *
 * Prints one line of JSON: the medians in MB/s of the forwarder, of the relay and of a stream with Noise over the relay,
 * the medians of the ratios of relay and forwarder in consecutive rounds, and for all pairs at once the slowest and the
 * fastest one's share of the mean. With `--tls`, relay and forwarder speak TLS to both ends.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { BufferedReader, writeAll } from "../lib/base/reader.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork as network } from "../lib/net/system.ts";
import { openTlsAcceptor } from "../lib/net/system/tls_server.ts";
import { secureConnectionFromKeys } from "../lib/noise/secure_connection.ts";
import { openRelayConnection } from "../lib/signal/rendezvous/relay_connection.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { newHandshakeReader, readHead } from "../lib/signal/websocket/connection.ts";
import { encodeWebSocketFrame } from "../lib/signal/websocket/frame.ts";
import { encodeUpgradeRequest } from "../lib/signal/websocket/handshake.ts";
import { RELAY_PATH, RELAY_TOKEN_BYTES } from "../lib/signal/rendezvous/message.ts";
import { tlsFixture, TRUSTING_NETWORK } from "../tests/net/tls_fixtures.ts";
import { median } from "./median.ts";

const given = parseArgs(Deno.args, {
  string: ["rounds", "megabytes", "pairs"],
  boolean: ["tls"],
  default: { rounds: "7", megabytes: "400", pairs: "100" },
});

/** Two ends of one connection: the sending end, and the receiving one. */
type Ends = readonly [sender: Sender, receiver: Receiver];

interface Sender {
  write(data: Uint8Array): Promise<void>;
  close(): void;
}

interface Receiver {
  /** Reads at least one byte, and returns how many. */
  read(): Promise<number>;
  close(): void;
}

async function main(): Promise<void> {
  await using servers = await startServers();
  const rounds = Number(given.rounds);
  const bytes = Number(given.megabytes) * 1e6;
  const opens = {
    forwarder: () => openForwarded(servers.forwarder),
    relay: () => openRelayed(servers.relay),
    masked: () => openRelayed(servers.relay, MASK),
    noise: () => openSecured(servers.relay),
  };
  const rates: Record<keyof typeof opens, number[]> = {
    forwarder: [],
    relay: [],
    masked: [],
    noise: [],
  };
  for (let round = 0; round < rounds; round++) {
    for (const name of Object.keys(opens) as (keyof typeof opens)[]) {
      rates[name].push(await rateOf(await opens[name](), bytes));
    }
  }
  const ratioOf = (name: keyof typeof opens) =>
    Number(median(rates[name].map((rate, i) => rate / rates.forwarder[i]!)).toFixed(2));
  const shares = await sharesOf(servers.relay, Number(given.pairs));
  console.log(JSON.stringify({
    forwarderMBs: Math.round(median(rates.forwarder)),
    relayMBs: Math.round(median(rates.relay)),
    noiseMBs: Math.round(median(rates.noise)),
    ratio: ratioOf("relay"),
    maskedRatio: ratioOf("masked"),
    pairs: Number(given.pairs),
    slowest: Number(Math.min(...shares).toFixed(2)),
    fastest: Number(Math.max(...shares).toFixed(2)),
  }));
}

/** MB/s. */
async function rateOf([sender, receiver]: Ends, bytes: number): Promise<number> {
  const startedMs = performance.now();
  const sending = (async () => {
    for (let sent = 0; sent < bytes; sent += DATA.length) await sender.write(DATA);
  })();
  const whole = Math.ceil(bytes / DATA.length) * DATA.length;
  for (let received = 0; received < whole;) received += await receiver.read();
  const seconds = (performance.now() - startedMs) / 1000;
  await sending;
  sender.close();
  receiver.close();
  return bytes / 1e6 / seconds;
}

/** What each of many pairs gets in a few seconds, as shares of the mean. */
async function sharesOf(relay: string, pairs: number): Promise<number[]> {
  const ends: Ends[] = [];
  for (let i = 0; i < pairs; i++) ends.push(await openRelayed(relay));
  const counts = await Promise.all(ends.map(async ([sender, receiver]) => {
    const untilMs = performance.now() + SHARE_MS;
    const sending = (async () => {
      while (performance.now() < untilMs) await sender.write(SMALL_DATA);
      sender.close();
    })();
    let count = 0;
    while (performance.now() < untilMs) count += await receiver.read();
    receiver.close();
    await sending.catch(() => {}); // the other end may have gone first
    return count;
  }));
  const mean = counts.reduce((sum, each) => sum + each, 0) / counts.length;
  return counts.map((count) => count / mean);
}

/** The forwarder joins each connection with the next one. */
async function openForwarded(port: number): Promise<Ends> {
  return bareEnds(await dial(port), await dial(port));
}

/** Bare clients: they send frames that are ready, and look into none. */
async function openRelayed(url: string, mask: Uint8Array = NO_MASK): Promise<Ends> {
  const token = crypto.getRandomValues(new Uint8Array(RELAY_TOKEN_BYTES));
  return bareEnds(await joinRelay(url, token), await joinRelay(url, token), mask);
}

async function joinRelay(url: string, token: Uint8Array): Promise<TcpConnection> {
  const { host, port } = new URL(url);
  const connection = await dial(Number(port));
  const key = "dGhlIHNhbXBsZSBub25jZQ==";
  await writeAll(connection, encodeUpgradeRequest(host, RELAY_PATH, key));
  await readHead(connection, newHandshakeReader(connection));
  await writeAll(connection, encodeWebSocketFrame("binary", token, MASK));
  return connection;
}

function bareEnds(
  sender: TcpConnection,
  receiver: TcpConnection,
  mask: Uint8Array = NO_MASK,
): Ends {
  const buffer = new Uint8Array(DATA.length);
  const frame = encodeWebSocketFrame("binary", DATA, mask);
  return [{
    write: (data) => writeAll(sender, data === DATA ? frame : SMALL_FRAME),
    close: () => sender.close(),
  }, {
    read: async () => await receiver.read(buffer) ?? 0,
    close: () => receiver.close(),
  }];
}

async function openSecured(url: string): Promise<Ends> {
  const [one, other] = await openPair(url);
  const key = (fill: number) => new Uint8Array(32).fill(fill); // each end takes over its own
  const common = { remoteStaticKey: new Uint8Array(32), handshakeHash: new Uint8Array(32) };
  const sender = secureConnectionFromKeys(one, { sendKey: key(1), receiveKey: key(2), ...common });
  const receiver = secureConnectionFromKeys(other, {
    sendKey: key(2),
    receiveKey: key(1),
    ...common,
  });
  return [senderOf(sender), receiverOf(receiver)];
}

async function openPair(url: string): Promise<[TcpConnection, TcpConnection]> {
  const token = crypto.getRandomValues(new Uint8Array(32));
  return [
    await openRelayConnection(url, { network: TRUSTING_NETWORK, token }),
    await openRelayConnection(url, { network: TRUSTING_NETWORK, token }),
  ];
}

function senderOf(connection: { write(data: Uint8Array): Promise<number>; close(): void }): Sender {
  return { write: (data) => writeAll(connection, data), close: () => connection.close() };
}

function receiverOf(
  connection: { read(buffer: Uint8Array): Promise<number | null>; close(): void },
): Receiver {
  const buffer = new Uint8Array(65_536);
  return {
    async read() {
      return await connection.read(buffer) ?? 0;
    },
    close: () => connection.close(),
  };
}

function dial(port: number): Promise<TcpConnection> {
  const remote = { ip: "127.0.0.1", port };
  return given.tls
    ? TRUSTING_NETWORK.connectTls(remote, { hostname: "localhost" })
    : network.connectTcp(remote);
}

/** The process of the servers. */
async function serve(): Promise<void> {
  const none = Infinity;
  const limits = {
    maxRelays: 1000,
    maxRelaysPerSource: 1000,
    maxConnectionsPerSource: 2000,
    relayBytesPerSecond: none,
    allRelaysBytesPerSecond: none,
    sourceBurst: 1e9,
    sourcePerSecond: 1e9,
  };
  const local = { ip: "127.0.0.1", port: 0 };
  const files = { cert: tlsFixture("server.pem"), key: tlsFixture("server.key") };
  using tls = given.tls ? await openTlsAcceptor(files) : undefined;
  await using server = await serveRendezvous({ network, local, limits, tls });
  const where = { hostname: "127.0.0.1", port: 0 };
  const listener = given.tls
    ? Deno.listenTls({
      ...where,
      cert: await Deno.readTextFile(files.cert),
      key: await Deno.readTextFile(files.key),
    })
    : Deno.listen(where);
  console.log(JSON.stringify({ relay: server.url, forwarder: listener.addr.port }));
  for (;;) {
    const [one, other] = [await listener.accept(), await listener.accept()];
    join(one, other);
    join(other, one);
  }
}

/** As bare as it gets. */
async function join(from: Deno.Conn, to: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(65_536);
  try {
    for (;;) {
      const length = await from.read(buffer);
      if (length === null) break;
      await writeAll(to, buffer.subarray(0, length));
    }
    await to.closeWrite();
  } catch { /* an end has gone */ }
}

async function startServers(): Promise<
  { relay: string; forwarder: number } & AsyncDisposable
> {
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", import.meta.filename!, "serve", ...given.tls ? ["--tls"] : []],
    stdout: "piped",
  }).spawn();
  const reader = new BufferedReader({
    read: async (buffer) => {
      const { value } = await stdout.read(new Uint8Array(buffer.length));
      if (value === undefined) return null;
      buffer.set(value);
      return value.length;
    },
  }, { initialLength: 4096 });
  const stdout = process.stdout.getReader({ mode: "byob" });
  while (!reader.unread.includes(10)) if (!await reader.fill()) throw new Error("no server");
  return {
    ...JSON.parse(new TextDecoder().decode(reader.unread)),
    async [Symbol.asyncDispose]() {
      await stdout.cancel();
      process.kill("SIGTERM");
      await process.status;
    },
  };
}

const DATA = crypto.getRandomValues(new Uint8Array(65_536));
const SMALL_DATA = DATA.subarray(0, 16_384);
const MASK = Uint8Array.of(1, 2, 3, 4);
const NO_MASK = new Uint8Array(4);
const SMALL_FRAME = encodeWebSocketFrame("binary", SMALL_DATA, NO_MASK);
const SHARE_MS = 5000;

if (given._[0] === "serve") await serve();
else await main();
