// deno-lint-ignore-file no-console
/**
 * What a session, with the streams that share it, costs against the connection below it, plain or secured with Noise, over loopback to another process,
 * in alternating rounds. Machines differ and their load varies, so what counts is the ratio of consecutive rounds;
 * `baselines/session.json` has the medians.
 *
 *     deno run -A --v8-flags=--expose-gc bench/session_bench.ts [--update]
 *
 * Fails if a figure is less than half as good as the baseline's.
 *
 * @module
 */

import type { TransportAddress } from "../lib/net/address.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { generateKeyPair, KeyPair } from "../lib/noise/handshake.ts";
import { secureConnection } from "../lib/noise/secure_connection.ts";
import type { SessionRole } from "../lib/session/migration_engine.ts";
import { StreamSession } from "../lib/session/streams.ts";
import { cpuSeconds } from "./cpu_seconds.ts";
import { answerStream, compareBulk, compareRoundTrips, type Stream } from "./compare_streams.ts";

/** The figures in `baselines/session.json`: session / connection below. */
interface Figures {
  /** Bytes per second, in writes of 64 KiB, over TCP. */
  readonly plainBulkRatio: number;
  /** The time for a message of 64 bytes and its echo, over TCP. */
  readonly plainRoundTripRatio: number;
  /** The same as `plainBulkRatio`, over a secured connection. */
  readonly secureBulkRatio: number;
  /** The processor time of both sides for it. */
  readonly secureBulkCpuRatio: number;
  /** The same as `plainRoundTripRatio`, over a secured connection. */
  readonly secureRoundTripRatio: number;
  /** The memory of an idle session that has carried one message, with its in-memory path, in KiB. */
  readonly idleKib: number;
}

async function measure(): Promise<Figures> {
  const idleKib = await weighIdle();
  await using server = await startServer();
  const plainRoundTripRatio = (await compareRoundTrips(PLAIN, PLAIN_SESSION)).ratio;
  const secureRoundTripRatio = (await compareRoundTrips(SECURE, SECURE_SESSION)).ratio;
  const plainBulkRatio = (await compareBulk(PLAIN, PLAIN_SESSION)).ratio;
  const cpuOfBoth = () => cpuSeconds(Deno.pid) + cpuSeconds(server.pid);
  const secureBulk = await compareBulk(SECURE, SECURE_SESSION, cpuOfBoth);
  return {
    plainBulkRatio,
    plainRoundTripRatio,
    secureBulkRatio: secureBulk.ratio,
    secureBulkCpuRatio: secureBulk.cpuRatio!,
    secureRoundTripRatio,
    idleKib,
  };
}

async function startServer(): Promise<Deno.ChildProcess> {
  const server = new Deno.Command(Deno.execPath(), {
    args: ["run", "--unstable-net", "--allow-net", import.meta.filename!, "serve"],
    stdout: "piped",
  }).spawn();
  await server.stdout.getReader({ mode: "byob" }).read(new Uint8Array(4), { min: 4 }); // it is listening
  return server;
}

/** The memory that each of a thousand sessions adds, with its in-memory connection, in KiB. */
async function weighIdle(): Promise<number> {
  const sessions: StreamSession[] = [];
  const before = await weigh();
  for (let i = 0; i < IDLE_SESSIONS / 2; i++) {
    const [one, other] = memoryPair();
    const [a, b] = [
      new StreamSession({ role: "controlling" }),
      new StreamSession({ role: "controlled" }),
    ];
    await Promise.all([a.attach(one), b.attach(other)]);
    await a.write(new Uint8Array(MESSAGE_BYTES));
    await b.read(new Uint8Array(MESSAGE_BYTES));
    sessions.push(a, b);
  }
  await new Promise((resolve) => setTimeout(resolve, 500)); // everything is acknowledged
  const weight = await weigh() - before;
  for (const session of sessions) session.reset();
  return weight / 1024 / IDLE_SESSIONS;
}

