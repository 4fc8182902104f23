import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { InterfaceFailover } from "../../lib/net/interface_failover.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import type { LocalAddress, Network, TcpConnection, UdpSocket } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";

const REMOTE = { ip: "192.0.2.1", port: 3480 };
const [NIC, VPN, WILDCARD] = ["192.168.1.5", "10.99.0.2", "0.0.0.0"];
const REMOTE6 = { ip: "2001:db8::1", port: 3480 };
const [NIC6, VPN6, WILDCARD6] = ["2001:db8:1::5", "fd00:99::2", "::"];

/** Less than a packet may be held up. */
const SLOW_MS = 10;

/** What happens to dials from a source. */
type Routes = Readonly<Record<string, "answered" | "slow" | "silent" | "refused" | "gone">>;

/** A host with two interfaces, whose dials take as long as a turn of the event loop, or for ever. */
class TwoInterfaces {
  readonly dials: string[] = [];
  readonly binds: string[] = [];
  readonly resets: string[] = [];
  readonly chosen: string[] = [];
  routes: Routes;
  listed: LocalAddress[];
  readonly failover: InterfaceFailover;

  constructor(routes: Routes, ips = [VPN, NIC]) {
    this.routes = routes;
    this.listed = ["127.0.0.1", "::1", "fe80::1%eth0", ...ips].map((ip) => ({
      ip,
      interfaceName: "eth0",
    }));
    const network: Network = networkWith(systemNetwork, {
      localAddresses: () => Promise.resolve(this.listed),
      connectTcp: (remote, { local, signal } = {}) =>
        this.#dial(remote, local?.ip ?? anyOf(remote), signal),
      bindUdp: ({ ip }) => {
        this.binds.push(ip);
        if (this.routes[ip] === "gone") return Promise.reject(gone(ip));
        return Promise.resolve({} as UdpSocket);
      },
    });
    this.failover = new InterfaceFailover(network, (ip) => this.chosen.push(ip));
  }

  async rescue(signal?: AbortSignal, remote = REMOTE): Promise<TcpConnection> {
    const first = this.#dial(remote, anyOf(remote), signal);
    first.catch(() => {});
    return await this.failover.rescue({ remote, signal, first });
  }

  #dial(
    remote: TransportAddress,
    ip: string,
    signal: AbortSignal | undefined,
  ): Promise<TcpConnection> {
    this.dials.push(ip);
    const { promise, resolve, reject } = Promise.withResolvers<TcpConnection>();
    const onAbort = () => reject(signal!.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const route = this.routes[ip];
    if (route === "refused") reject(new NetworkError("refused", "refused"));
    if (route === "gone") reject(gone(ip));
    if (signal?.aborted) onAbort();
    if (route === "answered" || route === "slow") {
      const reset = () => this.resets.push(ip);
      setTimeout(() => {
        signal?.removeEventListener("abort", onAbort);
        resolve({ local: { ip, port: 1 }, remote, reset } as unknown as TcpConnection);
      }, route === "slow" ? SLOW_MS : 0);
    }
    return promise;
  }
}

function anyOf({ ip }: TransportAddress): string {
  return ip.includes(":") ? WILDCARD6 : WILDCARD;
}

function gone(ip: string): NetworkError {
  return new NetworkError(`${ip} is gone`, "address-not-available");
}

Deno.test("an interface that is answered is chosen, and used from then on", async () => {
  const host = new TwoInterfaces({ [WILDCARD]: "silent", [VPN]: "silent", [NIC]: "answered" });
  assertEquals((await host.rescue()).local.ip, NIC);
  assertEquals(host.chosen, [NIC]);
  const { network } = host.failover;
  assertEquals((await network.connectTcp(REMOTE)).local.ip, NIC);
  const local = { ip: WILDCARD, port: 4000 };
  assertEquals((await network.connectTcp(REMOTE, { local })).local.ip, NIC);
  await network.bindUdp({ ip: WILDCARD, port: 0 });
  assertEquals(host.binds, [NIC]);
});

Deno.test("an interface is chosen for IPv6, and IPv4 goes on as the system has it; and the other way round", async () => {
  const routes: Routes = { [WILDCARD6]: "silent", [VPN6]: "silent", [NIC6]: "answered" };
  const host = new TwoInterfaces({ ...routes, [WILDCARD]: "answered" }, [VPN6, VPN, NIC6, NIC]);
  assertEquals((await host.rescue(undefined, REMOTE6)).local.ip, NIC6);
  assertEquals(host.dials, [WILDCARD6, WILDCARD6, VPN6, NIC6], "no address of IPv4 is tried");
  assertEquals(host.chosen, [NIC6]);
  const { network } = host.failover;
  assertEquals((await network.connectTcp(REMOTE6)).local.ip, NIC6);
  const translated = { ...REMOTE6, ip: "64:ff9b::c000:201" };
  assertEquals((await network.connectTcp(translated)).local.ip, NIC6, "a NAT64 is further away");
  assertEquals((await network.connectTcp(REMOTE)).local.ip, WILDCARD);
  await network.bindUdp({ ip: WILDCARD6, port: 0 });
  await network.bindUdp({ ip: WILDCARD, port: 0 });
  assertEquals(host.binds, [NIC6, WILDCARD]);
  host.routes = { ...routes, [WILDCARD]: "silent", [NIC]: "answered" };
  await host.rescue();
  assertEquals([4, 6].map((family) => host.failover.chosenIp(family as 4 | 6)), [NIC, NIC6]);
});

