// deno-lint-ignore-file no-console
/**
 * How many Binding requests per second our server answers, compared with coturn and with a bare echo in Deno, which is the
 * most that a server in Deno can do, on the same machine: in alternating rounds of a second each, with the same load
 * (`stun_load.ts`). Machines and their load vary, so only the ratios count; `baselines/server.json` keeps those to coturn.
 * There are two of each, because a busy machine distorts the first: answers per second, and answers per second of processor
 * time.
 *
 *     deno run -A bench/server_bench.ts [--update]
 *
 * Fails if a ratio is less than 70 % of the baseline's. Linux, with coturn installed.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { systemNetwork } from "../lib/net/system.ts";
import { serveStun } from "../lib/stun/server/server.ts";
import { cpuSeconds } from "./cpu_seconds.ts";
import { median } from "./median.ts";
import type { LoadReport } from "./stun_load.ts";

/** The rates of one server in one round. */
interface Rates {
  readonly perSecond: number;
  readonly perCpuSecond: number;
}

/** Our rate divided by another's; `baselines/server.json` has those to coturn. */
interface Ratios {
  readonly perSecondRatio: number;
  readonly perCpuSecondRatio: number;
}

async function compare(): Promise<Record<"coturn" | "echo", Ratios>> {
  await using ours = start(Deno.execPath(), [
    ...["run", "--unstable-net", "--allow-net", import.meta.filename!, "serve"],
    `${OUR_PORT}`,
  ]);
  await using coturn = start("turnserver", [
    ...["-n", "-S", "-z", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "/dev/null"],
    ...["-L", "127.0.0.1", "-L", "127.0.0.2", "-p", `${COTURN_PORT}`],
    ...["--alt-listening-port", `${COTURN_PORT + 1}`],
  ]);
  await using echo = start(Deno.execPath(), [
    ...["run", "--unstable-net", "--allow-net", import.meta.filename!, "echo"],
    `${ECHO_PORT}`,
  ]);
  await delay(START_MS);
  const rounds: Round[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    rounds.push({
      ours: await measure(ours.pid, OUR_PORT),
      coturn: await measure(coturn.pid, COTURN_PORT),
      echo: await measure(echo.pid, ECHO_PORT),
    });
  }
  const medianOf = (pick: (round: Round) => number) => median(rounds.map(pick));
  for (const name of ["ours", "coturn", "echo"] as const) {
    const perSecond = Math.round(medianOf((round) => round[name].perSecond));
    const perCpuSecond = Math.round(medianOf((round) => round[name].perCpuSecond));
    console.log(`${name}: ${perSecond} answers/s, ${perCpuSecond} answers per second of CPU`);
  }
  const ratiosTo = (name: "coturn" | "echo"): Ratios => ({
    perSecondRatio: medianOf((round) => round.ours.perSecond / round[name].perSecond),
    perCpuSecondRatio: medianOf((round) => round.ours.perCpuSecond / round[name].perCpuSecond),
  });
  return { coturn: ratiosTo("coturn"), echo: ratiosTo("echo") };
}

/** The rates of all in one round. */
type Round = Readonly<Record<"ours" | "coturn" | "echo", Rates>>;

async function measure(pid: number, port: number): Promise<Rates> {
  const before = cpuSeconds(pid);
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--allow-ffi", new URL("./stun_load.ts", import.meta.url).pathname],
      ...["127.0.0.1", `${port}`, "1", `${REQUEST_BYTES}`],
    ],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const { answers, elapsedMs }: LoadReport = JSON.parse(new TextDecoder().decode(stdout));
  if (answers === 0) throw new Error(`Cannot measure: nothing answers at port ${port}`);
  return {
    perSecond: answers / elapsedMs * 1000,
    perCpuSecond: answers / (cpuSeconds(pid) - before),
  };
}

function round(ratio: number): number {
  return Math.round(ratio * 100) / 100;
}

function start(program: string, args: string[]): Deno.ChildProcess {
  return new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
}

/** As long as our full response over IPv4, so that no tokens are needed. */
const REQUEST_BYTES = 68;
const ROUNDS = 5;
const START_MS = 1500;
const OUR_PORT = 34_781;
const COTURN_PORT = 34_783;
const ECHO_PORT = 34_785;
const TOLERANCE = 0.7;
const BASELINE = new URL("./baselines/server.json", import.meta.url);

if (import.meta.main && Deno.args[0] === "serve") {
  const address = "127.0.0.1";
  const port = Number(Deno.args[1]);
  const options = { address, alternateAddress: "127.0.0.2", port, alternatePort: port + 1 };
  await using server = await serveStun({ network: systemNetwork, ...options });
  await server.finished;
} else if (import.meta.main && Deno.args[0] === "echo") {
  const port = Number(Deno.args[1]);
  const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port });
  const buffer = new Uint8Array(65_535);
  for (;;) {
    const [data, from] = await socket.receive(buffer);
    await socket.send(data, from);
  }
} else if (import.meta.main) {
  const { coturn: found, echo } = await compare();
  for (const [name, ratios] of Object.entries({ coturn: found, "a bare echo": echo })) {
    console.log(`ratio to ${name}: ${ratios.perSecondRatio.toFixed(2)} by time`);
    console.log(`ratio to ${name}: ${ratios.perCpuSecondRatio.toFixed(2)} by CPU time`);
  }
  if (Deno.args.includes("--update")) {
    Deno.writeTextFileSync(
      BASELINE,
      JSON.stringify(found, (_, ratio) => typeof ratio === "number" ? round(ratio) : ratio, 2) +
        "\n",
    );
  } else {
    const baseline: Ratios = JSON.parse(Deno.readTextFileSync(BASELINE));
    for (const key of ["perSecondRatio", "perCpuSecondRatio"] as const) {
      if (found[key] >= baseline[key] * TOLERANCE) continue;
      console.log(`${key} is ${found[key].toFixed(2)}, and was ${baseline[key].toFixed(2)}`);
      Deno.exitCode = 1;
    }
  }
}
