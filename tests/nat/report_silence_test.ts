import { testNat } from "../../lib/nat/report.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { Network } from "../../lib/net/network.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { PRIMARY, SERVER_IPS, withScene, withServer } from "../scenes/nat_scene.ts";

Deno.test("testNat() reports blocked UDP within 4 s, and what works over TCP", async () => {
  await withServer({ router: { blocks: ["udp"] } }, async ({ test, time }) => {
    const { udp, tcp, verdict } = await test();
    assertEquals([udp.ipv4!.reachable, tcp.ipv4!.reachable], [false, true]);
    assertEquals(udp.ipv4!.mapping.behavior, "unknown");
    assertEquals(verdict.difficulty, "blocked");
    assertMatch(verdict.summary, /^UDP is blocked; over TCP: direct connections work/);
    assert(time.nowMs <= 4000, `${time.nowMs}`);
  });
});

Deno.test("testNat() over UDP alone reports blocked if TCP shows that the network is up", async () => {
  await withServer({ router: { blocks: ["udp"] } }, async ({ test, time }) => {
    const { tcp, verdict } = await test({ transports: ["udp"] });
    assertEquals([tcp.ipv4, verdict.difficulty], [null, "blocked"]);
    assert(time.nowMs <= 4000, `${time.nowMs}`);
  });
});

Deno.test("testNat() names IPv6 that is announced, and does not work, beside an IPv4 that does", async () => {
  await withServer({}, async ({ client, internet, test }) => {
    internet.names.set("stun.example.net", [SERVER_IPS[0]]);
    const beyond = client.network;
    const network: Network = {
      ...beyond,
      canReusePort: beyond.canReusePort,
      resolve: (name, family, options) =>
        family === 6 && name === "stun.example.net"
          ? Promise.resolve(["2001:db8::9"])
          : beyond.resolve(name, family, options),
      bindUdp: async (local, options) => {
        if (local.ip !== "::") return await beyond.bindUdp(local, options);
        const socket = await beyond.bindUdp({ ...local, ip: "0.0.0.0" }, options);
        return {
          local: { ip: "::", port: socket.local.port },
          send: () => Promise.resolve(), // it leaves, and is lost
          receive: (options) => socket.receive(options),
          close: () => socket.close(),
          [Symbol.dispose]: () => socket.close(),
        };
      },
      listenTcp: (local, options) =>
        beyond.listenTcp(local.ip === "::" ? { ...local, ip: "0.0.0.0" } : local, options),
      connectTcp: (to, options) =>
        to.ip.includes(":")
          ? new Promise((_resolve, reject) => {
            options?.signal?.addEventListener("abort", () => reject(options.signal!.reason));
          })
          : beyond.connectTcp(to, options),
    };
    const { findings, verdict } = await test({ network, servers: ["stun.example.net"] });
    assertEquals(findings.map(({ kind }) => kind), ["ipv6"]);
    assertEquals(["blocked", "offline"].includes(verdict.difficulty), false);
  });
});

Deno.test("testNat() names blocked UDP and what to do", async () => {
  await withServer({ router: { blocks: ["udp"] } }, async ({ test }) => {
    const { findings } = await test();
    assertEquals(findings.map(({ kind }) => kind), ["udp-blocked"]);
    assertMatch(findings[0]!.remedy, /^Allow UDP/);
  });
});

Deno.test("testNat() reports blocked within 5 s if packets leave and nothing comes back", async () => {
  await withServer({ router: { blocks: ["udp", "tcp"] } }, async ({ test, time }) => {
    const { verdict, findings } = await test();
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "blocked"]);
    assertMatch(verdict.summary, /^Nothing came back: a firewall, a VPN or a required proxy/);
    assert(time.nowMs <= 5000, `${time.nowMs}`);
  });
});

Deno.test("testNat() reports blocked if nothing comes back but names resolve", async () => {
  await withServer({ router: { blocks: ["udp", "tcp"] } }, async ({ internet, test }) => {
    internet.names.set("stun.example.net", [SERVER_IPS[0]]);
    const { verdict, findings } = await test({ servers: ["stun.example.net"] });
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "blocked"]);
  });
});

Deno.test("testNat() reports offline at once if there is no route", async () => {
  await withServer({ host: { addresses: ["2001:db8:1::2"] } }, async ({ test, time }) => {
    const { udp, tcp, verdict, findings } = await test();
    assertEquals([udp.ipv4, tcp.ipv4, verdict.difficulty], [null, null, "offline"]);
    assertMatch(findings[0]!.summary, /^This machine has IPv6 alone, and the servers have IPv4/);
    assert(time.nowMs <= 10, `${time.nowMs}`);
  });
});