Deno.test("an interface that has lost its IPv6 address is no longer used", async () => {
  const host = new TwoInterfaces({ [NIC6]: "answered" }, [VPN6, NIC6]);
  await host.rescue(undefined, REMOTE6);
  host.routes = { [WILDCARD6]: "answered", [NIC6]: "gone" };
  assertEquals((await host.failover.network.connectTcp(REMOTE6)).local.ip, WILDCARD6);
  assertEquals(host.failover.chosenIp(6), undefined);
});

Deno.test("what is nearby, the other family and sockets with an address of their own are left alone", async () => {
  const host = new TwoInterfaces({ [WILDCARD]: "silent", [VPN]: "silent", [NIC]: "answered" });
  await host.rescue();
  host.routes = { [WILDCARD]: "answered", [NIC]: "answered", [VPN]: "answered" };
  const { network } = host.failover;
  const near = await network.connectTcp({ ip: "192.168.1.1", port: 80 });
  assertEquals(near.local.ip, WILDCARD);
  const own = await network.connectTcp(REMOTE, { local: { ip: VPN, port: 0 } });
  assertEquals(own.local.ip, VPN);
  host.routes = { ...host.routes, [WILDCARD6]: "answered" };
  assertEquals((await network.connectTcp(REMOTE6)).local.ip, WILDCARD6);
  const near6 = await network.connectTcp({ ip: "fe80::1%eth0", port: 80 });
  assertEquals(near6.local.ip, WILDCARD6);
  await network.bindUdp({ ip: "::", port: 0 });
  await network.bindUdp({ ip: WILDCARD, port: 0 }, { multicast: { hops: 1 } });
  assertEquals(host.binds, ["::", WILDCARD]);
});

Deno.test("nothing is chosen if the default route is answered, too: the first packet was lost", async () => {
  const host = new TwoInterfaces({ [WILDCARD]: "silent", [VPN]: "silent", [NIC]: "answered" });
  const rescued = host.rescue();
  host.routes = { ...host.routes, [WILDCARD]: "slow" };
  assertEquals((await rescued).local.ip, NIC);
  assertEquals(host.chosen, []);
  assertEquals(host.failover.chosenIp(4), undefined);
  assertEquals(host.resets, [WILDCARD], "the connection that is not used is reset");
});

Deno.test("if no interface is answered, the dial fails by itself, and the others end", async () => {
  const host = new TwoInterfaces({ [WILDCARD]: "refused", [VPN]: "gone", [NIC]: "refused" });
  const error = await assertRejects(() => host.rescue(), NetworkError);
  assertEquals(error.reason, "refused");
  assertEquals(host.dials, [WILDCARD, WILDCARD, VPN, NIC]);
  for (let dials = 1; dials < 9; dials++) await assertRejects(() => host.rescue(), NetworkError);
  assertEquals(host.dials.length, 9 + 4 * 3, "four dials in a minute try the others");
  assertEquals(host.chosen, []);
});

Deno.test("an interface that has lost its address is no longer used", async () => {
  const host = new TwoInterfaces({ [WILDCARD]: "silent", [VPN]: "silent", [NIC]: "answered" });
  await host.rescue();
  host.routes = { [WILDCARD]: "answered", [NIC]: "gone" };
  await host.failover.network.bindUdp({ ip: WILDCARD, port: 0 });
  assertEquals(host.binds, [NIC, WILDCARD]);
  assertEquals(host.failover.chosenIp(4), undefined);
});

Deno.test("an abort after an interface was answered leaves no connection open", async () => {
  const host = new TwoInterfaces({ [WILDCARD]: "silent", [VPN]: "silent", [NIC]: "answered" });
  const controller = new AbortController();
  const rescued = host.rescue(controller.signal);
  setTimeout(() => controller.abort(new Error("given up")), SLOW_MS);
  await assertRejects(() => rescued, Error, "given up");
  assertEquals([host.resets, host.chosen], [[NIC], []]);
});

Deno.test("only a few of very many interfaces are tried", async () => {
  const ips = Array.from({ length: 40 }, (_, index) => `10.0.${index}.1`);
  const host = new TwoInterfaces({ [WILDCARD]: "refused" }, ips);
  host.routes = { ...host.routes, ...Object.fromEntries(ips.map((ip) => [ip, "refused"])) };
  await assertRejects(() => host.rescue(), NetworkError);
  assertEquals(host.dials.length, 2 + 6);
});

Deno.test("the interfaces take turns: one with many addresses leaves the others a try", async () => {
  const many = Array.from({ length: 8 }, (_, index) => `2001:db8:99::${index + 1}`);
  const host = new TwoInterfaces({ [NIC6]: "answered" });
  host.listed = [...many.map((ip) => ({ ip, interfaceName: "vpn0" })), {
    ip: NIC6!,
    interfaceName: "eth0",
  }];
  assertEquals((await host.rescue(undefined, REMOTE6)).local.ip, NIC6);
  assertEquals(host.dials.slice(2), [many[0], NIC6, ...many.slice(1, 5)]);
});

Deno.test("an abort ends the dials with its reason", async () => {
  const host = new TwoInterfaces({});
  const controller = new AbortController();
  const first = Promise.withResolvers<TcpConnection>();
  const { signal } = controller;
  signal.addEventListener("abort", () => first.reject(signal.reason), { once: true });
  const rescued = host.failover.rescue({ remote: REMOTE, signal, first: first.promise });
  controller.abort(new Error("given up"));
  await assertRejects(() => rescued, Error, "given up");
});
