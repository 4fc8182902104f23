// UPnP IGD with miniupnpd, on the kernel's own NAT and firewall.

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { PortMappingEntry } from "../../lib/portmap/upnp/actions.ts";
import type { MappingGrant, MappingRequest } from "../../lib/portmap/mapper.ts";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { labTest } from "../lab/lab_test_case.ts";
import { HOME_ROUTER, HOME_ROUTER_PROGRAMS, HomeRouter } from "./miniupnpd.ts";

const SCENARIO = new URL("./igd_scenario.ts", import.meta.url).href;
const ECHO = new URL("./echo_scenario.ts", import.meta.url).href;

const TCP: MappingRequest = {
  protocol: "tcp",
  internal: { ip: HOME_ROUTER.host, port: 8080 },
  lifetimeSeconds: 600,
  description: "<Punchline & co>",
};
const UDP: MappingRequest = { ...TCP, protocol: "udp", externalPort: 9090 };
const TCP6: MappingRequest = { ...TCP, internal: { ip: HOME_ROUTER.host6, port: 8080 } };
const UDP6: MappingRequest = { ...TCP6, protocol: "udp" };

const programs = [...HOME_ROUTER_PROGRAMS, "upnpc"];

labTest(
  "igdMapper() maps TCP and UDP on miniupnpd: reached from outside, listed, renewed, released",
  async () => {
    await using home = await HomeRouter.start();
    const [tcp, udp] = await serve(home, HOME_ROUTER.gateway, [TCP, UDP]);
    assertEquals(tcp!.external, { ip: HOME_ROUTER.external, port: 8080 });
    assertEquals(udp!.external, { ip: HOME_ROUTER.external, port: 9090 });

    for (const { protocol, external } of [tcp!, udp!]) {
      assertEquals(await echo(home, protocol, external), "hello");
    }
    const listed = await upnpc(home, "-l");
    assertMatch(listed, /TCP\s+8080->192\.168\.1\.2:8080/);
    assertMatch(listed, /UDP\s+9090->192\.168\.1\.2:8080/);
    const ours = await run<PortMappingEntry[]>(home, ["list", HOME_ROUTER.gateway]);
    assertEquals(ours.map(({ description }) => description), [TCP.description, TCP.description]);

    const renewed = await run<MappingGrant>(home, [
      "renew",
      HOME_ROUTER.gateway,
      JSON.stringify({ ...tcp, lifetimeSeconds: 1200 }),
    ]);
    assertEquals(renewed.external, tcp!.external);
    assert(renewed.lifetimeSeconds > 1100 && renewed.lifetimeSeconds <= 1200);
    await release(home, HOME_ROUTER.gateway, [tcp!, udp!, udp!]);
    assertEquals(await home.rules(), []);
  },
  { programs },
);

labTest("igdMapper() opens IPv6 pinholes on miniupnpd, for TCP and UDP", async () => {
  await using home = await HomeRouter.start();
  const grants = await serve(home, HOME_ROUTER.gateway6, [TCP6, UDP6]);
  for (const { protocol, external } of grants) {
    assertEquals(external, TCP6.internal);
    assertEquals(await echo(home, protocol, external), "hello");
  }
  const [tcp] = grants;
  // Its nftables rules count no packets.
  assertEquals(await run(home, ["check", HOME_ROUTER.gateway6, JSON.stringify(tcp)]), "unknown");
  const renewed = await run<MappingGrant>(home, [
    "renew",
    HOME_ROUTER.gateway6,
    JSON.stringify({ ...tcp, lifetimeSeconds: 1200 }),
  ]);
  assertEquals(renewed.handle, tcp!.handle);
  await release(home, HOME_ROUTER.gateway6, grants);
  assertEquals(await home.rules(), []);
}, { programs });

labTest("igdMapper() finds another port on miniupnpd if one is in use", async () => {
  await using home = await HomeRouter.start();
  await home.host.sh("ip addr add 192.168.1.3/24 dev lan");
  const other: MappingRequest = { ...TCP, internal: { ip: "192.168.1.3", port: 8080 } };
  const [first, second] = await serve(home, HOME_ROUTER.gateway, [TCP, other]);
  assertEquals(first!.external.port, 8080);
  assert(second!.external.port !== 8080);
  assertEquals(await echo(home, "tcp", second!.external), "hello");
}, { programs });

// miniupnpd reads all its rules for each request: 200 mappings take minutes.
labTest(
  "igdMapper() grants 40 mappings to 20 callers at once on miniupnpd, and removes them",
  async () => {
    await using home = await HomeRouter.start();
    const args = ["load", HOME_ROUTER.gateway, JSON.stringify(TCP), "40", "20"];
    const { granted, standing, left } = await run<Record<string, number>>(home, args);
    assertEquals({ granted, standing, left }, { granted: 40, standing: 40, left: 0 });
    assertEquals(await home.rules(), []);
  },
  { programs },
);

labTest("igdMapper() reports what miniupnpd says about itself", async () => {
  await using home = await HomeRouter.start();
  const probe = await run<{ kind: string; externalIp: string; detail: string }>(home, [
    "probe",
    HOME_ROUTER.gateway,
  ]);
  assertEquals([probe.kind, probe.externalIp], ["supported", HOME_ROUTER.external]);
  assertStringIncludes(probe.detail, "Connected");
}, { programs });

/** Maps the ports from a program that answers on them until the home is disposed. */
async function serve(
  home: HomeRouter,
  gateway: string,
  requests: readonly MappingRequest[],
): Promise<MappingGrant[]> {
  const args = ["serve", gateway, ...requests.map((request) => JSON.stringify(request))];
  const { output } = await home.host.serve(Deno.execPath(), denoArgs(SCENARIO, args), {
    ready: new RegExp(`(?:.*\\n){${requests.length}}`),
  });
  return output.trim().split("\n").map((line) => JSON.parse(line));
}

function run<T>(home: HomeRouter, args: readonly string[]): Promise<T> {
  return home.host.json<T>(SCENARIO, args);
}

async function release(
  home: HomeRouter,
  gateway: string,
  grants: readonly MappingGrant[],
): Promise<void> {
  const args = ["release", gateway, ...grants.map((grant) => JSON.stringify(grant))];
  const { code, stderr } = await home.host.output(Deno.execPath(), denoArgs(SCENARIO, args));
  assertEquals([code, stderr], [0, ""]);
}

/** The echo that a host outside receives. */
function echo(
  home: HomeRouter,
  protocol: "tcp" | "udp",
  { ip, port }: MappingGrant["external"],
): Promise<string> {
  return home.outside.json<string>(ECHO, [protocol, ip, `${port}`]);
}

async function upnpc(home: HomeRouter, ...args: string[]): Promise<string> {
  return (await home.host.output("upnpc", args)).stdout;
}
