import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { UdpSocket } from "../../lib/net/network.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import type { Nat } from "../../lab/model/nat.ts";
import { BaseSocket, type OpenBaseSocketOptions } from "../../lib/punch/base_socket.ts";
import type { KnownNetworks } from "../../lib/punch/known_networks.ts";
import { preparePunch } from "../../lib/punch/punch.ts";
import { UdpBaseSocket } from "../../lib/punch/udp_base_socket.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import type { Host, HostFault } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";

const ONE = { ip: "203.0.113.10", port: 3478 };
const OTHER = { ip: "203.0.113.11", port: 3479 };
const PORT_RESTRICTED = "address-and-port-dependent";
const { portRestricted, symmetric, symmetricSequential, symmetricPreserving } = NAT_BEHAVIORS;

Deno.test("BaseSocket gathers the external address of the punch port in two round trips", () =>
  behind(portRestricted, async ({ open, time }) => {
    const startedMs = time.nowMs;
    await using base = await open([ONE, OTHER]);
    assertEquals(Math.round(time.nowMs - startedMs), 160);
    const { profile, candidates, punchPort } = base.description;
    assertEquals(profile.mapping, "endpoint-independent");
    const [reflexive] = candidates;
    assertEquals(reflexive, { kind: "reflexive", address: { ip: EXTERNAL, port: punchPort } });
    assertEquals(profile.externalIp, EXTERNAL);
  }));

Deno.test("BaseSocket learns the mapping from one server and its alternate address", () =>
  behind(symmetric, async ({ open, time }) => {
    const startedMs = time.nowMs;
    await using base = await open([ONE]);
    assertEquals(base.description.profile.mapping, "address-and-port-dependent");
    assertEquals(Math.round(time.nowMs - startedMs), 320);
  }));

for (const behavior of [symmetric, symmetricSequential, symmetricPreserving]) {
  Deno.test(`BaseSocket does not dial from the punch port behind a symmetric NAT with allocation ${behavior.allocation.kind}`, () =>
    behind(behavior, async ({ open, dialled }) => {
      await using base = await open([ONE, OTHER]);
      const { candidates, punchPort } = base.description;
      assertEquals(candidates.map(({ kind }) => kind), ["host"]);
      assert(!dialled().includes(punchPort), "the punch port was dialled from");
    }));
}

for (
  const [name, behavior, filtering, unsolicitedSyn] of [
    ["a full cone", NAT_BEHAVIORS.fullCone, "endpoint-independent", "accepted"],
    ["an address-restricted NAT", NAT_BEHAVIORS.addressRestricted, "address-dependent", "dropped"],
    ["a NAT that resets", natBehavior({ unsolicitedSyn: "reset" }), PORT_RESTRICTED, "reset"],
    ["a symmetric NAT", symmetric, PORT_RESTRICTED, "dropped"],
  ] as const
) {
  Deno.test(`BaseSocket learns what SYNs get behind ${name}, once for all of its kind`, () =>
    behind(behavior, async ({ open, internet }) => {
      let dialledBack = 0;
      internet.onPacket = ({ at, what, packet }) => {
        if (at !== "stun" || what !== "sent" || packet.protocol !== "tcp") return;
        if (packet.tcpFlags.syn && !packet.tcpFlags.ack) dialledBack++;
      };
      const knownNetworks = new Map();
      for (let opened = 0; opened < 2; opened++) {
        await using base = await open([ONE, OTHER], { knownNetworks });
        assertEquals(base.description.isLearning, opened === 0 ? true : undefined);
        await base.learned();
        const { isLearning, profile } = base.description;
        assertEquals(isLearning, undefined);
        assertEquals([profile.filtering, profile.unsolicitedSyn], [filtering, unsolicitedSyn]);
        assert(dialledBack > 0 && dialledBack <= 9, `${dialledBack} SYNs`);
      }
    }));
}

Deno.test("BaseSocket learns anew what SYNs get once the network is another", () =>
  behind(portRestricted, async ({ open, nat }) => {
    const knownNetworks = new Map([["192.168.1.2 192.0.2.99", {
      inbound: {
        filtering: "none",
        unsolicitedSyn: "accepted",
        crossingSyn: "accepted",
      } as const,
      learnedAtMs: performance.now(),
    }]]);
    await using base = await open([ONE, OTHER], { knownNetworks });
    await base.learned();
    assertEquals(base.description.profile.filtering, PORT_RESTRICTED);
    nat.behavior = NAT_BEHAVIORS.fullCone; // as an hour later
    await delay(3_600_000);
    await using later = await open([ONE, OTHER], { knownNetworks });
    await later.learned();
    assertEquals(later.description.profile.filtering, "endpoint-independent");
  }));

