import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import { TaskGroup } from "../../lib/base/tasks.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { gatherEvidence, readAnswer } from "../../lib/nat/examination.ts";
import {
  explainNetwork,
  type NameEvidence,
  type NetworkEvidence,
  type WebAnswer,
} from "../../lib/nat/findings.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import type { Network } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { PRIMARY, SERVER_IPS, withScene } from "../scenes/nat_scene.ts";

/** Answers every connection to the port with the text. */
class Answering implements AsyncDisposable {
  readonly #tasks = new TaskGroup(() => {});
  readonly #close: () => void;

  private constructor(close: () => void) {
    this.#close = close;
  }

  static async open(network: Network, port: number, text: string): Promise<Answering> {
    const listener = await network.listenTcp({ ip: SERVER_IPS[0], port });
    const answering = new Answering(() => listener.close());
    answering.#tasks.run(async (signal) => {
      for (;;) {
        using connection = await listener.accept({ signal });
        await writeAll(connection, new TextEncoder().encode(text));
        await connection.closeWrite();
        await delay(50, { signal });
      }
    });
    return answering;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
    await this.#tasks.stop();
  }
}

const TO_PORTAL = "HTTP/1.1 302 Found\r\nLocation: http://login.hotel.example/welcome\r\n\r\n";
const PAGE = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

Deno.test("testNat() recognises a portal by where it leads", async () => {
  await withScene({}, async ({ server, test, time }) => {
    await using _portal = await Answering.open(server.network, 80, TO_PORTAL);
    const { verdict, findings } = await test();
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "captive-portal"]);
    assertMatch(verdict.summary, /at login\.hotel\.example$/);
    assertMatch(findings[0]!.remedy, /sign in/);
    assert(time.nowMs <= 5000, `${time.nowMs}`);
  });
});

Deno.test("testNat() recognises a portal that answers on the servers' own ports", async () => {
  await withScene({}, async ({ server, test }) => {
    await using _web = await Answering.open(server.network, 80, PAGE);
    await using _stun = await Answering.open(server.network, 3478, PAGE);
    const { findings } = await test();
    assertEquals(findings[0]?.kind, "captive-portal");
  });
});

Deno.test("testNat() does not take the web page of a server for a portal", async () => {
  await withScene({}, async ({ client, test, server }) => {
    client.fault = undefined;
    await using _web = await Answering.open(server.network, 80, PAGE);
    const error = await test().catch((error) => error);
    assertMatch(`${error}`, /no STUN server at .*: connection refused/);
  });
});

Deno.test("testNat() says that only port 443 gets out", async () => {
  await withScene({}, async ({ internet, test, time }) => {
    const other = internet.host("web only", { addresses: ["203.0.113.77"], closedPorts: "drop" });
    using _listener = await other.network.listenTcp({ ip: "203.0.113.77", port: 443 });
    const { verdict, findings } = await test({ servers: ["203.0.113.77"] });
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "web-only"]);
    assertMatch(verdict.summary, /^Only port 443 can be reached/);
    assertMatch(findings[0]!.remedy, /wss:/);
    assert(time.nowMs <= 5000, `${time.nowMs}`);
  });
});

Deno.test("testNat() says that a router rejects everything", async () => {
  await withScene({}, async ({ server, test }) => {
    server.fault = "host-unreachable";
    const { verdict, findings } = await test();
    assertEquals([verdict.difficulty, findings[0]?.kind], ["blocked", "blocked"]);
    assertMatch(verdict.summary, /^A router or firewall on the way rejects/);
  });
});

for (
  const [what, works, plainWorks, expected] of [
    ["one interface is answered where the default route is not", ["192.168.1.5"], false, "eth0"],
    ["no interface is answered", [], false, null],
    ["the default route is answered as well", ["192.168.1.5"], true, null],
  ] as const
) {
  Deno.test(`gatherEvidence() tries each interface by its own address: ${what}`, async () => {
    const tried: string[] = [];
    const network = networkWith(systemNetwork, {
      bindUdp: () =>
        Promise.resolve({ send: () => Promise.resolve(), [Symbol.dispose]: () => {} } as never),
      localAddresses: () =>
        Promise.resolve([
          { interfaceName: "lo", ip: "127.0.0.1" },
          { interfaceName: "tun0", ip: "10.8.0.2" },
          { interfaceName: "eth0", ip: "192.168.1.5" },
          { interfaceName: "eth0", ip: "192.168.1.6" },
          { interfaceName: "eth0", ip: "2001:db8::5" },
        ]),
      defaultGateways: () => Promise.resolve([]),
      connectTcp: (remote, { local } = {}) => {
        if (local !== undefined) tried.push(`${local.ip} to ${remote.port}`);
        const isAnswered = local === undefined ? plainWorks : works.some((ip) => ip === local.ip);
        if (!isAnswered) return Promise.reject(new NetworkError("silence", "timed-out"));
        return Promise.reject(new NetworkError("refused", "refused"));
      },
    });
    const hosts = [{ host: "198.51.100.9", port: 3478 }];
    const { otherWay } = await gatherEvidence({ network, hosts, families: [4] });
    assertEquals(otherWay, expected);
    assertEquals(tried, ["10.8.0.2 to 3478", "192.168.1.5 to 3478"]);
  });
}

