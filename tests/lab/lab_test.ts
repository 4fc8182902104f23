/**
 * The lab with real kernels: it behaves as the topology says, and leaves nothing behind.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Lab } from "../../lab/kernel/lab.ts";
import { denoArgs, type LabHost } from "../../lab/kernel/lab_host.ts";
import { labTest } from "./lab_test_case.ts";
import type { Answers } from "../../lab/kernel/programs/ask.ts";
import type { Opened } from "../../lab/kernel/programs/tcp_open.ts";
import { nat } from "../../lab/kernel/topology.ts";

labTest("UDP takes the configured round trip, and the NAT translates it", async () => {
  await using lab = await Lab.start({
    hosts: { server: {}, a: { behind: nat("portRestricted") } },
    internet: { rttMs: 50 },
  });
  await serveWhoami(lab.host("server"));
  const { texts, roundTripsMs } = await ask(lab.host("a"), 5000, lab.host("server"), 20);
  assertEquals(texts, ["198.51.100.1:5000"]);
  assertEquals(roundTripsMs.length, 20);
  assert(Math.min(...roundTripsMs) >= 50, `a round trip took ${Math.min(...roundTripsMs)} ms`);
  // Far more than the lab adds, but far less than another crossing would.
  assert(median(roundTripsMs) < 75, `the median round trip took ${median(roundTripsMs)} ms`);
});

labTest("ICMP echoes and port-unreachable errors pass a NAT", async () => {
  await using lab = await Lab.start({ hosts: { server: {}, a: { behind: nat("symmetric") } } });
  const { ip } = lab.host("server");
  const { stdout } = await lab.host("a").output("ping", ["-c", "2", "-i", "0.1", "-W", "2", ip]);
  assert(stdout.includes("2 received"), stdout);

  await lab.host("a").json<Answers>(ASK, ["5000", "1", "0", `${ip}:81`]);
  const { stdout: snmp } = await lab.host("a").output("cat", ["/proc/net/snmp"]);
  const [names, values] = snmp.split("\n").filter((line) => line.startsWith("Icmp: "))
    .map((line) => line.split(" "));
  const count = (name: string) => values![names!.indexOf(name)];
  assertEquals([count("InDestUnreachs"), count("InErrors"), count("InCsumErrors")], [
    "1",
    "0",
    "0",
  ]);
}, { programs: ["ping"] });

labTest("the configured share of packets is lost, and each loss is counted", async () => {
  await using lab = await Lab.start({
    hosts: { server: {}, a: { behind: nat("fullCone") } },
    internet: { loss: 0.2 },
  });
  await serveWhoami(lab.host("server"));
  const { roundTripsMs } = await ask(lab.host("a"), 5000, lab.host("server"), 500, 1);
  const { drops } = await lab.counters();
  assertEquals(drops, { internet: { loss: 500 - roundTripsMs.length } });
  // 0.8² of 500 is 320, with a standard deviation of 11.
  assert(roundTripsMs.length > 255 && roundTripsMs.length < 385, `${roundTripsMs.length} arrived`);
});

labTest("TCP carries a megabyte intact through two NATs with 1 % loss", async () => {
  await using lab = await Lab.start({
    hosts: { server: {}, a: { behind: nat("symmetric", { behind: nat("portRestricted") }) } },
    internet: { rttMs: 4, loss: 0.01 },
  });
  await serveWhoami(lab.host("server"));
  const opened = await openTcp(lab.host("a"), 5000, `${lab.host("server").ip}:${PORT}`, 1_000_000);
  assert(opened.outcome === "connected", JSON.stringify(opened));
  const [from, length, digest] = opened.received.split(" ");
  assertEquals(from!.split(":")[0], "198.51.100.1");
  assertEquals([length, digest], ["1000000", await sha256Of("h".repeat(1_000_000))]);
});

labTest(
  "a TCP connection is refused through a NAT, and a filtered one stays silent",
  async () => {
    await using lab = await Lab.start({
      hosts: {
        a: { behind: nat("portRestricted") },
        server: {},
        silent: { behind: nat("portRestricted") },
        resetting: { behind: nat({ unsolicitedSyn: "reset" }) },
      },
    });
    const a = lab.host("a");
    const closed = await openTcp(a, 5000, `${lab.host("server").ip}:81`);
    assertEquals(closed.outcome === "failed" && closed.code, "ECONNREFUSED");
    const reset = await openTcp(a, 5001, `${lab.nat("resetting/nat").externalIps[0]}:81`);
    assertEquals(reset.outcome === "failed" && reset.code, "ECONNREFUSED");

    const to = `${lab.nat("silent/nat").externalIps[0]}:81`;
    await using waiting = a.spawn(Deno.execPath(), denoArgs(TCP_OPEN, [`${a.ip}:5002`, to]), QUIET);
    await until(async () => (await lab.counters()).drops["silent/nat"]?.["no-mapping"] === 1);
    waiting.kill("SIGKILL");
  },
);

labTest("two hosts behind port-restricted NATs connect by TCP simultaneous open", async () => {
  await using lab = await Lab.start({
    hosts: { a: { behind: nat("portRestricted") }, b: { behind: nat("portRestricted") } },
    internet: { rttMs: 50 },
  });
  const [ofA, ofB] = ["a/nat", "b/nat"].map((name) => lab.nat(name).externalIps[0]!);
  const [a, b] = await Promise.all([
    openTcp(lab.host("a"), 5000, `${ofB}:6000`),
    openTcp(lab.host("b"), 6000, `${ofA}:5000`),
  ]);
  assert(a.outcome === "connected", JSON.stringify(a));
  assert(b.outcome === "connected", JSON.stringify(b));
  assertEquals([a.remote, b.remote], [`${ofB}:6000`, `${ofA}:5000`]);
  assertEquals([a.received, b.received], ["hhhhh", "hhhhh"]);
});

labTest(
  "two hosts behind one NAT reach each other directly, and by hairpinning if enabled",
  async () => {
    const home = nat("fullCone");
    await using lab = await Lab.start({
      hosts: { server: {}, a: { behind: home }, b: { behind: home } },
    });
    await serveWhoami(lab.host("server"));
    const [a, b] = [lab.host("a"), lab.host("b")];
    const { output } = await serveWhoami(a, `open=${lab.host("server").ip}:${PORT}`);
    const external = output.split("\n")[0]!;

    const askAs = (port: string, to: string) => b.json<Answers>(ASK, [port, "1", "0", to]);
    assertEquals((await askAs("6000", `${a.ip}:${PORT}`)).texts, [`${b.ip}:6000`]);
    const [ip] = lab.nat(home).externalIps;
    assertEquals((await askAs("6001", external)).texts, [`${ip}:6001`]);
    await lab.nat(home).setBehavior({ hairpinning: false });
    assertEquals((await askAs("6002", external)).texts, []);
  },
);

labTest("links can be blocked, interrupted and changed while the lab runs", async () => {
  await using lab = await Lab.start({ hosts: { server: {}, a: { behind: nat("fullCone") } } });
  await serveWhoami(lab.host("server"));
  const answers = async (port: number) =>
    (await ask(lab.host("a"), port, lab.host("server"))).texts.length;

  await lab.block("a/nat", "udp");
  assertEquals(await answers(5000), 0);
  const tcp = await openTcp(lab.host("a"), 5000, `${lab.host("server").ip}:${PORT}`);
  assertEquals(tcp.outcome, "connected");
  await lab.block("a/nat");
  await lab.outage("server");
  assertEquals(await answers(5001), 0);
  const { drops } = await lab.counters();
  assertEquals(drops, { "a/nat": { blocked: 1 }, server: { outage: 1 } });
});

labTest("a capture contains what a host sent and received", async () => {
  await using lab = await Lab.start({ hosts: { server: {}, a: {} } });
  await serveWhoami(lab.host("server"));
  const path = await Deno.makeTempFile({ suffix: ".pcap" });
  try {
    await lab.trace(path);
    await ask(lab.host("a"), 5000, lab.host("server"));
    const tcpdump = new Deno.Command("tcpdump", { args: ["-n", "-t", "-r", path], stderr: "null" });
    const stdout = new TextDecoder().decode((await tcpdump.output()).stdout);
    const [a, server] = [`${lab.host("a").ip}.5000`, `${lab.host("server").ip}.${PORT}`];
    assertEquals(stdout.trim().split("\n").map((line) => line.split(": ")[0]), [
      `IP ${a} > ${server}`,
      `IP ${a} > ${server}`,
      `IP ${server} > ${a}`,
      `IP ${server} > ${a}`,
    ]);
  } finally {
    await Deno.remove(path);
  }
}, { programs: ["tcpdump"] });

labTest("a burst of thousands of SYNs arrives without loss", async () => {
  await using lab = await Lab.start({
    hosts: { server: {}, a: { behind: nat("symmetric") } },
    internet: { rttMs: 20 },
  });
  const to = `${lab.host("server").ip}:81`;
  const burst = await lab.host("a").output(Deno.execPath(), denoArgs(SYN_BURST, [to, "3000"]));
  assertEquals(burst.stdout.trim(), "3000 refused", burst.stderr);
  const { hosts, drops } = await lab.counters();
  assertEquals([hosts.a!.sentSyns, hosts.server!.receivedSyns, drops], [3000, 3000, {}]);
});

labTest("IPv6 passes a NAT untranslated but filtered", async () => {
  await using lab = await Lab.start({
    hosts: { server: {}, a: { behind: nat("portRestricted") } },
    ipv6: true,
  });
  const [server, a] = [lab.host("server"), lab.host("a")];
  await Promise.all([server, a].map((host) => serveWhoami(host)));
  const to = (host: LabHost) => `[${host.ips[1]}]:${PORT}`;
  const asked = await a.json<Answers>(ASK, ["5000", "1", "0", to(server)]);
  assertEquals(asked.texts, [`[${a.ips[1]}]:5000`]);
  assertEquals((await server.json<Answers>(ASK, ["5000", "1", "0", to(a)])).texts, []);
});

labTest(
  "nothing is left after an interrupt, even if the process that started the lab is killed",
  async () => {
    const orchestrator = new Deno.Command(Deno.execPath(), {
      args: denoArgs(new URL("programs/killed.ts", import.meta.url), []),
      stdout: "piped",
    }).spawn();
    const reader = orchestrator.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { value } = await reader.read();
    const namespace = value!.trim();
    assert(processesIn(namespace).length >= 2, "the programs of the host are not running");
    const children = childrenOf(orchestrator.pid);
    assert(children.length >= 2, "the internet process is not running");

    for (const pid of children) Deno.kill(Number(pid), "SIGINT");
    orchestrator.kill("SIGKILL");
    await orchestrator.status;
    await reader.cancel();
    await until(() => Promise.resolve(processesIn(namespace).length === 0));
    await until(() => Promise.resolve(!children.some(isRunning)));
  },
);

/** Runs whoami.ts on all addresses of the host and {@linkcode PORT}. */
function serveWhoami(host: LabHost, ...args: string[]): Promise<{ readonly output: string }> {
  const program = denoArgs(WHOAMI, [String(PORT), ...host.ips, ...args]);
  return host.serve(Deno.execPath(), program, { ready: /ready/ });
}

