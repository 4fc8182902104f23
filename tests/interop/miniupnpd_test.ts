/** PCP and NAT-PMP with a real router. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import type { MappingGrant, MappingRequest } from "../../lib/portmap/mapper.ts";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { labTest } from "../lab/lab_test_case.ts";
import { HOME_ROUTER, HOME_ROUTER_PROGRAMS, HomeRouter } from "./miniupnpd.ts";

const MAP_PORTS = new URL("programs/map_ports.ts", import.meta.url);
const GREET = new URL("programs/greet.ts", import.meta.url);
const NEEDS = { programs: HOME_ROUTER_PROGRAMS };

const cases = [
  ["pcp", "tcp", HOME_ROUTER.host, HOME_ROUTER.external],
  ["pcp", "udp", HOME_ROUTER.host, HOME_ROUTER.external],
  ["nat-pmp", "tcp", HOME_ROUTER.host, HOME_ROUTER.external],
  ["nat-pmp", "udp", HOME_ROUTER.host, HOME_ROUTER.external],
  ["pcp6", "tcp", HOME_ROUTER.host6, HOME_ROUTER.host6],
  ["pcp6", "udp", HOME_ROUTER.host6, HOME_ROUTER.host6],
] as const;

for (const [mapper, protocol, hostIp, externalIp] of cases) {
  labTest(
    `miniupnpd opens ${protocol.toUpperCase()} by ${mapper} to the outside, and closes it`,
    async () => {
      await using home = await HomeRouter.start();
      await serve(home, hostIp);
      const internal = { ip: hostIp, port: 8080 };
      assertEquals(await speak(home, protocol, externalIp), null);

      const request = { protocol, internal, lifetimeSeconds: 3600, description: "test" };
      const grant = await mapPorts<MappingGrant>(home, mapper, "map", request);
      assertEquals(grant.external, { ip: externalIp, port: 8080 });
      assertEquals(grant.lifetimeSeconds, 3600);
      assertStringIncludes(await speak(home, protocol, externalIp) ?? "", outsideOf(hostIp));

      await mapPorts(home, mapper, "release", grant);
      assertEquals(await home.rules(), []);
      assertEquals(await speak(home, protocol, externalIp), null);
      await mapPorts(home, mapper, "release", grant); // that it is gone is not an error
      assertEquals(await home.rules(), []);
    },
    NEEDS,
  );
}

for (const [mapper, protocol, hostIp] of cases) {
  labTest(`miniupnpd renews ${protocol.toUpperCase()} by ${mapper}`, async () => {
    await using home = await HomeRouter.start();
    const internal = { ip: hostIp, port: 8080 };
    const request = { protocol, internal, lifetimeSeconds: 3600, description: "test" };
    const grant = await mapPorts<MappingGrant>(home, mapper, "map", request);
    const rules = await home.rules();
    const renewed = await mapPorts<MappingGrant>(home, mapper, "renew", grant);
    assertEquals(renewed.external, grant.external);
    assertEquals(renewed.lifetimeSeconds, 7200);
    assertEquals(await home.rules(), rules);

    if (mapper === "pcp6") {
      // miniupnpd 2.3.1 loses the nonce of a pinhole that it extends, and refuses to delete it from then on.
      const released = mapPorts(home, mapper, "release", renewed);
      await assertRejects(() => released, Error, "it stays open for 120 s");
    } else {
      await mapPorts(home, mapper, "release", renewed);
      assertEquals(await home.rules(), []);
    }
  }, NEEDS);
}

labTest("probes recognise miniupnpd, and it reports its external address", async () => {
  await using home = await HomeRouter.start();
  for (const mapper of ["pcp", "nat-pmp", "pcp6"]) {
    const probed = await mapPorts<{ kind: string }>(home, mapper, "probe");
    assertEquals(probed.kind, "supported");
  }
  assertEquals(await mapPorts(home, "pcp", "external-ip"), HOME_ROUTER.external);
  assertEquals(await mapPorts(home, "nat-pmp", "external-ip"), HOME_ROUTER.external);
  assertEquals(await home.rules(), []);
  await home.stopDaemon();
  const probed = await mapPorts<{ kind: string }>(home, "pcp", "probe");
  assertEquals(probed.kind, "silent");
}, NEEDS);

labTest("findGateways() finds miniupnpd with permissions, and guesses without", async () => {
  await using home = await HomeRouter.start();
  assertEquals(await mapPorts(home, "pcp", "gateways"), [
    { ip: HOME_ROUTER.gateway, localIp: HOME_ROUTER.host, source: "routes" },
    { ip: HOME_ROUTER.gateway6, localIp: HOME_ROUTER.host6, source: "routes" },
  ]);
  const args = ["run", "--quiet", "--no-lock", "--no-prompt", "--unstable-net", "--allow-net"];
  const unprivileged = await home.host.output(Deno.execPath(), [
    ...[...args, MAP_PORTS.href, "pcp", "gateways"],
  ]);
  assertEquals(JSON.parse(unprivileged.stdout), [
    { ip: "192.168.1.1", localIp: HOME_ROUTER.host, source: "guess" },
    { ip: "192.168.1.254", localIp: HOME_ROUTER.host, source: "guess" },
  ]);
}, NEEDS);

labTest("miniupnpd announces by IPv4 and IPv6 that it has started", async () => {
  await using home = await HomeRouter.start();
  await home.stopDaemon({ flush: true });
  const gateways = [
    { ip: HOME_ROUTER.gateway, localIp: HOME_ROUTER.host },
    { ip: HOME_ROUTER.gateway6, localIp: HOME_ROUTER.host6 },
  ];
  const listeners = gateways.map((gateway) => {
    const args = denoArgs(MAP_PORTS, ["pcp", "listen", JSON.stringify(gateway)]);
    return home.host.spawn(Deno.execPath(), args, {
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
  });
  for (const { stderr } of listeners) await firstChunk(stderr);
  await home.startDaemon();
  for (const [index, { stdout }] of listeners.entries()) {
    const { mapper, gateway } = JSON.parse(await firstChunk(stdout));
    assertEquals([mapper, gateway], ["pcp", gateways[index]!.ip]);
  }
}, NEEDS);

labTest("miniupnpd reports the external address of a connection by PEER", async () => {
  await using home = await HomeRouter.start();
  const { external } = await mapPorts<{ external: unknown }>(home, "pcp", "peer");
  assertEquals(external, { ip: HOME_ROUTER.external, port: 50_000 });
}, NEEDS);

labTest(
  "miniupnpd's clock restarts with it, and another run takes over the mapping",
  async () => {
    await using home = await HomeRouter.start();
    const internal = { ip: HOME_ROUTER.host, port: 8080 };
    const request: MappingRequest = {
      protocol: "tcp",
      internal,
      lifetimeSeconds: 3600,
      description: "",
    };
    const left = await mapPorts<MappingGrant>(home, "pcp", "map", request);
    await home.stopDaemon({ flush: true });
    assertEquals(await home.rules(), []);
    await home.startDaemon();
    const startedAtMs = performance.now();
    const found = await mapPorts<MappingGrant>(home, "pcp", "map", request);
    assertEquals(found.handle, left.handle);
    const ageSeconds = (performance.now() - startedAtMs) / 1000;
    assert(found.epoch!.seconds <= ageSeconds + 5, `its clock says ${found.epoch!.seconds}`);
    await mapPorts(home, "pcp", "release", left);
    assertEquals(await home.rules(), []);
  },
  NEEDS,
);

labTest("nothing is left of the router when the process that started it is killed", async () => {
  const program = new URL("programs/killed_router.ts", import.meta.url);
  const starter = new Deno.Command(Deno.execPath(), {
    args: denoArgs(program, []),
    stdout: "piped",
  }).spawn();
  const holders: number[] = JSON.parse(await firstChunk(starter.stdout));
  const namespaces = holders.map(namespaceOf);
  const members = allProcesses().filter((pid) => namespaces.includes(namespaceOf(pid)));
  assert(members.length > holders.length, "nothing but the holders is there");
  starter.kill("SIGKILL");
  await starter.status;
  const signal = AbortSignal.timeout(10_000);
  // By process: the kernel gives the number of a namespace that is gone to the next one.
  while (members.some((pid) => namespaces.includes(namespaceOf(pid)))) await delay(20, { signal });
}, NEEDS);

function allProcesses(): number[] {
  return [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter(Number.isInteger);
}

/** The network namespace of a process; `undefined` if it has ended. */
function namespaceOf(pid: number): string | undefined {
  try {
    return Deno.readLinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}

function mapPorts<T>(
  home: HomeRouter,
  mapper: string,
  action: string,
  argument?: unknown,
): Promise<T> {
  return home.host.json<T>(MAP_PORTS, [mapper, action, JSON.stringify(argument ?? null)]);
}

async function serve(home: HomeRouter, ip: string): Promise<void> {
  await home.host.serve(Deno.execPath(), denoArgs(GREET, ["serve", ip, "8080"]), {
    ready: /ready/,
  });
}

/** The answer of the port to a greeting from outside; `null` if there is no answer. */
function speak(home: HomeRouter, protocol: string, ip: string): Promise<string | null> {
  return home.outside.json(GREET, [protocol, ip, "8080"]);
}

function outsideOf(hostIp: string): string {
  return hostIp === HOME_ROUTER.host ? HOME_ROUTER.outside : HOME_ROUTER.outside6;
}

async function firstChunk(stream: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stream.getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return new TextDecoder().decode(value);
}