Deno.test("testNat() reports offline if the system cannot send at all", async () => {
  await withServer({ host: { addresses: [] } }, async ({ test, time }) => {
    const { verdict, findings } = await test();
    assertEquals([verdict.difficulty, findings.map(({ kind }) => kind)], ["offline", ["offline"]]);
    assertMatch(verdict.summary, /^No network/);
    assert(time.nowMs <= 10, `${time.nowMs}`);
  });
});

Deno.test("testNat() names DNS within 5 s if no name server answers", async () => {
  await withServer({ resolveMs: 5000 }, async ({ test, time }) => {
    const { verdict, findings } = await test({ servers: ["stun.example.net"] });
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "dns"]);
    assertMatch(verdict.summary, /^No name server answers/);
    assert(time.nowMs <= 5000, `${time.nowMs}`);
  });
});

Deno.test("testNat() names DNS if the name server refuses to answer", async () => {
  await withServer({}, async ({ client }) => {
    const refused = new NetworkError("Cannot resolve: EAI_AGAIN", "timed-out");
    const network = { ...client.network, resolve: () => Promise.reject(refused) };
    const { verdict, findings } = await testNat({ network });
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "dns"]);
    assertMatch(verdict.summary, /^The name server refuses/);
  });
});

Deno.test("testNat() takes a firewall of this machine for what it is", async () => {
  await withServer({}, async ({ client, test }) => {
    const refused = new NetworkError("Cannot send", "not-permitted", { cause: new Error("EPERM") });
    const network: Network = {
      ...client.network,
      bindUdp: async (...args) => {
        const socket = await client.network.bindUdp(...args);
        return {
          local: socket.local,
          send: () => Promise.reject(refused),
          receive: (options) => socket.receive(options),
          close: () => socket.close(),
          [Symbol.dispose]: () => socket.close(),
        };
      },
      connectTcp: () => Promise.reject(refused),
    };
    const { verdict, findings } = await test({ network });
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "local-firewall"]);
  });
});

Deno.test("testNat() rejects a name that does not resolve", async () => {
  await withServer({}, async ({ test }) => {
    const error = await assertRejects(() => test({ servers: ["no.example.net"] }), NetworkError);
    assertEquals(error.reason, "name-not-found");
  });
});

Deno.test("testNat() names DNS if none of the public servers' names resolves", async () => {
  await withServer({}, async ({ client }) => {
    const { verdict, findings } = await testNat({ network: client.network });
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "dns"]);
    assertMatch(verdict.summary, /^The name server says that none/);
  });
});

Deno.test("testNat() does not take a missing permission for a missing network", async () => {
  await withServer({}, async ({ client }) => {
    const denied = new NetworkError("Cannot resolve: not granted", "not-permitted");
    const network = { ...client.network, resolve: () => Promise.reject(denied) };
    assertEquals(await assertRejects(() => testNat({ network })), denied);
  });
});

Deno.test("testNat() ignores a name that does not resolve if others do", async () => {
  await withServer({}, async ({ test }) => {
    const { udp } = await test({ servers: ["no.example.net", PRIMARY] });
    assertEquals(udp.ipv4?.rfc3489Name, "Port Restricted Cone NAT");
  });
});

Deno.test("testNat() tries the second address of a single name", async () => {
  await withServer({}, async ({ internet, test }) => {
    internet.names.set("stun.example.net", ["203.0.113.250", SERVER_IPS[0]]);
    const { udp, tcp } = await test({ servers: ["stun.example.net"] });
    for (const family of [udp.ipv4!, tcp.ipv4!]) {
      assertEquals(family.rfc3489Name, "Port Restricted Cone NAT");
    }
  });
});

Deno.test("testNat() does not count two names of one address as two servers", async () => {
  await withScene({ nat: NAT_BEHAVIORS.symmetric }, async ({ internet, server, test }) => {
    await using _one = await serveStun({ network: server.network, address: SERVER_IPS[0] });
    internet.names.set("a.example.net", [SERVER_IPS[0]]);
    internet.names.set("b.example.net", [SERVER_IPS[0]]);
    const { udp } = await test({ servers: ["a.example.net", "b.example.net", PRIMARY] });
    assertEquals(udp.ipv4?.mapping.behavior, "unknown");
  });
});

Deno.test("testNat() does not report blocked after a timeout that was too short", async () => {
  await withServer({ link: { delayMs: 280 } }, async ({ test }) => {
    const { verdict } = await test({ timeoutMs: 300 });
    assertEquals(verdict.difficulty, "unknown");
  });
});
