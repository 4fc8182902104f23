import { assert, assertEquals, assertMatch } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { testNat } from "../../lib/nat/report.ts";
import type { Network } from "../../lib/net/network.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { simulate } from "../simnet/simulate.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import {
  ALTERNATE,
  type NatScene,
  PRIMARY,
  SERVER_IPS,
  withScene,
  withServer,
} from "../scenes/nat_scene.ts";

const PUBLIC_IP = "203.0.113.77";

Deno.test("testNat() reports a host that anyone can reach as open", async () => {
  await simulate(async ({ internet }) => {
    const client = internet.host("client", { link: { delayMs: 10 } });
    const server = internet.host("server", { addresses: SERVER_IPS });
    await using _server = await serveTwoAddresses(server.network);
    const report = await testNat({ network: client.network, servers: [PRIMARY] });
    for (const family of [report.udp.ipv4!, report.tcp.ipv4!]) {
      assertEquals(family.rfc3489Name, "Open Internet");
      assertEquals([family.mapping.behavior, family.filtering.behavior], ["none", "none"]);
      assertEquals(family.translated, false);
      assertEquals(family.local, family.external);
    }
    assertEquals(report.tcp.ipv4!.unsolicitedSyn, "accepted");
    assertEquals(report.verdict.difficulty, "open");
    assertEquals([report.udp.ipv6, report.tcp.ipv6], [null, null]);
  });
});

Deno.test("testNat() says where the server is: on the internet, in this network, on this machine", async () => {
  await simulate(async ({ internet }) => {
    const client = internet.host("client", { addresses: ["10.0.0.2"] });
    const server = internet.host("server", { addresses: ["10.0.0.3", "203.0.113.10"] });
    for (
      const [network, address, scope] of [
        [server.network, "203.0.113.10", "internet"],
        [server.network, "10.0.0.3", "network"],
        [client.network, "10.0.0.2", "machine"],
      ] as const
    ) {
      await using _server = await serveStun({ network, address });
      const { verdict } = await testNat({ network: client.network, servers: [address] });
      assertEquals(verdict.scope, scope, verdict.summary);
    }
  });
});

Deno.test("testNat() distinguishes a firewall from a NAT", async () => {
  const scene: NatScene = {
    router: { behavior: NAT_BEHAVIORS.firewall },
    host: { addresses: [PUBLIC_IP] },
  };
  await withServer(scene, async ({ test }) => {
    const { udp, tcp, verdict } = await test();
    for (const family of [udp.ipv4!, tcp.ipv4!]) {
      assertEquals(family.mapping.behavior, "none");
      assertEquals(family.filtering.behavior, "address-and-port-dependent");
      assertEquals(family.rfc3489Name, "Symmetric UDP Firewall");
    }
    assertEquals([verdict.difficulty, tcp.ipv4!.unsolicitedSyn], ["easy", "dropped"]);
  });
});

Deno.test("testNat() tests IPv6 behind a firewall and IPv4 behind a NAT at the same time", async () => {
  const scene: NatScene = { host: { addresses: ["192.168.1.2", "2001:db8:1::2"] } };
  await withScene(scene, async ({ internet, test }) => {
    const dual = internet.host("dual", {
      addresses: ["203.0.113.29", "203.0.113.30", "2001:db8::9", "2001:db8::10"],
    });
    internet.names.set("stun.example.net", ["203.0.113.29", "2001:db8::9"]);
    internet.names.set("ipv4only.arpa", ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]);
    await using _v4 = await serveStun({
      network: dual.network,
      address: "203.0.113.29",
      alternateAddress: "203.0.113.30",
    });
    await using _v6 = await serveStun({
      network: dual.network,
      address: "2001:db8::9",
      alternateAddress: "2001:db8::10",
    });
    const { udp, tcp, hints } = await test({ servers: ["stun.example.net"] });
    for (const family of [udp.ipv4!, tcp.ipv4!]) {
      assertEquals(family.rfc3489Name, "Port Restricted Cone NAT");
    }
    for (const family of [udp.ipv6!, tcp.ipv6!]) {
      assertEquals(family.mapping.behavior, "none");
      assertEquals(family.filtering.behavior, "address-and-port-dependent");
      assertMatch(family.external!, /^\[2001:db8:1::2\]:\d+$/);
    }
    assertEquals(hints.filter((hint) => hint.startsWith("NAT64: ")).length, 1);
  });
});