Deno.test("BaseSocket forgets the oldest of many networks", () =>
  behind(portRestricted, async ({ open }) => {
    const names = Array.from({ length: 64 }, (_, index) => `192.168.1.2 198.51.100.${index}`);
    const known = { inbound: undefined, learnedAtMs: 0 };
    const knownNetworks: KnownNetworks = new Map(names.map((name) => [name, known]));
    await using base = await open([ONE, OTHER], { knownNetworks });
    await base.learned();
    base.noteExhausted(32);
    const [newest, ...others] = [...knownNetworks.keys()].reverse();
    assertEquals(others.reverse(), names.slice(1));
    assertEquals(newest?.endsWith(` ${EXTERNAL}`), true);
    assertEquals(knownNetworks.get(newest!)?.inbound?.filtering, PORT_RESTRICTED);
    assertEquals(knownNetworks.get(newest!)?.sessionLimit, 32);
  }));

Deno.test("BaseSocket knows nothing of filters if no server dials back, and does not wait for long", () =>
  behind(portRestricted, async ({ open, time }) => {
    const silent = { ip: "203.0.113.99", port: 3478 };
    await using base = await open([ONE, OTHER], { dialBackServers: [silent] });
    const startedMs = time.nowMs;
    assertEquals(await base.learned(), true);
    assert(time.nowMs - startedMs <= 1500, `${time.nowMs - startedMs} ms`);
    assertEquals(base.description.profile.filtering, "unknown");
    assertEquals(base.description.isLearning, undefined);
  }));

Deno.test("BaseSocket notices a NAT that is full, and the next one from there takes half of what it gave", () =>
  behind(natBehavior({ maxSessions: 40 }), async ({ open, host }) => {
    const knownNetworks = new Map();
    await using base = await open([ONE, OTHER], { knownNetworks });
    await base.learned();
    assertEquals(await base.hasRoom(), true);
    const spray = new AbortController();
    const dials = Array.from(
      { length: 40 },
      (_, index) =>
        host.network.connectTcp({ ip: "203.0.113.99", port: 5000 + index }, {
          local: { ip: "0.0.0.0", port: 0 },
          signal: spray.signal,
        }),
    );
    const ended = Promise.allSettled(dials);
    await delay(10);
    assertEquals(await base.hasRoom(), false);
    spray.abort();
    await ended;
    base.noteExhausted(32);
    await delay(300_000); // the NAT has forgotten the sessions
    await using later = await open([ONE, OTHER], { knownNetworks });
    assertEquals(later.description.profile.sessionLimit, 32);
  }));

Deno.test("BaseSocket takes new samples for TCP although sockets for UDP run out, and leaves none of them open", () =>
  behind(symmetricSequential, async ({ open, host }) => {
    let left = Infinity;
    const opened = new Set<UdpSocket>();
    const network = networkWith(host.network, {
      bindUdp: async (local, options) => {
        if (left-- <= 0) throw new NetworkError("too many open files", "other");
        const socket = await host.network.bindUdp(local, options);
        const close = () => {
          opened.delete(counted);
          socket.close();
        };
        const counted: UdpSocket = {
          local: socket.local,
          send: (data, to) => socket.send(data, to),
          receive: (options) => socket.receive(options),
          close,
          [Symbol.dispose]: close,
        };
        opened.add(counted);
        return counted;
      },
    });
    await using base = await open([ONE, OTHER], { network, openUdp: UdpBaseSocket.open });
    const { udp } = base;
    assert(udp !== undefined);
    const before = [...opened];
    await delay(1000); // the samples are old now
    left = 5; // a row of four, and one more of two
    assertEquals(await base.refresh(), true);
    assert(left < 0, "no socket was refused");
    assertEquals([...opened], before);
  }));

