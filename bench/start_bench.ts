// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * How long a command takes to start: whole processes, medians, beside Deno's own start with an empty file.
 *
 *     deno run -A bench/start_bench.ts [--runs N]
 *
 * Measured are the command that `deno task install` installs and `deno run cli.ts` in the clone. The rounds take turns, so
 * that a busy moment of the machine meets all of them. `nat-test` tests against a server on loopback; `listen` is
 * measured until it prints its ticket, with that server and a rendezvous on loopback.
 *
 * @module
 */

import { BUNDLE_ENTRY, bundleCommand, INSTALLED_FLAGS, path } from "../deps/installed_command.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { serveStun } from "../lib/stun/server/server.ts";
import { median } from "./median.ts";

const GOALS_MS: Readonly<Record<string, number>> = { version: 60, "nat-test": 140, listen: 160 };

const runs = Number(Deno.args[Deno.args.indexOf("--runs") + 1] ?? NaN) || 15;
const folder = await Deno.makeTempDir({ prefix: "punchline-start-" });
try {
  await bundleCommand(folder);
  await Deno.writeTextFile(`${folder}/empty.ts`, "\n");
  const local = { ip: "127.0.0.1", port: 0 };
  await using rendezvous = await serveRendezvous({ network: systemNetwork, local });
  await using stun = await serveStun({
    ...{ network: systemNetwork, address: "127.0.0.1", alternateAddress: "127.0.0.2" },
    ...{ port: 0, alternatePort: 0 },
  });
  const server = `127.0.0.1:${stun.addresses[0]!.port}`;
  const commands: Readonly<Record<string, readonly string[]>> = {
    version: ["--version"],
    "nat-test": ["nat-test", "--server", server],
    listen: ["listen", "--server", server, "--rendezvous", rendezvous.url],
  };
  const starts: Readonly<Record<string, readonly string[]>> = {
    installed: [...INSTALLED_FLAGS, "--quiet", "--no-config", `${folder}/${BUNDLE_ENTRY}`],
    clone: ["--no-prompt", "--allow-net", "--config", path("deno.json"), path("cli.ts")],
  };
  const cases = [
    { name: "empty", args: [`${folder}/empty.ts`], goalMs: null },
    ...Object.entries(starts).flatMap(([start, flags]) =>
      Object.entries(commands).map(([command, words]) => ({
        name: `${start} ${command}`,
        args: [...flags, ...words],
        goalMs: GOALS_MS[command]!,
      }))
    ),
  ];
  const times = new Map<string, number[]>(cases.map(({ name }) => [name, []]));
  for (let run = -1; run < runs; run++) { // the first fills the caches
    for (const { name, args } of cases) {
      const elapsedMs = await time(
        args,
        name.endsWith("listen") ? "On the other machine" : undefined,
      );
      if (run >= 0) times.get(name)!.push(elapsedMs);
    }
  }
  for (const { name, goalMs } of cases) {
    const all = times.get(name)!;
    const [minMs, medianMs] = [Math.min(...all), median(all)].map(Math.round);
    console.log(JSON.stringify({ name, runs, minMs, medianMs, goalMs }));
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}

/** Until the process ends, or until it has printed the text. */
async function time(args: readonly string[], text?: string): Promise<number> {
  const startedAt = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", ...args],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    stdin: "piped",
    stdout: "null",
    stderr: text === undefined ? "null" : "piped",
  }).spawn();
  if (text !== undefined) {
    let printed = "";
    for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
      printed += chunk;
      if (printed.includes(text)) break;
    }
    if (!printed.includes(text)) throw new Error(`Cannot measure ${args.join(" ")}: ${printed}`);
    const elapsedMs = performance.now() - startedAt;
    child.kill("SIGKILL");
    await Promise.all([child.status, child.stdin.close()]);
    return elapsedMs;
  }
  const [{ success }] = await Promise.all([child.status, child.stdin.close()]);
  if (!success) throw new Error(`Cannot measure ${args.join(" ")}`);
  return performance.now() - startedAt;
}
