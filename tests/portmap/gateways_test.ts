import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { LocalAddress, Network } from "../../lib/net/network.ts";
import { findGateways, guessGateways } from "../../lib/portmap/gateway.ts";
import { discoverLocalIpv4 } from "../../lib/net/local_address.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import type { HostOptions } from "../simnet/host.ts";
import { simulate } from "../simnet/simulate.ts";

Deno.test("findGateways() uses the routing table", () =>
  behindRouter({}, async (network) => {
    assertEquals(await findGateways({ network }), [
      { ip: "192.168.1.1", localIp: "192.168.1.2", source: "routes" },
    ]);
  }));

Deno.test("findGateways() finds several gateways of both families", () =>
  behindRouter({
    addresses: ["192.168.1.2", "fe80::2", "fd00::2", "2001:db8::2"],
    gateways: ["192.168.1.1", "fe80::1%eth0"],
  }, async (network) => {
    assertEquals(await findGateways({ network }), [
      { ip: "192.168.1.1", localIp: "192.168.1.2", source: "routes" },
      { ip: "fe80::1%eth0", localIp: "fd00::2", source: "routes" },
    ]);
  }));

Deno.test("findGateways() prefers a global IPv6 address to a local one", () =>
  behindRouter({
    addresses: ["fd00::2", "2600:1::2"],
    gateways: ["fe80::1%eth0"],
  }, async (network) => {
    assertEquals((await findGateways({ network }))[0]?.localIp, "2600:1::2");
  }));

Deno.test("findGateways() asks from the address with the longest common prefix", () =>
  behindRouter({
    addresses: ["10.0.0.2", "192.168.1.2", "172.16.0.2"],
  }, async (network) => {
    assertEquals((await findGateways({ network }))[0]?.localIp, "192.168.1.2");
  }));

Deno.test("findGateways() does not ask from the address of Docker's bridge", () =>
  behindRouter({}, async (network) => {
    const bridge: LocalAddress = { interfaceName: "docker0", ip: "192.168.1.129" };
    const eth0: LocalAddress = { interfaceName: "eth0", ip: "10.1.2.3" };
    const withBridge: Network = {
      ...network,
      localAddresses: () => Promise.resolve([bridge, eth0]),
    };
    assertEquals((await findGateways({ network: withBridge }))[0]?.localIp, "10.1.2.3");
  }));

Deno.test("findGateways() leaves out a gateway that none of this host's addresses can ask", () =>
  behindRouter({ gateways: ["fe80::1%eth0", "192.168.1.1"] }, async (network) => {
    assertEquals(await findGateways({ network }), [
      { ip: "192.168.1.1", localIp: "192.168.1.2", source: "routes" },
    ]);
  }));

Deno.test("findGateways() guesses if the routing table has no IPv4 gateway, as on Android", () =>
  behindRouter({ gateways: [] }, async (network) => {
    assertEquals(await findGateways({ network }), GUESSES);
  }));

Deno.test("findGateways() works where listing interfaces or routes throws", () =>
  behindRouter({}, async (network) => {
    const throws = () => {
      throw new Error("Permission denied (os error 13)");
    };
    const rejects = () => Promise.reject(new Error("No such file or directory (os error 2)"));
    const viaRoutes = { ip: "192.168.1.1", localIp: "192.168.1.2", source: "routes" as const };
    assertEquals(await findGateways({ network: { ...network, localAddresses: throws } }), [
      viaRoutes,
    ]);
    const broken = { ...network, localAddresses: rejects, defaultGateways: rejects };
    assertEquals(await findGateways({ network: broken }), GUESSES);
  }));

Deno.test("findGateways() asks the gateway that the caller names, without multicast or interfaces", () =>
  simulate(async ({ internet }) => {
    const behind = internet.router("router", {
      behavior: NAT_BEHAVIORS.portRestricted,
      lan: "192.168.1",
    });
    const { network } = internet.host("host", { behind, addresses: ["192.168.1.2"] });
    const gateway = internet.host("gateway", { behind, addresses: ["192.168.1.1"] });
    using _listener = await gateway.network.listenTcp({ ip: "192.168.1.1", port: 80 });
    const bare: Network = {
      ...network,
      localAddresses: () => Promise.resolve(undefined),
      bindUdp: () => Promise.reject(new NetworkError("Cannot bind: no such device", "other")),
    };
    assertEquals(await findGateways({ network: bare, known: ["192.168.1.1"] }), [
      { ip: "192.168.1.1", localIp: "192.168.1.2", source: "caller" },
    ]);
  }));