for (
  const [what, answering, mapping, withinMs] of [
    ["repeats a request by UDP that is lost, and waits for it", 5, "endpoint-independent", 632],
    ["does without a server that is silent over UDP", Infinity, "unknown", 680],
    ["does not wait for UDP if no server answers over it", 0, undefined, 360],
  ] as const
) {
  Deno.test(`BaseSocket ${what}`, () =>
    behind(portRestricted, async ({ open, host, time }) => {
      let asked = 0;
      const network = networkWith(host.network, {
        bindUdp: async (local, options) => {
          const socket = await host.network.bindUdp(local, options);
          return {
            local: socket.local,
            send: async (data, to) => {
              const isLost = answering === 0 || to.ip === OTHER.ip && ++asked < answering;
              if (!isLost) await socket.send(data, to);
            },
            receive: (options) => socket.receive(options),
            close: () => socket.close(),
            [Symbol.dispose]: () => socket.close(),
          };
        },
      });
      const startedMs = time.nowMs;
      await using base = await open([ONE, OTHER], { network, openUdp: UdpBaseSocket.open });
      assert(time.nowMs - startedMs <= withinMs, `${time.nowMs - startedMs} ms`);
      assertEquals(base.udp?.description.profile.mapping, mapping);
    }));
}

Deno.test("BaseSocket does not wait for servers that are silent over TCP once it knows enough over UDP", () =>
  behind(portRestricted, async ({ open, host, time }) => {
    const network = networkWith(host.network, {
      connectTcp: (_remote, { signal } = {}) =>
        new Promise((_, reject) => {
          signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
        }),
    });
    const startedMs = time.nowMs;
    await using base = await open([ONE, OTHER], { network, openUdp: UdpBaseSocket.open });
    assertEquals(Math.round(time.nowMs - startedMs), 80 + 500);
    assertEquals(base.description.profile.externalIp, null);
    assertEquals(base.udp?.description.profile.mapping, "endpoint-independent");
  }));

Deno.test("BaseSocket waits for TCP as long as twice UDP's round trips, and more", () =>
  behind(portRestricted, async ({ open, host, time }) => {
    const network = networkWith(host.network, {
      connectTcp: async (remote, options) => {
        await delay(480); // a long way
        return await host.network.connectTcp(remote, options);
      },
      bindUdp: async (local, options) => {
        const socket = await host.network.bindUdp(local, options);
        return {
          local: socket.local,
          send: async (data, to) => {
            await delay(240);
            await socket.send(data, to);
          },
          receive: (options) => socket.receive(options),
          close: () => socket.close(),
          [Symbol.dispose]: () => socket.close(),
        };
      },
    });
    const startedMs = time.nowMs;
    await using base = await open([ONE], { network, openUdp: UdpBaseSocket.open });
    assertEquals(Math.round(time.nowMs - startedMs), 2 * (480 + 160));
    assertEquals(base.description.profile.mapping, "endpoint-independent");
  }));

Deno.test("BaseSocket is ready without a server, with what the host knows of itself", () =>
  behind(portRestricted, async ({ open, time }) => {
    await using base = await open([]);
    const { profile, candidates, punchPort } = base.description;
    assertEquals(time.nowMs, 0);
    assertEquals([profile.mapping, profile.externalIp, profile.samples], ["unknown", null, []]);
    assertEquals(candidates, [{ kind: "host", address: { ip: "192.168.1.2", port: punchPort } }]);
    assertEquals(await base.refresh(), false);
  }));

for (const fault of ["silent", "host-unreachable", undefined] as const) {
  Deno.test(`BaseSocket is ready in time if the server is ${fault ?? "not a STUN server"}`, () =>
    behind(portRestricted, async ({ open, time }) => {
      await using base = await open([ONE]);
      assert(time.nowMs <= 3500, `${time.nowMs} ms`);
      assertEquals(base.description.profile.externalIp, null);
    }, { fault, serves: false }));
}

Deno.test("BaseSocket uses the servers that answer", () =>
  behind(portRestricted, async ({ open, time }) => {
    await using base = await open([{ ip: "203.0.113.77", port: 3478 }, ONE]);
    assertEquals(base.description.profile.externalIp, EXTERNAL);
    assert(time.nowMs <= 3500, `${time.nowMs} ms`);
  }));

