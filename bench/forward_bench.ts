// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * A forwarded port against `ssh -L` and against two bare pipes of Deno in a row, in the same run: how long a new connection
 * waits for its first byte, 100 HTTP requests at once, and one byte and its echo, the first 500 times and all 20,000 times.
 * Needs OpenSSH's `ssh`, `sshd` and `ssh-keygen`.
 *
 *     deno run -A bench/forward_bench.ts            by the commands, over loopback
 *     deno run -A bench/forward_bench.ts --rtt 82   over a path of that round trip within this process, without ssh
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { copyStream } from "../lib/base/reader.ts";
import { forward, serveForwards } from "../lib/peer/forward.ts";
import { StreamSession } from "../lib/session/streams.ts";
import { testPathPair } from "../tests/session/test_path.ts";
import { median } from "./median.ts";

const CLI = new URL("../cli.ts", import.meta.url).pathname;
const CONFIG = new URL("../deno.json", import.meta.url).pathname;
/** What a client measures: milliseconds, but for `served`. */
type Figures = Record<"firstMs" | "parallelMs" | "served" | "p50OfFirst" | "p50" | "p99", number>;

/** An HTTP server and an echo server on loopback; prints their ports. */
async function runServices(): Promise<void> {
  const web = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
    return new Response("x".repeat(10_000));
  });
  const echo = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log(web.addr.port, echo.addr.port);
  for await (const conn of echo) {
    conn.setNoDelay();
    conn.readable.pipeTo(conn.writable).catch(() => {});
  }
}

/** Passes on what arrives at one port to the other, with nothing in between: what Deno itself costs. */
async function runPipe(from: number, to: number): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: from });
  console.log("ready");
  for await (const near of listener) {
    const far = await Deno.connect({ hostname: "127.0.0.1", port: to });
    for (const conn of [near, far]) conn.setNoDelay();
    for (const [one, other] of [[near, far], [far, near]] as const) {
      copyStream(one, other).catch(() => {});
    }
  }
}

/** Measures through the forwarded ports, and prints the figures. */
async function runClient(web: number, echo: number): Promise<void> {
  await visit(web); // everything is loaded
  const firsts: number[] = [];
  for (let i = 0; i < 15; i++) firsts.push((await visit(web)).firstMs);
  const startMs = performance.now();
  const all = await Promise.all(Array.from({ length: 100 }, () => visit(web)));
  const parallelMs = performance.now() - startMs;
  const ofEchoes = await echoes(echo);
  const served = all.filter(({ bytes }) => bytes > 10_000).length;
  console.log(JSON.stringify({ firstMs: median(firsts), parallelMs, served, ...ofEchoes }));
}

async function visit(port: number): Promise<{ firstMs: number; bytes: number }> {
  const startMs = performance.now();
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(
    new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
  );
  const buffer = new Uint8Array(65_536);
  let bytes = await conn.read(buffer) ?? 0;
  const firstMs = performance.now() - startMs;
  for (let length; (length = await conn.read(buffer)) !== null;) bytes += length;
  return { firstMs, bytes };
}

async function echoes(port: number): Promise<Pick<Figures, "p50OfFirst" | "p50" | "p99">> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  conn.setNoDelay();
  const byte = new Uint8Array(1);
  const times: number[] = [];
  for (let i = 0; i < ECHOES; i++) {
    const startMs = performance.now();
    await conn.write(byte);
    await conn.read(byte);
    times.push(performance.now() - startMs);
    if (performance.now() > 30_000) break; // a far path
  }
  const p50OfFirst = median(times.slice(0, FIRST_ECHOES));
  times.sort((a, b) => a - b);
  return {
    p50OfFirst,
    p50: times[Math.floor(times.length / 2)]!,
    p99: times[Math.floor(times.length * 0.99)]!,
  };
}

