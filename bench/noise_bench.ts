// deno-lint-ignore-file no-console
/**
 * What encryption costs: a connection secured with Noise beside a plain one, over loopback to another process, in
 * rounds that take turns. Machines and their moods differ, so what counts is the ratio of two rounds that follow each
 * other; `baselines/noise.json` keeps the medians.
 *
 *     deno run -A bench/noise_bench.ts [--update]
 *
 * Fails if a figure is less than half as good as the baseline's. Takes `openssl`.
 *
 * Two more figures say what to make of the ratios. The bounds are what would be left if all but the cipher, on the
 * thread that sends, cost nothing: they fall where the plain connection is fast, as the cipher stays as it is. And
 * beside them stands Deno's own TLS, which is native code with the processor's AES. The round trip depends on what else
 * the machine does: where a processor sleeps between two messages, waking it hides most of what the cipher costs.
 *
 * @module
 */

import { release } from "../lib/bytes.ts";
import { ChaChaPolyOpener, ChaChaPolySealer } from "../lib/crypto.ts";
import type { TransportAddress } from "../lib/net/address.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { generateKeyPair, KeyPair, secureConnection } from "../lib/noise/mod.ts";
import { MAX_PLAINTEXT_LENGTH } from "../lib/noise/record_cipher.ts";
import { makeCertificate } from "../tests/interop/coturn.ts";
import { answerStream, compareBulk, compareRoundTrips, type Stream } from "./compare_streams.ts";
import { median } from "./median.ts";

/** What `baselines/noise.json` keeps. */
interface Figures {
  /** Bytes a second, writing 64 KiB at a time: secured by plain. */
  readonly bulkRatio: number;
  /** What is left of the plain one's speed after the cipher. */
  readonly bulkBound: number;
  /** TLS by plain. */
  readonly tlsBulkRatio: number;
  /** Milliseconds of a message of 64 bytes and its echo: secured by plain. */
  readonly roundTripRatio: number;
  /** The plain one's time and that of the cipher in a loop by the plain one's. */
  readonly roundTripBound: number;
  /** TLS by plain. */
  readonly tlsRoundTripRatio: number;
  /** Of an IK handshake on a connection that is open. */
  readonly handshakeMs: number;
  /** Of the first one in two processes that have just started. */
  readonly firstHandshakeMs: number;
}

async function measure(): Promise<Figures> {
  const directory = await Deno.makeTempDir({ prefix: "noise-bench-" });
  const { caCert } = await makeCertificate(directory);
  await using server = new Deno.Command(Deno.execPath(), {
    args: ["run", "--unstable-net", "-A", import.meta.filename!, "serve", directory],
    stdout: "piped",
  }).spawn();
  await server.stdout.getReader({ mode: "byob" }).read(new Uint8Array(1)); // it listens
  await Deno.remove(directory, { recursive: true });
  const firstHandshakeMs = await handshake();
  const handshakeMs = await medianOf(HANDSHAKES, handshake);
  const tls: Stream = {
    name: "TLS",
    open: () => systemNetwork.connectTls(TLS_ADDRESS, { hostname: "localhost", caCerts: [caCert] }),
  };
  const roundTrips = await compareRoundTrips(PLAIN, SECURED);
  const bulk = await compareBulk(PLAIN, SECURED);
  const message = cipherMs(64);
  const record = cipherMs(MAX_PLAINTEXT_LENGTH);
  return {
    bulkRatio: bulk.ratio,
    bulkBound: 1 / (1 + record.seal * bulk.first / MAX_PLAINTEXT_LENGTH),
    tlsBulkRatio: (await compareBulk(PLAIN, tls)).ratio,
    roundTripRatio: roundTrips.ratio,
    roundTripBound: 1 + 2 * (message.seal + message.open) / roundTrips.first,
    tlsRoundTripRatio: (await compareRoundTrips(PLAIN, tls)).ratio,
    ...{ handshakeMs, firstHandshakeMs },
  };
}

/** Milliseconds that the cipher takes for one message, in a loop. */
function cipherMs(length: number): { seal: number; open: number } {
  const key = new Uint8Array(32).fill(0x42);
  const nonce = new Uint8Array(12);
  const plaintext = new Uint8Array(length);
  const target = new Uint8Array(length + 16);
  const sealed = new ChaChaPolySealer(key, nonce).seal(NO_AD, plaintext, target).slice();
  const open = () => release(new ChaChaPolyOpener(key, nonce).open(NO_AD, sealed)!);
  const seal = () => new ChaChaPolySealer(key, nonce).seal(NO_AD, plaintext, target);
  const times = (act: () => void) =>
    median(Array.from({ length: CIPHER_ROUNDS }, () => {
      const start = performance.now();
      for (let i = 0; i < CIPHER_MESSAGES; i++) act();
      return (performance.now() - start) / CIPHER_MESSAGES;
    }));
  const found = { seal: times(seal), open: times(open) };
  const inMicroseconds = `${(found.seal * 1000).toFixed(1)} and ${
    (found.open * 1000).toFixed(1)
  } µs`;
  console.log(`cipher: ${inMicroseconds} to seal and to open ${length} bytes`);
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
    answer(connection, address === SECURE_ADDRESS).catch(() => connection.close()); // the handshakes are cut short
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
    ...{ pattern: "IK", role, signal },
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
const CIPHER_ROUNDS = 31;
const CIPHER_MESSAGES = 200;
const NO_AD = new Uint8Array(0);
const BASELINE = new URL("./baselines/noise.json", import.meta.url);

/** A figure may be this much worse than the baseline's. */
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
