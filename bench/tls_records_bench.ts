// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * What a path between peers would gain if the platform's TLS, or AES-256-GCM in Noise, encrypted it: one stream to another
 * process over loopback, alone and below a session, in alternating rounds. Machines differ and their load varies, so what
 * counts is the ratio to Noise in the same round. The processor time is that of both processes, with the kernel's.
 *
 *     deno run -A --v8-flags=--expose-gc bench/tls_records_bench.ts [ROUNDS]
 *
 * Then: a short message there and back; the round trips until the first byte is back, through a proxy that delays; the memory of an idle connection; and
 * the ciphers alone.
 *
 * @module
 */

import { hmac } from "../lib/base/crypto.ts";
import { writeAll } from "../lib/base/reader.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { type ConnectionKeys, secureConnectionFromKeys } from "../lib/noise/secure_connection.ts";
import { StreamSession } from "../lib/session/streams.ts";
import { aesGcmConnection } from "./aes_gcm_records.ts";
import { cpuSeconds } from "./cpu_seconds.ts";
import { median } from "./median.ts";
import { measureCiphers, print } from "./record_ciphers.ts";
import { type Identity, makeIdentity } from "./self_signed.ts";
import {
  acceptProof,
  denoClient,
  dialSocket,
  fromDeno,
  listenSocket,
  nodeTls,
  type TlsKeys,
} from "./tls_paths.ts";

/** What a session would give both of its sides. Two real connections never share it. */
interface SessionKeys {
  readonly secret: Uint8Array<ArrayBuffer>;
  readonly client: Identity;
  readonly server: Identity;
}

/** One way to encrypt a connection. */
interface Encryption {
  readonly name: string;
  dial(port: number, keys: SessionKeys): Promise<TcpConnection>;
  /** Listens, and returns the port. */
  listen(keys: SessionKeys, onAccept: OnAccept): Promise<number>;
}

type OnAccept = (secure: () => Promise<TcpConnection>) => void;

/** An encryption with or without a session on top. */
interface Way {
  readonly name: string;
  readonly encryption: Encryption;
  readonly isSession: boolean;
}

async function measure(rounds: number): Promise<void> {
  const keys: SessionKeys = {
    secret: crypto.getRandomValues(new Uint8Array(32)),
    client: makeIdentity(NAME),
    server: makeIdentity(NAME),
  };
  await using server = startServer(keys);
  const ports: number[] = JSON.parse(await server.line());
  const openWay = async ({ encryption, isSession }: Way, index: number): Promise<TcpConnection> =>
    await withSession(await encryption.dial(ports[index]!, keys), isSession, "controlling");
  await measureRates(rounds, server.pid, openWay);
  await measureRoundTrips(rounds, openWay);
  await measureFirstBytes(ports, keys);
  await measureMemory(keys);
  await measureCiphers();
}

type OpenWay = (way: Way, index: number) => Promise<TcpConnection>;

async function measureRates(rounds: number, pid: number, openWay: OpenWay): Promise<void> {
  const streams = WAYS.map((way, index) => () => openWay(way, index));
  for (const stream of streams) await bulk(stream); // warm-up
  const results = WAYS.map(() => ({ rates: [] as number[], seconds: 0 }));
  for (let i = 0; i < rounds; i++) {
    for (const [index, stream] of streams.entries()) {
      const before = cpuSeconds(Deno.pid) + cpuSeconds(pid);
      const { rates } = results[index]!;
      rates.push(await bulk(stream));
      results[index]!.seconds += cpuSeconds(Deno.pid) + cpuSeconds(pid) - before;
    }
  }
  console.log(`bulk, ${rounds} rounds of ${BULK_BYTES / 1e6} MB: MB/s, ratio to Noise, CPU s/GB`);
  for (const [index, way] of WAYS.entries()) {
    const { rates, seconds } = results[index]!;
    const { rates: base } = results[WAYS.findIndex((other) => isBaseOf(other, way))]!;
    const ratio = median(rates.map((rate, round) => rate / base[round]!));
    const perGigabyte = seconds / (rounds * BULK_BYTES / 1e9);
    print(way.name, median(rates).toFixed(0), ratio.toFixed(2), perGigabyte.toFixed(2));
  }
}

