/**
 * Tickets that a stranger has made, to speak to services of whoever pastes them. The program is the real one, and so are
 * the sockets; the tickets are made byte by byte, since our own encoder may refuse to.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { Network } from "../../lib/net/network.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { start, withScratch } from "../cli/command.ts";
import { simulate } from "../simnet/simulate.ts";
import { ticketFor, withService } from "./strange_tickets.ts";

/** What a shell or a database would act upon, as a percent-encoded part of a URL. */
const LINES: readonly string[] = [
  "%0d%0aflush_all%0d%0aset x 0 0 1%0d%0ay%0d%0a".replaceAll(" ", "%20"),
  "%0Aflush_all%0A",
  "%0D",
  "%00",
  "%7f",
  "%C2%85", // NEL
  "%E2%80%A8", // line separator
];

for (const line of LINES) {
  for (
    const login of [`${line}:p`, `u:${line}`, `u:p${line}`] as const
  ) {
    Deno.test(`a ticket cannot inject lines into a local memcached: ${login}`, () =>
      withService("127.0.0.1", async (service) => {
        for (const scheme of ["mqtt", "mqtt+ws", "ws"]) {
          const url = `${scheme}://${login}@127.0.0.1:${service.port}`;
          // Even if the user names that server, the login of the ticket is not sent.
          const plain = `${scheme}://127.0.0.1:${service.port}`;
          await using peer = await Peer.open({
            listen: false,
            signaling: [plain],
            servers: [],
            timings: { answerMs: 300, connectMs: 300 },
          });
          await assertRejects(() => peer.connect(ticketFor(url)));
        }
        assertEquals(service.received(), "");
      }));
  }
}

Deno.test("connect refuses a ticket whose login has control characters", () =>
  withService("127.0.0.1", async (service) => {
    const url = `mqtt://u%0d%0aflush_all%0d%0a:p@127.0.0.1:${service.port}`;
    const { code, stderr } = await start(["connect", ticketFor(url)]).end();
    assertEquals([code, service.received()], [2, ""], stderr);
    assert(!stderr.includes("flush_all"), stderr);
  }));

Deno.test("no command accepts a login with control characters, and no message repeats it", async () => {
  for (
    const args of [
      ["listen", "--mqtt", "mqtt://secret%0a:word@127.0.0.1:1"],
      ["listen", "--rendezvous", "ws://secret:word%0d@127.0.0.1:1"],
      ["listen", "--turn", "turn:secret:word%0a@127.0.0.1"],
    ]
  ) {
    const { code, stderr } = await start(args).end();
    assertEquals(code, 2, stderr);
    assertMatch(stderr, /control characters/);
    assert(!/secret|word%/.test(stderr), stderr);
  }
});

/** Spellings of addresses of this host, or of what is none of a stranger's business. */
const HERE: readonly string[] = [
  "127.0.0.1",
  "localhost",
  "127.1",
  "2130706433",
  "0x7f000001",
  "0177.0.0.1",
  "[::1]",
  "[::ffff:127.0.0.1]",
  "0.0.0.0",
];

for (const host of HERE) {
  Deno.test(`a ticket cannot make connect speak to a service of this host: ${host}`, async () => {
    const ip = host.startsWith("[::1") ? "::1" : "127.0.0.1";
    await withService(ip, async (service) => {
      for (const [scheme, option] of [["ws", "--rendezvous"], ["mqtt", "--mqtt"]] as const) {
        const url = `${scheme}://${host}:${service.port}`;
        const { code, stderr } = await start(["connect", ticketFor(url)]).end();
        assertEquals([code, service.connections()], [4, 0], `${url}: ${stderr}`);
        assert(stderr.includes(`${option} ${url}`), stderr);
      }
    });
  });
}

/** Texts in which one parser finds the user's own server, and another one a service of this host. */
const TWO_FACED: readonly string[] = [
  "\\@",
  "\\..\\@",
  "/@",
  "/\\@",
  "?@",
  "#@",
  "%5C@",
  ":x\\@",
  "%2F@",
  ";@",
  "@",
];

for (const between of TWO_FACED) {
  Deno.test(`a ticket cannot hide a service of this host before a trusted server: ${between}`, () =>
    withService("127.0.0.1", (local) =>
      withService("127.0.0.1", async (trusted) => {
        for (const scheme of ["ws", "mqtt", "mqtt+ws"]) {
          const url = `${scheme}://127.0.0.1:${trusted.port}`;
          const hidden = `${scheme}://127.0.0.1:${local.port}${between}127.0.0.1:${trusted.port}`;
          await using peer = await Peer.open({
            listen: false,
            signaling: [url],
            servers: [],
            timings: { answerMs: 300, connectMs: 300 },
          });
          await assertRejects(() => peer.connect(ticketFor(hidden)));
        }
        assertEquals(local.connections(), 0);
      })));
}