Deno.test("findGateways() takes all default gateways, and none over link-local IPv6 alone", () =>
  behindRouter({ gateways: ["192.168.1.1", "192.168.1.254", "fe80::1%eth0"] }, async (network) => {
    const found = await findGateways({ network });
    assertEquals(found.map(({ ip }) => ip), ["192.168.1.1", "192.168.1.254"]);
  }));

Deno.test("findGateways() takes the caller's gateway without looking for others", () =>
  behindRouter({}, async (network) => {
    assertEquals(await findGateways({ network, known: ["192.168.1.254"] }), [
      { ip: "192.168.1.254", localIp: "192.168.1.2", source: "caller" },
    ]);
  }));

Deno.test("findGateways() guesses if it cannot read the routing table", () =>
  behindRouter({ gateways: "unknown" }, async (network) => {
    assertEquals(await findGateways({ network }), [
      { ip: "192.168.1.1", localIp: "192.168.1.2", source: "guess" },
      { ip: "192.168.1.254", localIp: "192.168.1.2", source: "guess" },
    ]);
  }));

Deno.test("findGateways() guesses with network permission alone", () =>
  behindRouter({ gateways: "unknown" }, async (network) => {
    assertEquals(await findGateways({ network: withoutPermissions(network) }), [
      { ip: "192.168.1.1", localIp: "192.168.1.2", source: "guess" },
      { ip: "192.168.1.254", localIp: "192.168.1.2", source: "guess" },
    ]);
  }));

Deno.test("findGateways() guesses nothing for a host with a public address", () =>
  simulate(async ({ internet }) => {
    const { network } = internet.host("server", { gateways: "unknown" });
    assertEquals(await findGateways({ network }), []);
  }));

Deno.test("findGateways() does not take a missing permission for a missing gateway", () =>
  behindRouter({ gateways: "unknown" }, async (network) => {
    const denied = new NetworkError("Cannot bind UDP 0.0.0.0:0: not granted", "not-permitted");
    const offline = new NetworkError("Cannot bind UDP 0.0.0.0:0: unreachable", "unreachable");
    const failing = (error: NetworkError): Network => ({
      ...withoutPermissions(network),
      bindUdp: () => Promise.reject(error),
    });
    const error = await assertRejects(() => findGateways({ network: failing(denied) }));
    assertEquals(error, denied);
    assertEquals(await findGateways({ network: failing(offline) }), []);
  }));

Deno.test("guessGateways() does not guess this host itself", () => {
  assertEquals(guessGateways(["10.0.0.1"]).map(({ ip }) => ip), ["10.0.0.254"]);
});

Deno.test("discoverLocalIpv4() rejects an address that is not this host's", () =>
  behindRouter({}, async (network) => {
    const foreign: Network = { ...network, ownsAddress: () => Promise.resolve(false) };
    assertEquals(await discoverLocalIpv4(network), "192.168.1.2");
    assertEquals(await discoverLocalIpv4(foreign), undefined);
  }));

Deno.test("discoverLocalIpv4() gives up if nothing comes back", () =>
  behindRouter({}, async (network) => {
    const withoutMulticast: Network = { ...network, bindUdp: (local) => network.bindUdp(local) };
    assertEquals(await discoverLocalIpv4(withoutMulticast), undefined);
  }));

/** What a host guesses whose own address is 192.168.1.2. */
const GUESSES = [
  { ip: "192.168.1.1", localIp: "192.168.1.2", source: "guess" as const },
  { ip: "192.168.1.254", localIp: "192.168.1.2", source: "guess" as const },
];

function behindRouter(
  options: HostOptions,
  job: (network: Network) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet }) => {
    const router = internet.router("router", {
      behavior: NAT_BEHAVIORS.portRestricted,
      lan: "192.168.1",
    });
    await job(internet.host("host", { behind: router, ...options }).network);
  });
}

function withoutPermissions(network: Network): Network {
  const unknown = () => Promise.resolve(undefined);
  return { ...network, localAddresses: unknown, defaultGateways: unknown };
}
