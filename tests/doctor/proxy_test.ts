import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { examineNetwork } from "../../lib/doctor/examine.ts";
import type { DoctorReport } from "../../lib/doctor/report_message.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { parseTransportAddress } from "../../lib/net/address.ts";
import { closedPort } from "../cli/run_main.ts";
import { withServers } from "../cli/command.ts";
import { answering, FakeProxy, httpProxy } from "../net/proxy/fake_proxy.ts";

const MEETING = "meet.example.net:3480";

/** Examines a network from which nothing gets out but through this proxy. */
async function behind(serve: Parameters<typeof FakeProxy.start>[0]): Promise<DoctorReport> {
  await using proxy = await FakeProxy.start(serve);
  return await examineNetwork({
    network: systemNetwork,
    servers: [await closedPort()],
    signaling: [`ws://${MEETING}`],
    proxy: { url: `http://me:hunter2@${proxy.host}` },
    isPublic: false,
  });
}

Deno.test("where only a proxy gets out, signaling and relays are examined through it, and peers connect by a relay", async () => {
  await withServers(async ({ url }) => {
    const to = parseTransportAddress(url.replace("ws://", ""));
    const targets = new Set<string>();
    const onTarget = (target: string) => void targets.add(target);
    const report = await behind(httpProxy({ routes: new Map([[MEETING, to]]), onTarget }));
    assertEquals([report.verdict.kind, report.verdict.state], ["proxy", "warn"]);
    assertEquals([...targets], [MEETING]);
    assertEquals(report.profile.relays, [MEETING]);
    assertEquals(report.peers.map(({ expectation }) => expectation), Array(6).fill("relay"));
    assert(!JSON.stringify(report).includes("hunter2"));
  });
});

Deno.test("a proxy that refuses says so in its check, and is the cause", async () => {
  const report = await behind(answering("HTTP/1.1 407 Who are you\r\n\r\n"));
  assertEquals(report.verdict.state, "fail");
  const { state, seen } = report.checks.find(({ name }) => name === "proxy")!;
  assertEquals(state, "fail");
  assertStringIncludes(seen, "it does not accept this login");
  assert(!JSON.stringify(report).includes("hunter2"));
});