Deno.test("BaseSocket does not wait for a lost answer if a NAT test report fills the gap", () =>
  behind(portRestricted, async ({ host: { network }, time }) => {
    const mapping = { behavior: "endpoint-independent", confidence: 1, evidence: [] } as const;
    const filtering = { ...mapping, behavior: "address-and-port-dependent" } as const;
    const report = { mapping, filtering, unsolicitedSyn: "dropped" } as const;
    const servers = [ONE, { ip: "203.0.113.77", port: 3478 }];
    const options = { network, servers, family: 4, report } as const;
    await using base = await BaseSocket.open(options);
    assertEquals(base.description.profile.mapping, "endpoint-independent");
    assertEquals(base.description.candidates[0]?.kind, "reflexive");
    assert(time.nowMs <= 160 + 40, `${time.nowMs} ms`);
  }));

Deno.test("BaseSocket is renewed once it is old, unless a router forwards its port", () =>
  behind(portRestricted, async ({ open }) => {
    const base = await open([ONE, OTHER]);
    assertEquals(await base.renew(), base);
    await delay(25_000);
    await using renewed = await base.renew();
    assert(renewed !== base);
    await renewed.addMapped({ ip: "203.0.113.200", port: 4000 }, new AsyncDisposableStack());
    await delay(25_000);
    assertEquals(await renewed.renew(), renewed);
  }));

Deno.test("BaseSocket is renewed in another network, even if it is young and a router forwards its port", () =>
  behind(portRestricted, async ({ host, open }) => {
    let ip = "192.168.1.2";
    const listed = await host.network.localAddresses();
    const network = networkWith(host.network, {
      localAddresses: () =>
        Promise.resolve(listed?.map((each) => each.ip === "192.168.1.2" ? { ...each, ip } : each)),
    });
    const base = await open([ONE, OTHER], { network });
    await base.addMapped({ ip: "203.0.113.200", port: 4000 }, new AsyncDisposableStack());
    assertEquals(await base.renew(), base);
    ip = "10.0.0.2";
    await using renewed = await base.renew();
    const { candidates } = renewed.description;
    assertEquals(candidates.map(({ kind }) => kind), ["reflexive", "host"]);
    assertEquals(candidates.at(-1)?.address.ip, "10.0.0.2");
  }));

Deno.test("BaseSocket finds its IPv6 address if the interfaces are not known", () =>
  behind(portRestricted, async ({ host, internet }) => {
    const web = internet.host("web", { addresses: ["2001:db8:99::1"], link: { delayMs: 20 } });
    using _listener = await web.network.listenTcp({ ip: "::", port: 3478 });
    const localAddresses = () => Promise.resolve(undefined);
    const servers = [ONE.ip, "[2001:db8:99::1]"];
    const network = { ...host.network, localAddresses };
    await using base = await preparePunch({ network, servers });
    const ips = base.description.candidates.map(({ address }) => address.ip);
    assertEquals(ips, [EXTERNAL, "192.168.1.2", "2001:db8::2"]);
  }, { addresses: ["192.168.1.2", "2001:db8::2"] }));

Deno.test("BaseSocket offers no address that other hosts cannot reach", () =>
  behind(portRestricted, async ({ open }) => {
    await using base = await open([ONE, OTHER]);
    const ips = base.description.candidates.map(({ address }) => address.ip);
    assertEquals(ips, [EXTERNAL, "192.168.1.2", "2001:db8::2"]);
  }, { addresses: ["192.168.1.2", "169.254.3.4", "2001:db8::2", "fe80::2%eth0"] }));

Deno.test("BaseSocket offers at most twelve addresses, mapped and reflexive ones first", () =>
  behind(portRestricted, async ({ open }) => {
    const mapped = [{ ip: "203.0.113.200", port: 4000 }];
    await using base = await open([ONE, OTHER], { mapped });
    const kinds = base.description.candidates.map(({ kind }) => kind);
    assertEquals(kinds.length, 12);
    assertEquals(kinds.slice(0, 3), ["mapped", "reflexive", "host"]);
  }, { addresses: Array.from({ length: 20 }, (_, index) => `192.168.1.${index + 2}`) }));

Deno.test("BaseSocket takes new samples only behind a NAT whose counter other hosts move", async () => {
  await behind(symmetricSequential, async ({ open }) => {
    await using base = await open([ONE, OTHER]);
    assertEquals(await base.refresh(), false);
    await delay(1000);
    const before = base.description.profile.samples.at(-1)!;
    assertEquals(await base.refresh(), true);
    const { samples } = base.description.profile;
    assert(samples.every(({ externalPort }) => externalPort > before.externalPort));
    assert(base.sampleAgeMs < 100, `${base.sampleAgeMs} ms`);
  });
  await behind(portRestricted, async ({ open }) => {
    await using base = await open([ONE, OTHER]);
    await delay(1000);
    assertEquals(await base.refresh(), false);
  });
});