Deno.test("testNat() contacts no web port where servers answer", async () => {
  await withScene({ seed: 2 }, async ({ internet, server, test }) => {
    const { serveStun } = await import("../../lib/stun/server/server.ts");
    await using _server = await serveStun({
      network: server.network,
      address: SERVER_IPS[0],
      alternateAddress: SERVER_IPS[1],
    });
    const ports = new Set<number>();
    internet.onPacket = ({ what, packet }) => {
      if (what === "sent" && packet.protocol !== "icmp-error") ports.add(packet.destination.port);
    };
    await test({ servers: [PRIMARY] });
    assertEquals([ports.has(80), ports.has(443), ports.has(9)], [false, false, false]);
  });
});

const NAMES: NameEvidence = { asked: 2, found: 2, faults: [], sharedIp: null, redirected: null };
const NOTHING: NetworkEvidence = {
  ...{ sending: "sends", onlyFamily: null, names: NAMES, web: null, hasWrongAnswer: false },
  ...{ otherWay: null, vpn: null, proxy: null, routes: ["192.168.1.1"] },
  dials: [
    { port: 3478, isAsked: true, outcome: "silent" },
    { port: 443, isAsked: false, outcome: "silent" },
    { port: 80, isAsked: false, outcome: "silent" },
  ],
};
const dials = (...outcomes: NetworkEvidence["dials"][number]["outcome"][]) =>
  NOTHING.dials.map((each, index) => ({ ...each, outcome: outcomes[index]! }));
const NO_NAMES: NameEvidence = {
  asked: 2,
  found: 0,
  faults: ["silent"],
  sharedIp: null,
  redirected: null,
};

for (
  const [what, evidence, kinds] of [
    ["nothing comes back", {}, ["blocked"]],
    ["there is no route", { sending: "no route" }, ["offline"]],
    ["there is only the other family", { sending: "no route", onlyFamily: 6 }, ["offline"]],
    ["the system refuses", { sending: "refused" }, ["local-firewall"]],
    ["no name is found", { names: NO_NAMES, dials: [] }, ["dns"]],
    ["no name is found, and an address answers nothing", { names: NO_NAMES }, ["blocked", "dns"]],
    ["there is a VPN", { vpn: "wg0" }, ["blocked", "vpn"]],
    ["another interface is answered", { otherWay: "eth0" }, ["vpn", "blocked"]],
    ["another interface is answered, and there is a VPN", { otherWay: "eth0", vpn: "wg0" }, [
      "vpn",
      "blocked",
    ]],
    ["no name is found, and there is a VPN", { names: NO_NAMES, dials: [], vpn: "tun0" }, [
      "dns",
      "vpn",
    ]],
    ["there are two routes", { routes: ["192.168.1.1", "192.168.2.1"] }, ["blocked", "routes"]],
    ["a name leads to this network", {
      names: { ...NAMES, redirected: { name: "stun.example.net", ip: "192.168.1.1" } },
    }, ["blocked", "dns"]],
    ["a name leads nowhere", {
      names: { ...NAMES, redirected: { name: "stun.example.net", ip: "0.0.0.0" } },
    }, ["dns", "blocked"]],
    ["there is a proxy", { proxy: "http://proxy.example:3128" }, ["proxy"]],
    ["only 443 answers", { dials: dials("silent", "accepted", "silent") }, ["web-only"]],
    ["only 443 refuses", { dials: dials("silent", "refused", "silent") }, ["web-only"]],
    ["routers reject", { dials: dials("unreachable", "unreachable", "silent") }, ["blocked"]],
    ["all is refused", { dials: dials("refused", "refused", "refused") }, ["refused"]],
    ["the port is refused, and the web is not", {
      dials: dials("refused", "accepted", "accepted"),
    }, ["refused"]],
    ["the port is open, and silent", { dials: dials("accepted", "accepted", "accepted") }, [
      "silent-server",
    ]],
    ["a page leads elsewhere", {
      web: { status: 302, leadsTo: "login.example" },
      dials: dials("silent", "silent", "accepted"),
    }, ["captive-portal", "web-only"]],
    ["UDP is answered, and no port by TCP", { hasUdp: true }, ["tcp-blocked"]],
    ["the same with a proxy and a VPN", { hasUdp: true, proxy: "p:3128", vpn: "tun0" }, [
      "tcp-blocked",
      "vpn",
    ]],
    ["UDP is answered, and a port of the web", {
      hasUdp: true,
      dials: dials("silent", "accepted", "accepted"),
    }, ["web-only"]],
    ["a page asks to sign in", { web: { status: 511, leadsTo: null } }, ["captive-portal"]],
    ["all names lead to one page", {
      web: { status: 200, leadsTo: null },
      names: { ...NAMES, sharedIp: "192.168.1.1" },
    }, ["captive-portal"]],
    ["a server has a page of its own", {
      web: { status: 200, leadsTo: null },
      dials: dials("silent", "accepted", "accepted"),
    }, ["web-only"]],
  ] as const satisfies readonly (readonly [string, Partial<NetworkEvidence>, readonly string[]])[]
) {
  Deno.test(`explainNetwork() where ${what}: ${kinds.join(", ")}`, () => {
    const findings = explainNetwork({ ...NOTHING, ...evidence });
    assertEquals(findings.map(({ kind }) => kind), [...kinds]);
    for (const { summary, remedy } of findings) {
      assert(summary.length > 10 && remedy.length > 10 && !/\.$/.test(summary + remedy));
    }
  });
}