/** Whatever the job leaves to the stack is ended with it, after an error, and before a signal ends this process. */
async function cleaningUp(job: (stack: AsyncDisposableStack) => Promise<void>): Promise<void> {
  const stack = new AsyncDisposableStack();
  let ending: Promise<void> | undefined;
  const end = () => ending ??= stack.disposeAsync();
  const onSignal = () => end().finally(() => Deno.exit(130));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, onSignal);
    stack.defer(() => Deno.removeSignalListener(signal, onSignal));
  }
  try {
    await job(stack);
  } finally {
    await end();
  }
}

async function compare(stack: AsyncDisposableStack): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "punchline-forward-bench-" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const host = "127.0.0.1";
  const here = [Deno.execPath(), "run", "--quiet", "-A", "--config", CONFIG, import.meta.filename!];
  const run = (...command: string[]) => {
    const running = new Running(command);
    stack.defer(() => running.end());
    return running;
  };
  const punchline = [Deno.execPath(), "run", "--quiet", "-A", "--config", CONFIG, CLI];
  const [web, echo] = (await run(...here, "services").prints(/^(\d+ \d+)\n/)).split(" ");
  const serve = run(
    ...punchline,
    "serve",
    "--json",
    "--address",
    host,
    "--port",
    "42830",
    "--rendezvous-port",
    "0",
  );
  const { rendezvous } = JSON.parse(await serve.prints(/^(.*"listening".*)\n/));
  const meeting = ["--rendezvous", rendezvous];
  const listen = run(
    ...punchline,
    "listen",
    "--no-code",
    "--tcp",
    web!,
    "--tcp",
    echo!,
    ...meeting,
  );
  const ticket = await listen.prints(/(punchline:[\w-]{60,})/);
  const [one, two, three, four] = [42_801, 42_802, 42_803, 42_804];
  const connect = run(...punchline, "connect", ticket, ...meeting, ...[
    ...["--tcp", `${one}:${web}`, "--tcp", `${two}:${echo}`],
  ]);
  console.log((await connect.prints(/(Connected.*)\n/)).trim());
  await startSsh(run, folder, { host, forwards: [[three, web!], [four, echo!]] });
  const measure = async (ports: readonly number[]): Promise<Figures> => {
    const client = run(...here, "client", ...ports.map(String));
    return JSON.parse(await client.prints(/^(\{.*\})\n/m));
  };
  for (const [from, to] of [[42_815, web], [42_816, echo], [42_805, 42_815], [42_806, 42_816]]) {
    await run(...here, "pipe", String(from), String(to)).prints(/(ready)/);
  }
  const rounds: [Figures, Figures, Figures][] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const ours = await measure([one, two]);
    rounds.push([ours, await measure([three, four]), await measure([42_805, 42_806])]);
  }
  console.log(`Medians of ${ROUNDS} rounds; a ratio is the median of those of each round.`);
  for (const key of ["firstMs", "parallelMs", "p50OfFirst", "p50", "p99"] as const) {
    const [ours, ssh, bare] = [0, 1, 2].map((which) =>
      median(rounds.map((round) => round[which]![key])).toFixed(2)
    );
    const ratio = median(rounds.map(([ours, ssh]) => ours[key] / ssh[key])).toFixed(2);
    console.log(
      `${WORDS[key]}: ${ours} ms, ssh -L ${ssh} ms, ratio ${ratio}; two bare pipes ${bare} ms`,
    );
  }
  const served = rounds.map(([ours, ssh]) => `${ours.served} and ${ssh.served}`);
  console.log(`answered of 100 at once, and by ssh -L: ${served.join("; ")}`);
}