/** Megabytes per second, until the other side has read everything. Streams need not be able to end. */
async function bulk(openStream: () => Promise<TcpConnection>): Promise<number> {
  using connection = await openStream();
  const data = new Uint8Array(WRITE_BYTES);
  const startMs = performance.now();
  await writeAll(connection, Uint8Array.of(BULK));
  for (let i = 0; i < WRITES; i++) await writeAll(connection, data);
  await connection.read(new Uint8Array(1));
  return BULK_BYTES / 1000 / (performance.now() - startMs);
}

/** One byte, there and back. */
async function echo(connection: TcpConnection): Promise<void> {
  await writeAll(connection, Uint8Array.of(ECHO));
  await connection.read(new Uint8Array(1));
}

/** The other side: returns everything, or a byte once the bulk has arrived. */
async function answer(connection: TcpConnection): Promise<void> {
  const buffer = new Uint8Array(WRITE_BYTES);
  let received = -1;
  for (let isBulk = false;;) {
    const length = await connection.read(buffer);
    if (length === null) return;
    if (received < 0) isBulk = buffer[0] === BULK;
    received += length;
    if (!isBulk) await writeAll(connection, buffer.subarray(0, length));
    else if (received === BULK_BYTES) await writeAll(connection, buffer.subarray(0, 1));
  }
}

function isBaseOf(other: Way, way: Way): boolean {
  return other.encryption === NOISE && other.isSession === way.isSession;
}

async function measureRoundTrips(rounds: number, openWay: OpenWay): Promise<void> {
  const message = new Uint8Array(MESSAGE_BYTES).fill(ECHO);
  const connections = await Promise.all(WAYS.map(openWay));
  const results: number[][] = WAYS.map(() => []);
  for (let i = -1; i < rounds; i++) {
    for (const [index, connection] of connections.entries()) {
      const startMs = performance.now();
      for (let sent = 0; sent < MESSAGES; sent++) {
        await writeAll(connection, message);
        for (let read = 0; read < MESSAGE_BYTES;) {
          read += (await connection.read(message.subarray(read)))!;
        }
      }
      if (i >= 0) results[index]!.push((performance.now() - startMs) * 1000 / MESSAGES);
    }
  }
  for (const connection of connections) connection.close();
  console.log(`${MESSAGE_BYTES} bytes there and back, ${rounds} rounds: µs, ratio to Noise`);
  for (const [index, way] of WAYS.entries()) {
    const times = results[index]!;
    const base = results[WAYS.findIndex((other) => isBaseOf(other, way))]!;
    const ratio = median(times.map((time, round) => time / base[round]!));
    print(way.name, median(times).toFixed(0), ratio.toFixed(2));
  }
}

/** From the moment when both sides have the TCP connection: how many round trips until a first byte is back. */
async function measureFirstBytes(ports: readonly number[], keys: SessionKeys): Promise<void> {
  console.log(`first byte and its echo, after TCP's handshake, RTT ${RTT_MS} ms: round trips`);
  for (const [index, { name, encryption, isSession }] of WAYS.entries()) {
    if (isSession) continue;
    const found: number[] = [];
    for (let i = 0; i < FIRST_BYTES; i++) {
      let connectedAtMs = 0;
      using proxy = await delayingProxy(ports[index]!, () => connectedAtMs = performance.now());
      using connection = await encryption.dial(proxy.port, keys);
      await echo(connection);
      found.push((performance.now() - connectedAtMs) / RTT_MS);
    }
    print(name, median(found).toFixed(2));
  }
}

/** Each kind in a new process, because memory that was used before would be used again. */
async function measureMemory(keys: SessionKeys): Promise<void> {
  console.log(`memory of an idle connection in the process that accepts: KiB, of ${IDLE}`);
  for (const [index, { name, encryption, isSession }] of WAYS.entries()) {
    if (isSession) continue;
    await using server = startServer(keys);
    const ports: number[] = JSON.parse(await server.line());
    const weigh = async (): Promise<number> => {
      await server.ask();
      return Number(await server.line());
    };
    const connections: TcpConnection[] = [];
    let before = 0;
    for (let i = -FIRST; i < IDLE; i++) {
      if (i === 0) before = await weigh();
      const connection = await encryption.dial(ports[index]!, keys);
      await echo(connection);
      connections.push(connection);
    }
    const kib = (await weigh() - before) / 1024 / IDLE;
    for (const connection of connections) connection.close();
    print(name, kib.toFixed(0));
  }
}

