// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Where the time of a forwarded byte goes: one byte and its echo through two processes in a row, which pass it on over
 * Deno's sockets, over this library's, over Noise, and over a stream of a session. Each kind has fresh processes, and each
 * round is timed by itself, because most of the cost is code that V8 has not optimized yet.
 *
 *     deno run -A bench/echo_layers.ts [KIND ...]
 *
 * @module
 */

import { copyStream } from "../lib/base/reader.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { KeyPair } from "../lib/noise/handshake.ts";
import { secureConnection } from "../lib/noise/secure_connection.ts";
import { forward, serveForwards } from "../lib/peer/forward.ts";
import { StreamSession } from "../lib/session/streams.ts";
import type { TcpConnection } from "../lib/net/network.ts";

const KINDS = ["deno", "system", "noise", "plain-session", "session"] as const;
type Kind = typeof KINDS[number];

interface Pair {
  read(buffer: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
}

const ignore = () => {};

async function runEcho(): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log(`port ${listener.addr.port}.`);
  for await (const conn of listener) {
    conn.setNoDelay();
    copyStream(conn, conn).catch(ignore);
  }
}

function join(one: Pair, other: Pair): void {
  copyStream(one, other).catch(ignore);
  copyStream(other, one).catch(ignore);
}

async function secure(connection: TcpConnection, isInitiator: boolean) {
  return await secureConnection(connection, {
    pattern: "IK",
    role: isInitiator ? "initiator" : "responder",
    signal: AbortSignal.timeout(10_000),
    staticKey: isInitiator ? new KeyPair(new Uint8Array(32).fill(0x43)) : RESPONDER_KEY,
    remoteStaticKey: isInitiator ? RESPONDER_KEY.publicKey : undefined,
  });
}

/** The second process: carries on to the echo server. */
async function runFar(kind: Kind, port: number): Promise<void> {
  const target = { ip: "127.0.0.1", port };
  if (kind === "deno") {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    console.log(`port ${listener.addr.port}.`);
    for await (const conn of listener) {
      const out = await Deno.connect({ hostname: target.ip, port });
      conn.setNoDelay();
      out.setNoDelay();
      join(conn, out);
    }
    return;
  }
  const listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  console.log(`port ${listener.local.port}.`);
  for (;;) {
    const conn = await listener.accept();
    const path = kind === "noise" || kind === "session" ? await secure(conn, false) : conn;
    if (kind === "session" || kind === "plain-session") {
      const session = new StreamSession({ role: "controlled" });
      await session.attach(path);
      serveForwards(session, { targets: [port] }).catch(console.error);
    } else join(path, await systemNetwork.connectTcp(target));
  }
}

/** The first process. */
async function runNear(kind: Kind, port: number): Promise<void> {
  const target = { ip: "127.0.0.1", port };
  if (kind === "deno") return await runFar(kind, port);
  const listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  let session: StreamSession | undefined;
  if (kind === "session" || kind === "plain-session") {
    const conn = await systemNetwork.connectTcp(target);
    session = new StreamSession({ role: "controlling" });
    await session.attach(kind === "session" ? await secure(conn, true) : conn);
  }
  console.log(`port ${listener.local.port}.`);
  for (;;) {
    const local = await listener.accept();
    if (session !== undefined) {
      forward(session, local).catch(ignore);
      continue;
    }
    const conn = await systemNetwork.connectTcp(target);
    join(local, kind === "noise" ? await secure(conn, true) : conn);
  }
}

/** The microseconds that the threads of these processes have used: the main ones, and those that compile and collect. */
function used(pids: readonly number[]): [main: number, others: number] {
  const sums: [number, number] = [0, 0];
  for (const pid of pids) {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      const nanoseconds =
        Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`).split(" ")[0];
      sums[name === `${pid}` ? 0 : 1] += Number(nanoseconds) / 1000;
    }
  }
  return sums;
}

async function measure(port: number, pids: readonly number[]): Promise<void> {
  const text: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    conn.setNoDelay();
    const byte = new Uint8Array(1);
    const times: number[] = [];
    const before = used(pids);
    for (let i = 0; i < ECHOES; i++) {
      const startMs = performance.now();
      await conn.write(byte);
      await conn.read(byte);
      times.push(performance.now() - startMs);
    }
    const [main, others] = used(pids).map((each, i) => ((each - before[i]!) / ECHOES).toFixed(0));
    times.sort((a, b) => a - b);
    const at = (share: number) => (times[Math.floor(ECHOES * share)]! * 1000).toFixed(0);
    text.push(`${at(0.5)}/${at(0.99)} ${main}+${others}`);
  }
  console.log(text.join(",  "));
}

async function start(args: string[], flags: string[] = []): Promise<[Deno.ChildProcess, number]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", ...flags, import.meta.filename!, ...args],
    stdout: "piped",
  }).spawn();
  let printed = "";
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  while (!printed.includes(".")) printed += (await reader.read()).value;
  return [child, Number(/port (\d+)\./.exec(printed)![1])];
}

const ROUNDS = Number(Deno.env.get("ROUNDS") ?? 8);
const ECHOES = 500;
const RESPONDER_KEY = new KeyPair(new Uint8Array(32).fill(0x42));
const [mode, kind, port] = Deno.args;
if (mode === "echo") await runEcho();
else if (mode === "far") await runFar(kind as Kind, Number(port));
else if (mode === "near") await runNear(kind as Kind, Number(port));
else {
  const kinds = Deno.args.length > 0 ? Deno.args as Kind[] : KINDS;
  const flags = (Deno.env.get("FLAGS") ?? "").split(" ").filter((each) => each !== "");
  for (const kind of kinds) {
    const [echo, echoPort] = await start(["echo"]);
    const [far, farPort] = await start(["far", kind, `${echoPort}`], flags);
    const [near, nearPort] = await start(["near", kind, `${farPort}`], flags);
    console.log(
      `${kind}: p50/p99 of each ${ECHOES}, and processor time of main + other threads, in µs`,
    );
    await measure(nearPort, [near.pid, far.pid]);
    for (const child of [near, far, echo]) child.kill("SIGTERM");
    await Promise.all([near, far, echo].map((each) => each.status));
  }
  Deno.exit();
}
