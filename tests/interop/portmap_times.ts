/**
 * How long it takes to map a port on miniupnpd, compared with `upnpc`, and to learn that no gateway answers:
 * `deno run -A tests/interop/portmap_times.ts [COUNT]`. Prints Markdown, for tests/interop/results/.
 *
 * @module
 */

import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { HomeRouter } from "./miniupnpd.ts";

const PROGRAM = new URL("programs/time_mappings.ts", import.meta.url);
const CLI = new URL("../../cli.ts", import.meta.url);
const count = Number(Deno.args[0] ?? 11);

await using home = await HomeRouter.start({ lanDelayMs: 1 });
const rttMs = await pingMs();
const ours = await home.host.json<[string, number[]][]>(PROGRAM, [`${count}`]);
const theirs = await times(async () => {
  await home.host.output("upnpc", ["-a", "192.168.1.2", "8080", "8080", "TCP"]);
}, async () => {
  await home.host.output("upnpc", ["-d", "8080", "TCP"]);
});
await home.stopDaemon({ flush: true });
const none = await times(() =>
  home.host.output(Deno.execPath(), denoArgs(CLI, ["map", "add", "tcp", "8080"]))
);
const theirNone = await times(() => home.host.output("upnpc", ["-l"]), undefined, 3);

print(`# Time to map a port

miniupnpd 2.3.1 on nftables, network namespaces, LAN round trip ${rttMs} ms (a wire that takes
1 ms each way); ${count} runs each, every one of which has to find the router.
Kernel ${Deno.osRelease()}, Deno ${Deno.version.deno}, ${new Date().toISOString().slice(0, 10)}.

50 ms of UPnP's time are miniupnpd's own: it waits that long before it answers a search.

| how | median ms | fastest | slowest |
| --- | --- | --- | --- |
${ours.map(([name, list]) => row(name, list)).join("\n")}
${row("\`upnpc -a\` (whole process)", theirs)}

No gateway answers (miniupnpd killed):

| how | median ms | fastest | slowest |
| --- | --- | --- | --- |
${row("\`map add\`: one error for all three (whole process)", none)}
${row("\`upnpc -l\` (whole process)", theirNone)}
`);

async function times(
  run: () => Promise<unknown>,
  after?: () => Promise<unknown>,
  rounds = 5,
): Promise<number[]> {
  const elapsedMs: number[] = [];
  for (let index = 0; index < rounds; index++) {
    const startMs = performance.now();
    await run();
    elapsedMs.push(performance.now() - startMs);
    await after?.();
  }
  return elapsedMs;
}

function row(name: string, elapsedMs: readonly number[]): string {
  const sorted = elapsedMs.toSorted((a, b) => a - b);
  const [median, least, most] = [
    sorted[sorted.length >> 1]!,
    sorted[0]!,
    sorted.at(-1)!,
  ].map((ms) => ms.toFixed(0));
  return `| ${name} | ${median} | ${least} | ${most} |`;
}

async function pingMs(): Promise<string> {
  const { stdout } = await home.host.output("ping", ["-c", "5", "-i", "0.2", "-q", "192.168.1.1"]);
  return / = [\d.]+\/([\d.]+)\//.exec(stdout)?.[1] ?? "unknown";
}

function print(text: string): void {
  // deno-lint-ignore no-console -- a program
  console.log(text);
}