async function startSsh(
  run: (...command: string[]) => Running,
  folder: string,
  { host, forwards }: {
    host: string;
    forwards: readonly (readonly [number, string])[];
  },
): Promise<void> {
  for (const name of ["host", "user"]) {
    await new Running(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", `${folder}/${name}`])
      .ended();
  }
  await Deno.copyFile(`${folder}/user.pub`, `${folder}/authorized`);
  await Deno.mkdir("/run/sshd", { recursive: true });
  await Deno.writeTextFile(
    `${folder}/sshd_config`,
    `Port 42822\nListenAddress ${host}\nHostKey ${folder}/host\nAuthorizedKeysFile ${folder}/authorized\n` +
      `PermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\nMaxSessions 200\n`,
  );
  await run("/usr/sbin/sshd", "-D", "-e", "-f", `${folder}/sshd_config`).prints(/(listening)/);
  const login = Deno.env.get("USER") ?? "root";
  const ssh = run(...[
    ...["ssh", "-v", "-N", "-p", "42822", "-i", `${folder}/user`, "-F", "none"],
    ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"],
    ...forwards.flatMap(([local, remote]) => ["-L", `127.0.0.1:${local}:127.0.0.1:${remote}`]),
    `${login}@${host}`,
  ]);
  await ssh.prints(/(Entering interactive session)/);
}

/** The same figures over a path that delays everything, with the library's own calls. */
async function measureFar(rttMs: number, stack: AsyncDisposableStack): Promise<void> {
  const [path, otherPath] = testPathPair({ delayMs: rttMs / 2 });
  const one = new StreamSession({ role: "controlling" });
  const other = new StreamSession({ role: "controlled" });
  await Promise.all([one.attach(path), other.attach(otherPath)]);
  const services = new Running([
    ...[
      Deno.execPath(),
      "run",
      "--quiet",
      "-A",
      "--config",
      CONFIG,
      import.meta.filename!,
      "services",
    ],
  ]);
  stack.defer(() => services.end());
  const ports = (await services.prints(/^(\d+ \d+)\n/)).split(" ").map(Number);
  serveForwards(other, { targets: ports }).catch(console.error);
  const fronts = ports.map((port) => {
    const front = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    (async () => {
      for await (const local of front) {
        forward(one, local, { target: `${port}` }).catch(console.error);
      }
    })();
    return front.addr.port;
  });
  await runClient(fronts[0]!, fronts[1]!);
}

/** A process, and what it prints. */
class Running {
  readonly #child: Deno.ChildProcess;
  #printed = "";
  #changed = Promise.withResolvers<void>();

  constructor([command, ...args]: readonly string[]) {
    this.#child = new Deno.Command(command!, { args, stdout: "piped", stderr: "piped" }).spawn();
    for (const stream of [this.#child.stdout, this.#child.stderr]) this.#read(stream);
  }

  async prints(expression: RegExp): Promise<string> {
    const endMs = performance.now() + 90_000;
    for (;;) {
      const match = expression.exec(this.#printed);
      if (match !== null) return match[1]!;
      if (performance.now() > endMs) throw new Error(`${expression} in\n${this.#printed}`);
      await Promise.race([
        this.#changed.promise,
        new Promise((resolve) => setTimeout(resolve, 1000)),
      ]);
    }
  }

  async ended(): Promise<void> {
    if (!(await this.#child.status).success) throw new Error(this.#printed);
  }

  async end(): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // it has ended
    }
    await this.#child.status;
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.#printed += text;
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    }
  }
}

const ECHOES = 20_000;

/** While V8 has not optimized much yet. */
const FIRST_ECHOES = 500;
const ROUNDS = 3;

const WORDS = {
  firstMs: "first byte of a new connection",
  parallelMs: "100 HTTP requests at once",
  p50OfFirst: `a byte and its echo, median of the first ${FIRST_ECHOES}`,
  p50: "median of all",
  p99: "99th percentile of all",
};

const given = parseArgs(Deno.args, { string: ["rtt"] });
const [mode, ...rest] = given._.map(String);

if (mode === "services") await runServices();
else if (mode === "pipe") await runPipe(Number(rest[0]), Number(rest[1]));
else if (mode === "client") await runClient(Number(rest[0]), Number(rest[1]));
else {
  const rttMs = given.rtt;
  await cleaningUp(rttMs === undefined ? compare : (stack) => measureFar(Number(rttMs), stack));
  Deno.exit(); // some connections are still closing
}
