// The verdict of mapPort() on a mapping on miniupnpd: coturn's STUN server confirms the external address, or not, from
// behind a provider's router.
//
//   home.host   home.router         home.outside, the provider        internet
//   192.168.1.2   44.0.0.7   ----   44.0.0.9        45.0.0.1   ----   45.0.0.9

import { assertEquals, assertMatch } from "@std/assert";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { labTest } from "../lab/lab_test_case.ts";
import { MapCommand } from "./map_command.ts";
import { HOME_ROUTER_PROGRAMS, HomeRouter } from "./miniupnpd.ts";
import { NetworkPlace, wire } from "./network_place.ts";

const CLI = new URL("../../cli.ts", import.meta.url);
const SERVER = "45.0.0.9";
const NEEDS = { programs: [...HOME_ROUTER_PROGRAMS, "turnserver"] };

for (const protocol of ["pcp", "nat-pmp", "upnp"]) {
  const map = ["tcp", "8080", "--protocol", protocol, "--server", SERVER];

  labTest(
    `map add by ${protocol} reports a public mapping if the server sees the router's address`,
    async () => {
      await using home = await HomeRouter.start();
      await using _internet = await connect(home, { translates: false });
      const { verdict, said } = await add(home, map);
      assertEquals(verdict, "public");
      assertMatch(said, /servers see 44\.0\.0\.7, as the router reports/);
    },
    NEEDS,
  );

  labTest(
    `map add by ${protocol} reports an upstream NAT of a router with a public address`,
    async () => {
      await using home = await HomeRouter.start();
      await using _internet = await connect(home, { translates: true });
      const { verdict, said } = await add(home, map);
      assertEquals(verdict, "double-nat");
      assertMatch(said, /servers see 45\.0\.0\.1, but the router reports 44\.0\.0\.7/);
      assertMatch(said, /Open the port on the upstream router too/);
    },
    NEEDS,
  );

  labTest(`map add by ${protocol} confirms nothing if the server is silent`, async () => {
    await using home = await HomeRouter.start();
    const { verdict, said } = await add(home, map);
    assertEquals(verdict, "unverified");
    assertMatch(said, /no server outside has confirmed it/);
  }, NEEDS);
}

labTest(
  "map add reports that miniupnpd maps nothing, because its address is a carrier's",
  async () => {
    await using home = await HomeRouter.start({ external: "100.64.0.7" });
    const args = denoArgs(CLI, ["map", "add", "tcp", "8080"]);
    const { code, stdout, stderr } = await home.host.output(Deno.execPath(), args);
    assertEquals([code, stdout], [1, ""]);
    for (const name of ["PCP", "NAT-PMP", "UPnP"]) {
      assertMatch(stderr, new RegExp(`${name} at 192\\.168\\.1\\.1: gateway .* answered`));
    }
    assertMatch(stderr, /The router has no public address: .* ask the provider for one/);
    assertMatch(stderr, /\nThe router's table is full, or it has no public address: .*\n$/);
  },
  NEEDS,
);

/** What the command prints for people and as JSON. It must leave nothing of the mapping. */
async function add(
  home: HomeRouter,
  args: readonly string[],
): Promise<{ verdict: string; said: string }> {
  const child = home.host.spawn(Deno.execPath(), denoArgs(CLI, ["map", "add", ...args]), PIPED);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (!/\n {2}.*\n/.test(said)) said += (await reader.read()).value ?? "";
  child.kill("SIGINT");
  for (let read = await reader.read(); !read.done; read = await reader.read()) said += read.value;
  await child.status;

  const json = denoArgs(CLI, ["map", "add", "--json", ...args]);
  await using command = new MapCommand(home.host.spawn(Deno.execPath(), json, PIPED));
  const { verdict } = await command.next("mapped");
  await command.interrupt();
  assertEquals(await home.rules(), []);
  return { verdict, said };
}

/** @param translates whether the provider's router is a NAT */
async function connect(
  home: HomeRouter,
  { translates }: { translates: boolean },
): Promise<NetworkPlace> {
  const internet = await NetworkPlace.open("internet", home.router);
  await wire({ place: home.outside, name: "above" }, { place: internet, name: "below" });
  await home.outside.sh(`
    ip addr add 45.0.0.1/24 dev above
    sysctl -qw net.ipv4.ip_forward=1
  `);
  if (translates) await home.outside.sh(MASQUERADE);
  await internet.sh(`
    ip addr add ${SERVER}/24 dev below
    ip route add default via 45.0.0.1
  `);
  const args = ["-n", "-S", "-z", "--no-cli", "-L", SERVER, "-p", "3478", "--log-file", "stdout"];
  await internet.serve("turnserver", args, {
    ready: /Total General servers/,
    stderr: "null",
  });
  return internet;
}

const MASQUERADE = `
  nft -f - <<'RULES'
    table ip provider {
      chain postrouting {
        type nat hook postrouting priority 100;
        oifname "above" masquerade
      }
    }
RULES
`;

const PIPED = { stdin: "null", stdout: "piped", stderr: "null" } as const;