Deno.test("testNat() loses no time to IPv6 on a host without it", async () => {
  for (const bind of ["binds", "does not bind"]) {
    await withServer({ nat: NAT_BEHAVIORS.fullCone }, async ({ internet, client, test }) => {
      internet.names.set("stun.example.net", [SERVER_IPS[0], "2001:db8::9"]);
      const network = bind === "binds" ? client.network : withoutIpv6(client.network);
      const report = await test({ network, servers: ["stun.example.net"] });
      assertEquals([report.udp.ipv6, report.tcp.ipv6], [null, null]);
      assertEquals(report.udp.ipv4?.rfc3489Name, "Full Cone NAT");
      assert(report.elapsedMs <= 320, `${report.elapsedMs}`);
    });
  }
});

Deno.test("testNat() finds the mapping but not the filtering with two one-address servers", async () => {
  for (const name of ["portRestricted", "symmetric"] as const) {
    await withScene({ nat: NAT_BEHAVIORS[name] }, async ({ internet, test }) => {
      const hosts = [internet.host("one"), internet.host("two")];
      await using stack = new AsyncDisposableStack();
      for (const { network, addresses } of hosts) {
        stack.use(await serveStun({ network, address: addresses[0]! }));
      }
      const { udp, tcp } = await test({ servers: hosts.map(({ addresses }) => addresses[0]!) });
      for (const family of [udp.ipv4!, tcp.ipv4!]) {
        const expected = name === "portRestricted" ? "endpoint-independent" : "unknown";
        assertEquals([family.mapping.behavior, family.filtering.behavior], [expected, "unknown"]);
      }
    });
  }
});

Deno.test("testNat() is not disturbed by another host behind the same NAT", async () => {
  const allocation = { kind: "sequential", delta: 1 } as const;
  await withServer({ nat: { allocation } }, async ({ internet, home, test }) => {
    const neighbour = internet.host("neighbour", { behind: home });
    const both = await Promise.all([
      test(),
      testNat({ network: neighbour.network, servers: [PRIMARY] }),
    ]);
    for (const { udp, tcp } of both) {
      for (const family of [udp.ipv4!, tcp.ipv4!]) {
        assertEquals(family.rfc3489Name, "Port Restricted Cone NAT");
        assert(["sequential", "unknown"].includes(family.allocation.kind));
        assert([1, null].includes(family.allocation.delta), `${family.allocation.delta}`);
      }
    }
  });
});

Deno.test("testNat() reports a carrier's NAT above a home NAT as the stricter of the two", async () => {
  await simulate(async ({ internet }) => {
    const carrier = internet.router("carrier", {
      behavior: NAT_BEHAVIORS.symmetric,
      lan: "100.64.0",
      link: { delayMs: 20 },
    });
    const home = internet.router("home", { behavior: NAT_BEHAVIORS.fullCone, behind: carrier });
    const client = internet.host("client", { behind: home });
    const server = internet.host("server", { addresses: SERVER_IPS });
    await using _server = await serveTwoAddresses(server.network);
    const { udp, tcp } = await testNat({ network: client.network, servers: [PRIMARY] });
    for (const family of [udp.ipv4!, tcp.ipv4!]) {
      assertEquals(family.rfc3489Name, "Symmetric NAT");
      assertEquals(family.filtering.behavior, "address-and-port-dependent");
    }
  });
});

Deno.test("testNat() reports a hint for shared address space", async () => {
  await withServer({ router: { lan: "100.64.3" } }, async ({ test }) => {
    const { hints } = await test();
    assertMatch(hints.join("\n"), /carrier-grade NAT: the local address 100\.64\.3\.2/);
  });
});

for (const [unsolicitedSyn, seen] of [["drop", "dropped"], ["reset", "reset"]] as const) {
  Deno.test(`testNat() detects that an unsolicited SYN is ${seen}`, async () => {
    await withServer({ nat: { unsolicitedSyn } }, async ({ test }) => {
      const { tcp } = await test();
      assertEquals(tcp.ipv4!.unsolicitedSyn, seen);
      assertEquals(tcp.ipv4!.filtering.behavior, "address-and-port-dependent");
    });
  });
}