/** The other process. */
interface Server extends AsyncDisposable {
  readonly pid: number;
  /** The next line that it prints. */
  line(): Promise<string>;
  /** Asks for its memory. */
  ask(): Promise<void>;
}

function startServer(keys: SessionKeys): Server {
  const { secret, client, server } = keys;
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--unstable-net", "--v8-flags=--expose-gc", import.meta.filename!],
      ...["serve", JSON.stringify({ secret: secret.toBase64(), client, server })],
    ],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const output = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const input = process.stdin.getWriter();
  let unread = "";
  return {
    pid: process.pid,
    line: async () => {
      while (!unread.includes("\n")) unread += (await output.read()).value ?? "";
      const [line] = unread.split("\n", 1) as [string];
      unread = unread.slice(line.length + 1);
      return line;
    },
    ask: () => input.write(Uint8Array.of(0x0a)),
    [Symbol.asyncDispose]: async () => {
      process.kill();
      await process.status;
    },
  };
}

async function serve(text: string): Promise<void> {
  const parsed = JSON.parse(text);
  const keys: SessionKeys = { ...parsed, secret: Uint8Array.fromBase64(parsed.secret) };
  const ports = await Promise.all(
    WAYS.map(({ encryption, isSession }) =>
      encryption.listen(keys, async (accept) => {
        try {
          using connection = await withSession(await accept(), isSession, "controlled");
          await answer(connection);
        } catch { // the client has cut it short
        }
      })
    ),
  );
  console.log(JSON.stringify(ports));
  while (await Deno.stdin.read(new Uint8Array(1)) !== null) {
    for (let i = 0; i < 3; i++) {
      (globalThis as { gc?: () => void }).gc?.();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    console.log(Deno.memoryUsage().rss);
  }
}

async function withSession(
  path: TcpConnection,
  isSession: boolean,
  role: "controlling" | "controlled",
): Promise<TcpConnection> {
  if (!isSession) return path;
  const session = new StreamSession({ role });
  await session.attach(path);
  return session;
}

/** A way to the port that takes half of the time of a round trip in either direction. */
async function delayingProxy(
  port: number,
  onConnected: () => void,
): Promise<Disposable & { readonly port: number }> {
  const listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const target = { ip: "127.0.0.1", port };
  const open: TcpConnection[] = [];
  const pass = async (from: TcpConnection, to: TcpConnection) => {
    const buffer = new Uint8Array(WRITE_BYTES);
    for (;;) {
      const length = await from.read(buffer).catch(() => null); // it is over
      if (length === null) return;
      const chunk = buffer.slice(0, length);
      setTimeout(() => void writeAll(to, chunk).catch(() => {}), RTT_MS / 2); // if it is not over
    }
  };
  (async () => {
    const [one, other] = [await listener.accept(), await systemNetwork.connectTcp(target)];
    onConnected();
    open.push(one, other);
    void pass(one, other);
    void pass(other, one);
  })();
  return {
    port: listener.local.port,
    [Symbol.dispose]: () => {
      listener.close();
      for (const connection of open) connection.close();
    },
  };
}

function noiseKeys({ secret }: SessionKeys, role: "client" | "server"): ConnectionKeys {
  const [toServer, toClient] = ["to server", "to client"].map((label) => derive(secret, label));
  const isClient = role === "client";
  return {
    sendKey: isClient ? toServer! : toClient!,
    receiveKey: isClient ? toClient! : toServer!,
    handshakeHash: derive(secret, "hash"),
  };
}

function tlsKeys({ secret, client, server }: SessionKeys, role: "client" | "server"): TlsKeys {
  return {
    name: NAME,
    own: role === "client" ? client : server,
    remoteCert: role === "client" ? server.cert : client.cert,
    proof: derive(secret, "proof"),
  };
}

function derive(secret: Uint8Array, label: string): Uint8Array<ArrayBuffer> {
  return hmac("sha256", secret, new TextEncoder().encode(label));
}

/** An encryption on top of the library's own TCP connections, which it gets on both sides. */
function overTcp(
  name: string,
  secure: (
    connection: TcpConnection,
    role: "client" | "server",
    keys: SessionKeys,
  ) => TcpConnection | Promise<TcpConnection>,
): Encryption {
  return {
    name,
    dial: async (port, keys) =>
      await secure(await systemNetwork.connectTcp({ ip: "127.0.0.1", port }), "client", keys),
    listen: async (keys, onAccept) => {
      const listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
      (async () => {
        for (;;) {
          const connection = await listener.accept();
          onAccept(async () => await secure(connection, "server", keys));
        }
      })();
      return listener.local.port;
    },
  };
}

async function dialDeno(port: number, keys: SessionKeys): Promise<TcpConnection> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port });
  conn.setNoDelay();
  return await denoClient(conn, tlsKeys(keys, "client"));
}