for (
  const [name, ip, isRedirected] of [
    ["stun.example.net", "192.168.9.9", true],
    ["stun.example.net", "0.0.0.0", true],
    ["stun.example.net", "127.0.0.1", true],
    ["stun.example.net", "198.51.100.77", false],
    ["nas.fritz.box", "192.168.9.9", false],
    ["nas.local", "192.168.9.9", false],
    ["nas", "192.168.9.9", false],
  ] as const
) {
  Deno.test(`gatherEvidence() ${isRedirected ? "says" : "does not say"} that ${name} is redirected if it leads to ${ip}`, async () => {
    await withScene({}, async ({ client, internet }) => {
      internet.names.set(name, [ip]);
      const hosts = [{ host: name, port: 3478 }];
      const { names } = await gatherEvidence({ network: client.network, hosts });
      assertEquals(names.redirected, isRedirected ? { name, ip } : null);
    });
  });
}

for (
  const [text, answer] of [
    ["HTTP/1.1 200 OK\r\n\r\n", { status: 200, leadsTo: null }],
    ["HTTP/1.0 302 Found\r\nLocation: http://Portal.example:8080/x\r\n\r\n", {
      status: 302,
      leadsTo: "Portal.example",
    }],
    ["HTTP/1.1 301 Moved\r\nlocation:https://www.example.net/\r\n\r\n", {
      status: 301,
      leadsTo: null,
    }],
    ["HTTP/1.1 302 Found\r\nLocation: http://\x1b[31mevil\r\n\r\n", { status: 302, leadsTo: null }],
    ["HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", { status: 302, leadsTo: null }],
    ["HTTP/1.1 511 Network Authentication Required\n\n", { status: 511, leadsTo: null }],
    ["SSH-2.0-OpenSSH\r\n", null],
    ["", null],
  ] as const satisfies readonly (readonly [string, WebAnswer | null])[]
) {
  Deno.test(`readAnswer() of ${JSON.stringify(text)}`, () => {
    assertEquals(readAnswer(text, "stun.example.net"), answer);
  });
}

Deno.test("gatherEvidence() asks STUN servers over UDP only beside dials", async () => {
  await withScene({}, async ({ client }) => {
    let sockets = 0;
    const network: Network = {
      ...client.network,
      bindUdp: (local, options) => {
        sockets++;
        return client.network.bindUdp(local, options);
      },
    };
    const hosts = [{ host: "no.example.net", port: 3480 }];
    const without = await gatherEvidence({ network, hosts });
    const before = sockets;
    const evidence = await gatherEvidence({ network, hosts, stunServers: [PRIMARY] });
    assertEquals([evidence.hasUdp, without.hasUdp], [undefined, undefined]);
    assertEquals(sockets - before, before);
  });
});