Deno.test("testNat() reports TCP and UDP separately, and mentions the difference", async () => {
  const tcpOnly = {
    tcp: { mapping: "address-and-port-dependent", allocation: { kind: "random" } },
  };
  await withServer({ nat: tcpOnly as NatScene["nat"] }, async ({ test }) => {
    const { udp, tcp, verdict } = await test();
    assertEquals(udp.ipv4!.rfc3489Name, "Port Restricted Cone NAT");
    assertEquals(tcp.ipv4!.rfc3489Name, "Symmetric NAT");
    assertEquals(verdict.difficulty, "hard");
    assertMatch(verdict.summary, /over UDP, direct connections work with nearly all peers$/);
  });
});

for (const hairpinning of [true, false]) {
  Deno.test(`testNat() reports hairpinning ${hairpinning}, and unknown behind a symmetric NAT`, async () => {
    for (const name of ["fullCone", "portRestricted", "symmetric"] as const) {
      await withServer(
        { nat: natBehavior({ hairpinning }, NAT_BEHAVIORS[name]) },
        async (world) => {
          const { udp } = await world.test({ transports: ["udp"] });
          assertEquals(udp.ipv4!.hairpinning, name === "symmetric" ? "unknown" : hairpinning);
        },
      );
    }
  });
}

Deno.test("testNat() does not send to its own external address without hairpinning", async () => {
  await withServer({ nat: NAT_BEHAVIORS.fullCone }, async (world) => {
    const { udp } = await world.test({ hairpinning: false, transports: ["udp"] });
    assertEquals(udp.ipv4!.hairpinning, "unknown");
  });
});

Deno.test("testNat() does not poll while it waits", async () => {
  await withServer({ link: { outages: [[30, 2030]] } }, async ({ client, test }) => {
    let looks = 0;
    const { setTimeout } = globalThis;
    globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) => {
      looks++;
      return setTimeout(...args);
    }) as typeof setTimeout;
    try {
      const { udp } = await test({ network: client.network, transports: ["udp"] });
      assert(looks <= 10 * udp.ipv4!.details.packetsSent, `${looks} timers`);
    } finally {
      globalThis.setTimeout = setTimeout;
    }
  });
});

function withoutIpv6(network: Network): Network {
  const refuse = (ip: string) => {
    if (ip.includes(":")) throw new NetworkError("Cannot bind", "address-not-available");
  };
  return {
    ...network,
    // deno-lint-ignore require-await -- a promise that rejects
    bindUdp: async (local) => {
      refuse(local.ip);
      return network.bindUdp(local);
    },
    // deno-lint-ignore require-await -- a promise that rejects
    listenTcp: async (local) => {
      refuse(local.ip);
      return network.listenTcp(local);
    },
  };
}

function serveTwoAddresses(network: Network) {
  return serveStun({ network, address: SERVER_IPS[0], alternateAddress: SERVER_IPS[1] });
}

for (const crossedSyn of ["accept", "drop", "reset", "strict"] as const) {
  Deno.test(`testNat() reports what a crossing SYN gets behind a NAT that would ${crossedSyn} it`, async () => {
    await withServer({ nat: { crossedSyn } }, async ({ test }) => {
      const { tcp, udp, verdict } = await test();
      const isLetIn = crossedSyn === "accept";
      assertEquals(tcp.ipv4!.crossingSyn, isLetIn ? "accepted" : "dropped");
      assertEquals(udp.ipv4!.crossingSyn, "unknown");
      assertEquals(verdict.difficulty, isLetIn ? "easy" : "moderate");
      assertEquals(verdict.summary.includes("not with those behind a NAT like this"), !isLetIn);
    });
  });
}

Deno.test("testNat() does not guess what a crossing SYN gets behind a symmetric NAT", async () => {
  await withServer({ nat: NAT_BEHAVIORS.symmetricPreserving }, async ({ test }) => {
    assertEquals((await test()).tcp.ipv4!.crossingSyn, "unknown");
  });
});