async function weigh(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

async function serve(service: Service): Promise<void> {
  using listener = await systemNetwork.listenTcp(service.address);
  await Deno.stdout.write(Uint8Array.of(0x2e));
  for (;;) answer(await listener.accept(), service).catch(() => {}); // clients cut it short
}

async function answer(connection: TcpConnection, service: Service): Promise<void> {
  using opened = await wrap(connection, service, "controlled");
  await answerStream(opened);
}

async function wrap(
  connection: TcpConnection,
  { isSecure, isSession }: Service,
  role: SessionRole,
): Promise<TcpConnection> {
  const path = isSecure ? await secure(connection, role) : connection;
  if (!isSession) return path;
  const session = new StreamSession({ role });
  await session.attach(path);
  return session;
}

function secure(connection: TcpConnection, role: SessionRole) {
  const isInitiator = role === "controlling";
  return secureConnection(connection, {
    pattern: "IK",
    role: isInitiator ? "initiator" : "responder",
    signal: AbortSignal.timeout(10_000),
    staticKey: isInitiator ? generateKeyPair() : RESPONDER_KEY,
    remoteStaticKey: isInitiator ? RESPONDER_KEY.publicKey : undefined,
  });
}

function memoryPair(): [TcpConnection, TcpConnection] {
  const [one, other] = [new TransformStream<Uint8Array>(), new TransformStream<Uint8Array>()];
  return [toConnection(one, other), toConnection(other, one)];
}

/** Enough of a connection for a few messages. */
function toConnection(
  { writable }: TransformStream<Uint8Array>,
  { readable }: TransformStream<Uint8Array>,
): TcpConnection {
  const [writer, reader] = [writable.getWriter(), readable.getReader()];
  const close = () => void Promise.allSettled([writer.abort(), reader.cancel()]);
  return {
    local: PLAIN.address,
    remote: PLAIN.address,
    read: async (buffer) => {
      const { value } = await reader.read();
      if (value === undefined) return null;
      buffer.set(value);
      return value.length;
    },
    write: async (data) => {
      await writer.write(data.slice());
      return data.length;
    },
    closeWrite: () => writer.close(),
    close,
    reset: close,
    [Symbol.dispose]: close,
  };
}

interface Service extends Stream {
  readonly address: TransportAddress;
  readonly isSecure: boolean;
  readonly isSession: boolean;
}

function service(name: string, port: number, isSecure: boolean, isSession: boolean): Service {
  const address = { ip: "127.0.0.1", port };
  const found: Service = {
    name,
    address,
    isSecure,
    isSession,
    open: async () => await wrap(await systemNetwork.connectTcp(address), found, "controlling"),
  };
  return found;
}

const PLAIN = service("plain", 34_891, false, false);
const PLAIN_SESSION = service("plain session", 34_892, false, true);
const SECURE = service("secured", 34_893, true, false);
const SECURE_SESSION = service("secured session", 34_894, true, true);
const RESPONDER_KEY = new KeyPair(new Uint8Array(32).fill(0x42));
const MESSAGE_BYTES = 64;
const IDLE_SESSIONS = 1000;
const BASELINE = new URL("./baselines/session.json", import.meta.url);

/** How many times worse than the baseline a figure may be. */
const TOLERANCE = 2;

if (import.meta.main && Deno.args[0] === "serve") {
  await Promise.all([PLAIN, PLAIN_SESSION, SECURE, SECURE_SESSION].map(serve));
} else if (import.meta.main) {
  const figures = await measure();
  for (const [name, figure] of Object.entries(figures)) {
    console.log(`${name}: ${figure.toFixed(2)}`);
  }
  if (Deno.args.includes("--update")) {
    const round = (_: string, figure: unknown) =>
      typeof figure === "number" ? Math.round(figure * 100) / 100 : figure;
    Deno.writeTextFileSync(BASELINE, JSON.stringify(figures, round, 2) + "\n");
  } else {
    const baseline: Figures = JSON.parse(Deno.readTextFileSync(BASELINE));
    for (const key of Object.keys(figures) as (keyof Figures)[]) {
      const isRate = key === "plainBulkRatio" || key === "secureBulkRatio";
      const worse = isRate ? baseline[key] / figures[key] : figures[key] / baseline[key];
      if (worse <= TOLERANCE) continue;
      console.log(`${key} is ${figures[key].toFixed(2)}, and was ${baseline[key]}`);
      Deno.exitCode = 1;
    }
  }
  Deno.exit(); // some connections are still closing
}
