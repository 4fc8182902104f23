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

Deno.test("the settings name a proxy: by URL, or by the file with its URL, after the environment", () =>
  withScratch((folder) =>
    withProxy(async ({ url, targets }) => {
      const secret = url.replace("//", "//me:se-cret@");
      const settings = async (proxy: string) => {
        await Deno.mkdir(`${folder}/punchline`, { recursive: true });
        await Deno.writeTextFile(`${folder}/punchline/config.json`, JSON.stringify({ proxy }));
      };
      await Deno.writeTextFile(`${folder}/proxy`, `${secret}\n`);
      const options = (env: Record<string, string> = {}) => ({
        env: { XDG_CONFIG_HOME: folder, APPDATA: folder, ...env },
        permissions: [
          "--allow-env=XDG_CONFIG_HOME,APPDATA,HTTPS_PROXY,NO_PROXY",
          `--allow-read=${folder}`,
        ],
      });
      for (const proxy of [secret, `@${folder}/proxy`]) {
        await settings(proxy);
        targets.length = 0;
        const listener = start(["listen", ...MEETING], { ...options(), input: "to the connector" });
        const ticket = await listener.ticket();
        const connecting = ["connect", ticket, ...MEETING, "--json"];
        const connector = start(connecting, { ...options(), input: "to the listener" });
        const [a, b] = await Promise.all([listener.end(), connector.end()]);
        assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
        assertEquals(b.stdout, "to the connector");
        assertEquals(new Set(targets), new Set(["meet.example:3480"]));
        assert(!`${a.stderr}${b.stderr}`.includes("se-cret"));
      }

      // What is wrong with it is told without the login.
      const listen = ["listen", "--rendezvous", "ws://127.0.0.1:1"];
      const failed = async (env: Record<string, string> = {}) =>
        await start(listen, options(env)).end();
      await settings("socks4://me:se-cret@127.0.0.1:1");
      const wrong = await failed();
      assertEquals(wrong.code, 2, wrong.stderr);
      assertStringIncludes(wrong.stderr, "the proxy of the settings, socks4:");
      await settings(`@${folder}/missing`);
      const missing = await failed();
      assertEquals(missing.code, 2, missing.stderr);
      assertStringIncludes(missing.stderr, "the proxy of the settings, @");
      // The environment comes first, and may turn it off.
      const first = await failed({ HTTPS_PROXY: "socks4://127.0.0.1:2" });
      assertStringIncludes(first.stderr, "HTTPS_PROXY socks4:");
      const off = await failed({ NO_PROXY: "*" });
      assert(off.code !== 0 && off.code !== 2, off.stderr);
      assert(![wrong, missing, first, off].some(({ stderr }) => stderr.includes("se-cret")));
    })
  ));

Deno.test("no report of doctor shows the login of a proxy from the settings", () =>
  withScratch(async (folder) => {
    await Deno.mkdir(`${folder}/punchline`);
    const proxy = "http://me:se-cret@127.0.0.1:9";
    await Deno.writeTextFile(`${folder}/punchline/config.json`, JSON.stringify({ proxy }));
    const page = `${folder}/page.html`;
    const args = ["doctor", "--json", "--full", "--html", page, "--server", "127.0.0.1:1"];
    const { stdout, stderr } = await start(
      [...args, "--rendezvous", "ws://127.0.0.1:1", "--timeout", "2s"],
      {
        env: { XDG_CONFIG_HOME: folder, APPDATA: folder },
        permissions: [
          ...["--allow-env=XDG_CONFIG_HOME,APPDATA", `--allow-read=${folder}`],
          `--allow-write=${folder}`,
        ],
      },
    ).end();
    assertStringIncludes(stdout, "127.0.0.1:9"); // the proxy was used
    const html = await Deno.readTextFile(page);
    assertEquals([stdout, stderr, html].some((text) => text.includes("se-cret")), false);
  }));

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
