import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { InterfaceFailover } from "../../lib/net/interface_failover.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import type { Network, TcpConnection, UdpSocket } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";

const REMOTE = { ip: "192.0.2.1", port: 3480 };
const [NIC, VPN, WILDCARD] = ["192.168.1.5", "10.99.0.2", "0.0.0.0"];

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
  readonly failover: InterfaceFailover;

  constructor(routes: Routes, ips = [VPN, NIC]) {
    this.routes = routes;
    const network: Network = networkWith(systemNetwork, {
      localAddresses: () =>
        Promise.resolve(
          ["127.0.0.1", "fe80::1%eth0", ...ips].map((ip) => ({ ip, interfaceName: "eth0" })),
        ),
      connectTcp: (_remote, { local, signal } = {}) => this.#dial(local?.ip ?? WILDCARD, signal),
      bindUdp: ({ ip }) => {
        this.binds.push(ip);
        if (this.routes[ip] === "gone") return Promise.reject(gone(ip));
        return Promise.resolve({} as UdpSocket);
      },
    });
    this.failover = new InterfaceFailover(network, (ip) => this.chosen.push(ip));
  }

  async rescue(signal?: AbortSignal): Promise<TcpConnection> {
    const first = this.#dial(WILDCARD, signal);
    first.catch(() => {});
    return await this.failover.rescue({ remote: REMOTE, signal, first });
  }

  #dial(ip: string, signal: AbortSignal | undefined): Promise<TcpConnection> {
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
        resolve({ local: { ip, port: 1 }, remote: REMOTE, reset } as unknown as TcpConnection);
      }, route === "slow" ? SLOW_MS : 0);
    }
    return promise;
  }
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

Deno.test("what is nearby, IPv6 and sockets with an address of their own are left alone", async () => {
  const host = new TwoInterfaces({ [WILDCARD]: "silent", [VPN]: "silent", [NIC]: "answered" });
  await host.rescue();
  host.routes = { [WILDCARD]: "answered", [NIC]: "answered", [VPN]: "answered" };
  const { network } = host.failover;
  const near = await network.connectTcp({ ip: "192.168.1.1", port: 80 });
  assertEquals(near.local.ip, WILDCARD);
  const own = await network.connectTcp(REMOTE, { local: { ip: VPN, port: 0 } });
  assertEquals(own.local.ip, VPN);
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
  assertEquals(host.failover.chosenIp, undefined);
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
  assertEquals(host.failover.chosenIp, undefined);
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