const PLAIN = overTcp("plain TCP", (connection) => connection);

const NOISE = overTcp(
  "Noise",
  (connection, role, keys) => secureConnectionFromKeys(connection, noiseKeys(keys, role)),
);

const AES_GCM = overTcp(
  "Noise with AES-256-GCM",
  (connection, role, keys) => aesGcmConnection(connection, noiseKeys(keys, role)),
);

const PLAIN_DENO: Encryption = {
  name: "plain TCP, Deno.connect and Deno.listen",
  dial: async (port) => fromDeno(await Deno.connect({ hostname: "127.0.0.1", port })),
  listen: (_keys, onAccept) => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    (async () => {
      for await (const conn of listener) onAccept(() => Promise.resolve(fromDeno(conn)));
    })();
    return Promise.resolve(listener.addr.port);
  },
};

const DENO_TLS: Encryption = {
  name: "TLS, Deno.startTls and Deno.listenTls",
  dial: dialDeno,
  listen: (keys, onAccept) => {
    const { cert, key } = keys.server;
    const listener = Deno.listenTls({ hostname: "127.0.0.1", port: 0, cert, key });
    (async () => {
      for await (const conn of listener) {
        onAccept(async () => {
          const connection = fromDeno(conn);
          await acceptProof(connection, tlsKeys(keys, "server"));
          return connection;
        });
      }
    })();
    return Promise.resolve((listener.addr as Deno.NetAddr).port);
  },
};

const NODE_TLS: Encryption = {
  name: "TLS, node:tls on sockets",
  dial: async (port, keys) =>
    await nodeTls(await dialSocket(port), "client", tlsKeys(keys, "client")),
  listen: (keys, onAccept) =>
    listenSocket((socket) => onAccept(() => nodeTls(socket, "server", tlsKeys(keys, "server")))),
};

/** The side that dials is TLS's server: as for two sides that both dialled, it does not matter to TLS. */
const REVERSED_NODE_TLS: Encryption = {
  name: "TLS, node:tls on sockets, roles reversed",
  dial: async (port, keys) =>
    await nodeTls(await dialSocket(port), "server", tlsKeys(keys, "client")),
  listen: (keys, onAccept) =>
    listenSocket((socket) => onAccept(() => nodeTls(socket, "client", tlsKeys(keys, "server")))),
};

const CARRIED_TLS = overTcp(
  "TLS, node:tls on the library's connections",
  (connection, role, keys) => nodeTls(connection, role, tlsKeys(keys, role)),
);

const WAYS: readonly Way[] = [
  ...[
    ...[PLAIN, PLAIN_DENO, NOISE, AES_GCM],
    ...[DENO_TLS, NODE_TLS, REVERSED_NODE_TLS, CARRIED_TLS],
  ].map((encryption) => ({ name: encryption.name, encryption, isSession: false })),
  ...[PLAIN, NOISE, AES_GCM, DENO_TLS, NODE_TLS].map((encryption) => ({
    name: `session, ${encryption.name}`,
    encryption,
    isSession: true,
  })),
];

/** In both certificates. No authority may issue a certificate for such a name (RFC 6761 §6.4). */
const NAME = "peer.invalid";
const ECHO = 1;
const BULK = 2;
const MESSAGE_BYTES = 64;
const MESSAGES = 500;
const WRITE_BYTES = 65_536;
const WRITES = 2000;
const BULK_BYTES = WRITES * WRITE_BYTES;
const RTT_MS = 80;
const FIRST_BYTES = 5;
/** They bring code and memory that the others share. */
const FIRST = 100;
const IDLE = 300;

const [mode] = Deno.args;
if (mode === "serve") await serve(Deno.args[1]!);
else {
  await measure(Number(mode ?? 7));
  Deno.exit(); // some connections are still closing
}
