import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { checkServers, serversText } from "../../lib/cli/nat_servers.ts";
import { withBroker } from "../signal/scripted_broker.ts";
import { runMain, serveLocally, serveText } from "./run_main.ts";

Deno.test("nat-test --servers says which servers answer, and why others do not", async () => {
  await using stun = await serveLocally();
  await using wrong = await serveText("not STUN");
  const dead = "127.0.0.1:1";
  const args = [stun.name, wrong.name, dead].flatMap((name) => ["--server", name]);
  const { code, out } = await runMain([
    "nat-test",
    "--servers",
    ...args,
    "--timeout",
    "500ms",
    "--json",
  ]);
  assertEquals(code, 0);
  const { version, servers } = JSON.parse(out.join("\n"));
  assertEquals(version, 1);
  const [alive, odd, gone] = servers;
  assertEquals([alive.server, alive.alive, alive.hasOtherAddress], [stun.name, true, true]);
  assert(alive.udp.rttMs >= 0 && alive.tcp.rttMs >= 0);
  assertEquals([alive.udp.reason, alive.tcp.reason], [null, null]);
  assertEquals([odd.alive, odd.udp.rttMs, odd.tcp.reason], [false, null, "wrong answer"]);
  assertEquals([gone.alive, gone.udp.rttMs, gone.tcp.reason], [false, null, "refused"]);
});

Deno.test("nat-test --servers prints a line for each, and fails if none is alive", async () => {
  await using stun = await serveLocally();
  const { code, out } = await runMain(["nat-test", "--servers", "--server", stun.name]);
  assertEquals(code, 0);
  assertMatch(out[0]!, /^ {2}127\.0\.0\.1:\d+ {2}UDP \d+ ms +TCP \d+ ms {2}two addresses$/);
  assertEquals(out.at(-1), "1 of 1 are alive");
  const none = await runMain([
    "nat-test",
    "--servers",
    "--server",
    "127.0.0.1:1",
    "--timeout",
    "200ms",
  ]);
  assertEquals([none.code, none.out.at(-1)], [3, "0 of 1 are alive"]);
});

Deno.test("a broker is alive if it accepts a connection", () =>
  withBroker(async ({ broker, network, url }) => {
    const { signal } = new AbortController();
    const check = () => checkServers([], [url], { network, timeoutMs: 500, signal });
    const [alive] = await check();
    assertEquals([alive!.kind, alive!.server, alive!.alive], ["broker", url, true]);
    broker.answers = () => [];
    const silent = await check();
    assertEquals(silent.map(({ alive }) => alive), [false]);
    assertEquals(serversText([alive!, ...silent]).at(-1), "1 of 2 are alive");
    assertStringIncludes(serversText(silent)[0]!, "no answer");
  }));

Deno.test("--servers tests no NAT", async () => {
  for (
    const option of [["--transport", "udp"], ["--family", "4"], ["--no-hairpinning"], ["--watch"]]
  ) {
    const { code, err } = await runMain(["nat-test", "--servers", ...option]);
    assertEquals(code, 2);
    assertMatch(err[0]!, /--servers cannot be combined with/);
  }
});