Deno.test("a ticket cannot hide a service of this host before a public broker", () =>
  withService("127.0.0.1", async ({ port, connections }) => {
    for (const url of [`ws://127.0.0.1:${port}\\@`, `mqtts://127.0.0.1:${port}\\@`]) {
      const { code, stderr } = await start(["connect", ticketFor(`${url}broker.hivemq.com:8883`)])
        .end();
      assertEquals([code, connections()], [2, 0], stderr);
    }
  }));

Deno.test("a ticket cannot make recv speak to a service of this host, or say so in JSON", () =>
  withScratch((folder) =>
    withService("127.0.0.1", async (service) => {
      const url = `mqtt://127.0.0.1:${service.port}`;
      const { code, stdout } = await start(["recv", ticketFor(url), "--to", folder, "--json"], {
        permissions: [`--allow-read=${folder}`, `--allow-write=${folder}`],
      }).end();
      assertEquals([code, service.connections()], [4, 0]);
      const [event] = stdout.trim().split("\n").map((line) => JSON.parse(line));
      assertEquals([event.event, event.url, event.state], ["signaling", url, "skipped"]);
      assertMatch(event.remedy, /add --mqtt/);
    })
  ));

Deno.test("a URL of a ticket is used if the user names it", () =>
  withService("127.0.0.1", async (service) => {
    const url = `mqtt://127.0.0.1:${service.port}`;
    await start(["connect", ticketFor(url), "--mqtt", url, "--timeout", "500ms"]).end();
    assert(service.connections() > 0);
  }));

Deno.test("an application decides with allowUrl, which gets the addresses and is asked once", () =>
  withService("127.0.0.1", async (service) => {
    const url = `mqtt://2130706433:${service.port}`;
    for (const answer of [false, true]) {
      const asked: unknown[] = [];
      await using peer = await Peer.open({
        listen: false,
        servers: [],
        timings: { answerMs: 300, connectMs: 300 },
        allowUrl: (url, addresses) => {
          asked.push([url, addresses[0]]);
          return answer;
        },
      });
      for (let i = 0; i < 2; i++) await assertRejects(() => peer.connect(ticketFor(url)));
      assertEquals(asked, [[url, "127.0.0.1"]]);
      assertEquals(service.connections() > 0, answer);
    }
  }));

Deno.test("a ticket's login that needs no line feed of its own is not sent either", () =>
  withService("127.0.0.1", async (service) => {
    // The length of a login is sent before it, and 10 is a line feed: SET key value, for a database that reads lines.
    const url = `mqtt://SET%20a%20bcd:1234567890@127.0.0.1:${service.port}`;
    await using peer = await Peer.open({
      listen: false,
      servers: [],
      timings: { answerMs: 300, connectMs: 300 },
      allowUrl: () => true,
    });
    await assertRejects(() => peer.connect(ticketFor(url)), NetworkError, "spaces");
    assertEquals(service.received(), "");
  }));

for (
  const [what, first, second] of [
    ["after it was checked", ["203.0.113.9"], ["192.168.1.9"]],
    ["in one of two answers", ["203.0.113.9", "192.168.1.9"], ["203.0.113.9"]],
  ] as const
) {
  Deno.test(`a name that leads into the private network ${what} is not followed`, () =>
    simulate(async ({ internet }) => {
      const router = internet.router("home", {
        behavior: NAT_BEHAVIORS.portRestricted,
        link: { delayMs: 1 },
      });
      const host = internet.host("victim", { behind: router });
      const dialled: string[] = [];
      let lookups = 0;
      const network: Network = {
        ...host.network,
        resolve: (_name, family) => {
          const ips = family === 6 ? [] : lookups++ === 0 ? first : second;
          return ips.length > 0
            ? Promise.resolve([...ips])
            : Promise.reject(new NetworkError("no address", "name-not-found"));
        },
        connectTcp: (remote) => {
          dialled.push(remote.ip);
          return Promise.reject(new NetworkError("refused", "refused"));
        },
        connectTls: (remote) => {
          dialled.push(remote.ip);
          return Promise.reject(new NetworkError("refused", "refused"));
        },
      };
      for (const url of ["ws://rebound.example:6379", "mqtts://rebound.example:6379"]) {
        lookups = 0;
        await using peer = await Peer.open({
          network,
          listen: false,
          servers: [],
          mapPorts: false,
        });
        await assertRejects(() => peer.connect(ticketFor(url)), NetworkError);
      }
      assert(!dialled.includes("192.168.1.9"), `${dialled}`);
    }));
}