function ask(
  from: LabHost,
  port: number,
  to: LabHost,
  count = 1,
  intervalMs = 5,
): Promise<Answers> {
  return from.json(ASK, [String(port), String(count), String(intervalMs), `${to.ip}:${PORT}`]);
}

function openTcp(from: LabHost, port: number, to: string, bytes = 5): Promise<Opened> {
  return from.json(TCP_OPEN, [`${from.ip}:${port}`, to, String(bytes)]);
}

/** Waits until a condition holds, and fails after a time limit. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!await condition()) {
    assert(performance.now() < deadlineMs, "it did not happen in 10 s");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The IDs of all processes in a network namespace. */
function processesIn(namespace: string): string[] {
  return [...Deno.readDirSync("/proc")].map(({ name }) => name).filter((name) => {
    try {
      return /^\d+$/.test(name) && Deno.readLinkSync(`/proc/${name}/ns/net`) === namespace;
    } catch {
      return false; // it has ended, or belongs to another user
    }
  });
}

function childrenOf(pid: number): string[] {
  return Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim().split(" ");
}

function isRunning(pid: string): boolean {
  try {
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}

async function sha256Of(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(digest).toHex();
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

const WHOAMI = new URL("../../lab/kernel/programs/whoami.ts", import.meta.url);
const ASK = new URL("../../lab/kernel/programs/ask.ts", import.meta.url);
const TCP_OPEN = new URL("../../lab/kernel/programs/tcp_open.ts", import.meta.url);
const SYN_BURST = new URL("../../lab/kernel/programs/syn_burst.ts", import.meta.url);
const PORT = 7000;

const QUIET = { stdin: "null", stdout: "null" } as const;
