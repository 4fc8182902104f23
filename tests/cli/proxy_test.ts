import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { FakeProxy, httpProxy, readText } from "../net/proxy/fake_proxy.ts";
import { start, withScratch } from "./command.ts";
import { runMain } from "./run_main.ts";

const MEETING = ["--relay-only", "--rendezvous", "ws://meet.example:3480"];

/** Runs the test with a rendezvous that only the proxy finds. */
async function withProxy(
  test: (place: { url: string; targets: string[] }) => Promise<void>,
): Promise<void> {
  await using server = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
  });
  const targets: string[] = [];
  const routes = new Map([["meet.example:3480", server.local]]);
  const onTarget = (target: string) => targets.push(target);
  await using proxy = await FakeProxy.start(httpProxy({ routes, onTarget }));
  await test({ url: `http://${proxy.host}`, targets });
}

Deno.test("--proxy, a file, stdin and the environment name the proxy, and both sides connect", () =>
  withScratch((folder) =>
    withProxy(async ({ url, targets }) => {
      await Deno.writeTextFile(`${folder}/proxy`, `${url.replace("//", "//me:se-cret@")}\n`);
      const env = (name: string, value = url) => ({
        args: [],
        env: { [name]: value },
        permissions: ["--allow-env=HTTPS_PROXY,https_proxy,ALL_PROXY,all_proxy,NO_PROXY,no_proxy"],
      });
      const ways = [
        { args: ["--proxy", url] },
        { args: ["--proxy", `@${folder}/proxy`], permissions: [`--allow-read=${folder}`] },
        { args: ["--proxy", "-"], first: `${url}\n` },
        env("HTTPS_PROXY"),
        env("https_proxy"),
        env("ALL_PROXY"),
        env("all_proxy"),
      ];
      for (
        const { args, first = "", ...options } of ways as (typeof ways[0] & { first?: string })[]
      ) {
        targets.length = 0;
        const listener = start(["listen", ...MEETING, ...args], {
          ...options,
          input: `${first}to the connector`,
        });
        const ticket = await listener.ticket();
        const connector = start(["connect", ticket, ...MEETING, ...args], {
          ...options,
          input: `${first}to the listener`,
        });
        const [a, b] = await Promise.all([listener.end(), connector.end()]);
        assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
        assertEquals([a.stdout, b.stdout], ["to the listener", "to the connector"]);
        assertEquals(new Set(targets), new Set(["meet.example:3480"]));
        assert(!`${a.stderr}${b.stderr}`.includes("se-cret"));
      }
    })
  ));

Deno.test("NO_PROXY=* turns the proxy of the environment off, and nothing else needs its permission", async () => {
  const listen = ["listen", "--rendezvous", "ws://127.0.0.1:1"];
  const wrong = { HTTPS_PROXY: "socks4://127.0.0.1:1" }; // whoever reads it complains
  const permissions = ["--allow-env=HTTPS_PROXY,NO_PROXY"];
  const read = await start(listen, { env: wrong, permissions }).end();
  assertEquals(read.code, 2, read.stderr);
  assertStringIncludes(read.stderr, "HTTPS_PROXY socks4://");
  for (const options of [{ env: { ...wrong, NO_PROXY: "*" }, permissions }, { env: wrong }]) {
    const { code, stderr } = await start(listen, options).end();
    assert(code !== 0 && code !== 2, stderr);
    assertEquals(stderr.includes("socks4"), false, stderr);
  }
});

Deno.test("--proxy is not left out in silence because of NO_PROXY=*", async () => {
  const { code, stderr } = await start(["listen", ...MEETING, "--proxy", "http://127.0.0.1:1"], {
    env: { NO_PROXY: "*" },
    permissions: ["--allow-env=NO_PROXY"],
  }).end();
  assertEquals(code, 2, stderr);
  assertStringIncludes(stderr, "NO_PROXY=*");
});

Deno.test("with --json, a refusal of the proxy is in the events, with the remedy and without the login", async () => {
  await using proxy = await FakeProxy.start(async (connection) => {
    await readText(connection, (text) => text.includes("\r\n\r\n"));
    await connection.write(new TextEncoder().encode("HTTP/1.1 403 No\r\n\r\n"));
  });
  const { code, stderr } = await start(
    ["listen", ...MEETING, "--json", "--proxy", `http://me:se-cret@${proxy.host}`],
  ).end();
  assert(code !== 0);
  const events = stderr.trim().split("\n").map((line) => JSON.parse(line));
  const failed = events.find(({ state }) => state === "failed");
  assertStringIncludes(failed.reason, "the proxy forbids it (403 No)");
  assertStringIncludes(failed.remedy, "port 443");
  assert(!stderr.includes("se-cret"));
});

Deno.test("wrong uses of a proxy are usage errors", async () => {
  const cases: [readonly string[], RegExp][] = [
    [["listen", "--proxy", "socks4://127.0.0.1"], /--proxy socks4:\/\/….*use http:\/\//],
    [["listen", "--proxy", "http://"], /--proxy http:\/\/.*use http:\/\//],
    [
      ["listen", "--lan", ...MEETING, "--proxy", "http://127.0.0.1:1"],
      /--lan cannot be combined with --relay-only and a proxy/,
    ],
  ];
  for (const [args, says] of cases) {
    const { code, err } = await runMain(args);
    assertEquals(code, 2, err.join("\n"));
    assertMatch(err.join("\n"), says);
  }
});