Deno.test("testNat() promises nothing if a NAT draws external addresses from a pool", async () => {
  const externalIps = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"];
  const pooled = { ...NAT_BEHAVIORS.symmetricSequential, pooling: "arbitrary" } as const;
  await withServer({ nat: pooled, router: { externalIps } }, async ({ test }) => {
    const { tcp, verdict } = await test();
    assert(tcp.ipv4!.details.externalIps.length > 1);
    assertEquals(verdict.difficulty, "hard");
  });
  const paired = { ...pooled, pooling: "paired" } as const;
  await withServer({ nat: paired, router: { externalIps } }, async ({ test }) => {
    const { tcp, verdict } = await test();
    assertEquals(tcp.ipv4!.details.externalIps.length, 1);
    assertEquals(verdict.difficulty, "moderate");
  });
});

Deno.test("testNat() tells of UDP before the test over TCP has ended", async () => {
  for (const name of ["fullCone", "portRestricted"] as const) {
    await withServer({ nat: NAT_BEHAVIORS[name] }, async ({ test }) => {
      const startedAt = performance.now();
      const told: { ms: number; family: number; kind: string; summary: string }[] = [];
      const report = await test({
        onUdp: ({ family, report, verdict }) =>
          told.push({
            ...{ ms: performance.now() - startedAt, family, kind: report.rfc3489Name },
            summary: verdict.summary,
          }),
      });
      const [{ ms, ...rest }] = told as [typeof told[0]];
      const kind = report.udp.ipv4!.rfc3489Name;
      assertEquals([told.length, rest.family, rest.kind], [1, 4, kind]);
      assertMatch(rest.summary, new RegExp(`^${kind}: `));
      assert(ms < report.elapsedMs - 25, `${ms} of ${report.elapsedMs}`);
    });
  }
});

Deno.test("testNat() tells nothing early if UDP is silent, or is not asked for", async () => {
  await withServer({}, async ({ test }) => {
    let told = 0;
    await test({ transports: ["tcp"], onUdp: () => told++ });
    assertEquals(told, 0);
  });
  await withScene({}, async ({ test }) => {
    let told = 0;
    await test({ onUdp: () => told++ }).catch((error) => assert(error instanceof Error));
    assertEquals(told, 0);
  });
});

Deno.test("testNat() waits for nothing that it can ask at once: four round trips in all behind a cone", async () => {
  const times = async (name: keyof typeof NAT_BEHAVIORS, servers: string[]) =>
    await withServer({ nat: NAT_BEHAVIORS[name] }, async ({ test }) => {
      const { udp, tcp, elapsedMs } = await test({ servers, families: [4] });
      const { filtering, crossingSyn, hairpinning } = tcp.ipv4!;
      assertEquals([filtering.behavior === "unknown", crossingSyn], [false, "accepted"]);
      if (name === "fullCone") assertEquals(hairpinning, true);
      return [udp.ipv4!.elapsedMs, elapsedMs];
    });
  const [coneUdpMs, coneMs] = await times("fullCone", [PRIMARY]);
  assert(coneUdpMs! <= 112 && coneMs! <= 250, `${coneUdpMs}, ${coneMs}`);
  const [knownUdpMs, knownMs] = await times("fullCone", [PRIMARY, ALTERNATE]);
  assert(knownUdpMs! <= 66 && knownMs! <= 250, `${knownUdpMs}, ${knownMs}`);
  const [, otherMs] = await times("portRestricted", [PRIMARY]);
  assert(otherMs! <= 450, `${otherMs}`);
});

Deno.test("testNat() is not held up by a first server that never answers over TCP", async () => {
  await withServer({ nat: NAT_BEHAVIORS.fullCone }, async ({ internet, test }) => {
    internet.host("dead", { addresses: ["203.0.113.250"] });
    const { tcp } = await test({ servers: ["203.0.113.249:3478", PRIMARY], families: [4] });
    assertEquals(tcp.ipv4!.filtering.behavior, "endpoint-independent");
    assert(tcp.ipv4!.elapsedMs < 1000, `${tcp.ipv4!.elapsedMs}`);
  });
});
