// deno-lint-ignore-file no-console
/**
 * What encryption costs: a connection secured with Noise against a plain one, over loopback to another process, in
 * alternating rounds. Machines differ and their load varies, so what counts is the ratio of consecutive rounds;
 * `baselines/noise.json` has the medians.
 *
 *     deno run -A bench/noise_bench.ts [--update]
 *
 * Fails if a figure is less than half as good as the baseline's. Needs `openssl`.
 *
 * Two more figures help to interpret the ratios. The bounds are the ratios if only the platform's cipher took time,
 * measured during real transfers: they are lower if the plain connection is fast, because the cipher's speed is fixed.
 * The other is Deno's own TLS, which is native code and uses the processor's AES.
 *
 * @module
 */

import type { TransportAddress } from "../lib/net/address.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { generateKeyPair, KeyPair } from "../lib/noise/handshake.ts";
import { secureConnection } from "../lib/noise/secure_connection.ts";
import { makeCertificate } from "../tests/interop/coturn.ts";
import { CipherClock } from "./cipher_clock.ts";
import {
  answerStream,
  compareBulk,
  compareRoundTrips,
  measureWithin,
  type Stream,
  WRITE_BYTES,
} from "./compare_streams.ts";
import { median } from "./median.ts";

/** The figures in `baselines/noise.json`. */
interface Figures {
  /** Bytes per second, in writes of 64 KiB: secured / plain. */
  readonly bulkRatio: number;
  /** The same ratio if only the cipher took time. */
  readonly bulkBound: number;
  /** The same for TLS / plain. */
  readonly tlsBulkRatio: number;
  /** The time for a message of 64 bytes and its echo: secured / plain. */
  readonly roundTripRatio: number;
  /** The same ratio if only the cipher, on both sides, took additional time. */
  readonly roundTripBound: number;
  /** The same for TLS / plain. */
  readonly tlsRoundTripRatio: number;
  /** The time of an IK handshake on an open connection. */
  readonly handshakeMs: number;
  /** The time of the first one in two new processes. */
  readonly firstHandshakeMs: number;
}

async function measure(): Promise<Figures> {
  const directory = await Deno.makeTempDir({ prefix: "noise-bench-" });
  const { caCert } = await makeCertificate(directory);
  await using server = new Deno.Command(Deno.execPath(), {
    args: ["run", "--unstable-net", "-A", import.meta.filename!, "serve", directory],
    stdout: "piped",
  }).spawn();
  await server.stdout.getReader({ mode: "byob" }).read(new Uint8Array(1)); // it is listening
  await Deno.remove(directory, { recursive: true });
  const firstHandshakeMs = await handshake();
  const handshakeMs = await medianOf(HANDSHAKES, handshake);
  const tls: Stream = {
    name: "TLS",
    open: () => systemNetwork.connectTls(TLS_ADDRESS, { hostname: "localhost", caCerts: [caCert] }),
  };
  const roundTrips = await compareRoundTrips(PLAIN, SECURED);
  const bulk = await compareBulk(PLAIN, SECURED);
  const cipher = await measureCipher();
  return {
    bulkRatio: bulk.ratio,
    bulkBound: 1 / (1 + cipher.write * bulk.first / WRITE_BYTES),
    tlsBulkRatio: (await compareBulk(PLAIN, tls)).ratio,
    roundTripRatio: roundTrips.ratio,
    roundTripBound: 1 + 2 * cipher.roundTrip / roundTrips.first,
    tlsRoundTripRatio: (await compareRoundTrips(PLAIN, tls)).ratio,
    handshakeMs,
    firstHandshakeMs,
  };
}

/** How many milliseconds of this side's work the cipher takes. */
async function measureCipher(): Promise<{ roundTrip: number; write: number }> {
  using clock = new CipherClock();
  const found = await measureWithin(SECURED, clock);
  const [message, write] = [found.roundTrip, found.write].map((ms) => (ms * 1000).toFixed(0));
  console.log(
    `cipher: ${message} µs of a round trip on either side, ${write} µs to write 64 KiB`,
  );
  return found;
}

async function handshake(): Promise<number> {
  using connection = await systemNetwork.connectTcp(SECURE_ADDRESS);
  const start = performance.now();
  using _secured = await secure(connection, "initiator");
  return performance.now() - start;
}

async function serve(address: TransportAddress): Promise<void> {
  using listener = await systemNetwork.listenTcp(address);
  await Deno.stdout.write(Uint8Array.of(0x2e));
  for (;;) {
    const connection = await listener.accept();
    answer(connection, address === SECURE_ADDRESS).catch(() => connection.close()); // clients cut the handshakes short
  }
}

async function serveTls({ ip, port }: TransportAddress, directory: string): Promise<void> {
  const [cert, key] = ["cert.pem", "key.pem"]
    .map((name) => Deno.readTextFileSync(`${directory}/${name}`)) as [string, string];
  using listener = Deno.listenTls({ hostname: ip, port, cert, key });
  for await (const conn of listener) answerStream(conn).catch(() => {}).finally(() => conn.close());
}

async function answer(connection: TcpConnection, isSecure: boolean): Promise<void> {
  using opened = isSecure ? await secure(connection, "responder") : connection;
  await answerStream(opened);
}

function secure(connection: TcpConnection, role: "initiator" | "responder") {
  const signal = AbortSignal.timeout(10_000);
  return secureConnection(connection, {
    pattern: "IK",
    role,
    signal,
    staticKey: role === "responder" ? RESPONDER_KEY : generateKeyPair(),
    remoteStaticKey: role === "responder" ? undefined : RESPONDER_KEY.publicKey,
  });
}

async function medianOf(times: number, measure: () => Promise<number>): Promise<number> {
  const found: number[] = [];
  for (let i = 0; i < times; i++) found.push(await measure());
  return median(found);
}

const PLAIN_ADDRESS: TransportAddress = { ip: "127.0.0.1", port: 34_791 };
const SECURE_ADDRESS: TransportAddress = { ip: "127.0.0.1", port: 34_792 };
const TLS_ADDRESS: TransportAddress = { ip: "127.0.0.1", port: 34_793 };
const PLAIN: Stream = { name: "plain", open: () => systemNetwork.connectTcp(PLAIN_ADDRESS) };
const SECURED: Stream = {
  name: "secured",
  open: async () => await secure(await systemNetwork.connectTcp(SECURE_ADDRESS), "initiator"),
};
const RESPONDER_KEY = new KeyPair(new Uint8Array(32).fill(0x42));
const HANDSHAKES = 31;
const BASELINE = new URL("./baselines/noise.json", import.meta.url);

/** How many times worse than the baseline a figure may be. */
const TOLERANCE = 2;

if (import.meta.main && Deno.args[0] === "serve") {
  await Promise.all([
    serveTls(TLS_ADDRESS, Deno.args[1]!),
    serve(PLAIN_ADDRESS),
    serve(SECURE_ADDRESS),
  ]);
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
    for (const key of ["bulkRatio", "roundTripRatio", "handshakeMs"] as const) {
      const worse = key === "bulkRatio"
        ? baseline[key] / figures[key]
        : figures[key] / baseline[key];
      if (worse <= TOLERANCE) continue;
      console.log(`${key} is ${figures[key].toFixed(2)}, and was ${baseline[key]}`);
      Deno.exitCode = 1;
    }
  }
}