Deno.test("BaseSocket keeps its samples if the server stops answering", () =>
  behind(symmetricSequential, async ({ open, stun }) => {
    await using base = await open([ONE, OTHER]);
    const { samples } = base.description.profile;
    await delay(1000);
    stun.fault = "silent";
    assertEquals(await base.refresh(), false);
    assertEquals(base.description.profile.samples, samples);
  }));

Deno.test("BaseSocket dials the server a limited number of times, however often it is refreshed", () =>
  behind(symmetricSequential, async ({ open, dialled }) => {
    await using base = await open([ONE, OTHER]);
    for (let i = 0; i < 100; i++) {
      await delay(1000);
      await base.refresh();
    }
    assert(dialled().length < 80, `${dialled().length} dials`);
  }));

for (const failing of [1, 3, 5, 7]) {
  Deno.test(`BaseSocket closes its ports if the system refuses listener ${failing}`, () =>
    behind(portRestricted, async ({ host: { network } }) => {
      let listeners = 0;
      const exhausted: typeof network = {
        ...network,
        listenTcp: (...args) =>
          ++listeners >= failing
            ? Promise.reject(new NetworkError("Cannot listen: too many files", "other"))
            : network.listenTcp(...args),
      };
      const options = { network: exhausted, servers: [ONE, OTHER], family: 4 } as const;
      await assertRejects(() => BaseSocket.open(options), NetworkError, "too many files");
    }));
}

for (const atMs of [0, 1, 50, 100, 159]) {
  Deno.test(`preparePunch() leaves nothing open when it is aborted after ${atMs} ms`, () =>
    behind(natBehavior({}), async ({ host }) => {
      const reason = new Error("enough");
      const controller = new AbortController();
      if (atMs === 0) controller.abort(reason);
      else setTimeout(() => controller.abort(reason), atMs);
      const { network } = host;
      const { signal } = controller;
      const servers = [ONE.ip, `${OTHER.ip}:${OTHER.port}`];
      await assertRejects(() => preparePunch({ network, servers, signal }), Error, "enough");
    }));
}

interface PeerScene {
  readonly internet: Internet;
  readonly time: VirtualTime;
  readonly host: Host;
  readonly stun: Host;
  readonly nat: Nat;
  open(
    servers: TransportAddress[],
    options?: Partial<OpenBaseSocketOptions>,
  ): Promise<BaseSocket>;
  /** The local ports of all SYNs sent. */
  dialled(): number[];
}

/** Runs a test with a host behind a NAT, 40 ms from a STUN server. */
async function behind(
  behavior: NatBehavior,
  test: (place: PeerScene) => Promise<void>,
  { fault, serves = true, addresses }: {
    fault?: HostFault | undefined;
    serves?: boolean;
    addresses?: string[];
  } = {},
): Promise<void> {
  await simulate(async ({ internet, time }) => {
    const link = { delayMs: 20 };
    const stun = internet.host("stun", {
      addresses: [ONE.ip, OTHER.ip],
      link,
      ...fault && { fault },
    });
    const router = internet.router("router", { behavior, link, externalIps: [EXTERNAL] });
    const host = internet.host("host", { behind: router, ...addresses && { addresses } });
    const dialled: number[] = [];
    internet.onPacket = ({ at, what, packet }) => {
      if (at === "host" && what === "sent" && packet.protocol === "tcp" && packet.tcpFlags.syn) {
        dialled.push(packet.source.port);
      }
    };
    await using _server = serves
      ? await serveStun({
        network: stun.network,
        address: ONE.ip,
        alternateAddress: OTHER.ip,
      })
      : { [Symbol.asyncDispose]: () => Promise.resolve() };
    await test({
      internet,
      time,
      host,
      stun,
      dialled: () => dialled,
      nat: router.nat,
      open: (servers, options) =>
        BaseSocket.open({ network: host.network, servers, family: 4, ...options }),
    });
  });
}

const EXTERNAL = "203.0.113.50";
