import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { CheckName, DoctorReport } from "../../lib/doctor/report_message.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import { inDoctorScene, NETWORKS } from "./doctor_scene.ts";

function stateOf({ checks }: DoctorReport, name: CheckName): string {
  return checks.find((check) => check.name === name)!.state;
}

Deno.test("a home where all is well is examined without waiting for what answers nothing", async () => {
  await inDoctorScene({ a: NETWORKS.home }, async ({ a, examine }) => {
    const report = await examine(a);
    assertEquals([report.verdict.state, report.verdict.kind], ["ok", null]);
    for (const name of ["ipv4", "udp", "tcp", "mtu", "rendezvous", "relay", "clock"] as const) {
      assertEquals(stateOf(report, name), "ok", name);
    }
    const { profile } = report;
    assertEquals(profile.udp?.mapping, "endpoint-independent");
    assertEquals(profile.udp?.filtering, "address-and-port-dependent");
    assertEquals(profile.relays, ["203.0.113.20:3480"]);
    assertEquals(report.peers.map(({ expectation }) => expectation), Array(6).fill("direct"));
  });
});

Deno.test("the checks for names, large packets, NAT64 and portals cost 200 ms at most where all is well", async () => {
  await inDoctorScene({ a: NETWORKS.firewall }, async ({ a, examine, time }) => {
    const startMs = time.nowMs;
    const { checks } = await examine(a);
    const totalMs = time.nowMs - startMs;
    const needed = ["udp", "tcp", "rendezvous"].map((name) =>
      checks.find((check) => check.name === name)!.elapsedMs
    );
    assert(totalMs <= Math.max(...needed) + 200 + 1, `${totalMs} of ${needed}`);
  });
});

Deno.test("where UDP is blocked, the verdict says so, and peers connect by TCP", async () => {
  await inDoctorScene({ a: NETWORKS.noUdp }, async ({ a, examine }) => {
    const { verdict, profile, peers } = await examine(a);
    assertEquals([verdict.state, verdict.kind], ["warn", "udp-blocked"]);
    assertEquals(profile.udp, null);
    assertEquals(peers.find(({ peer }) => peer === "behind a home router")?.expectation, "direct");
  });
});

Deno.test("where everything is blocked, the examination ends within five seconds and says so", async () => {
  await inDoctorScene({ a: NETWORKS.nothing }, async ({ a, examine, time }) => {
    const startMs = time.nowMs;
    const report = await examine(a);
    assert(time.nowMs - startMs <= 5000);
    assertEquals([report.verdict.state, report.verdict.kind], ["fail", "blocked"]);
    assertEquals(report.peers.map(({ expectation }) => expectation), Array(6).fill("none"));
  });
});

Deno.test("a rendezvous that is not there is the cause, if STUN servers answer", async () => {
  await inDoctorScene({ a: NETWORKS.home }, async ({ a, examine }) => {
    const { verdict, checks } = await examine(a, { signaling: ["ws://203.0.113.20:9"] });
    assertEquals([verdict.state, verdict.kind], ["fail", "rendezvous"]);
    assertStringIncludes(checks.find(({ name }) => name === "rendezvous")!.seen, "refused");
  });
});

Deno.test("names that do not resolve are the cause, if all servers have names", async () => {
  await inDoctorScene({ a: NETWORKS.home }, async ({ a, examine }) => {
    const { verdict } = await examine(a, {
      servers: ["stun.example.net"],
      signaling: ["ws://meet.example.net:3480"],
    });
    assertEquals([verdict.state, verdict.kind], ["fail", "dns"]);
  });
});

Deno.test("a path that swallows long datagrams and says nothing is told, with both sizes tried", async () => {
  await inDoctorScene({ a: NETWORKS.home }, async ({ a, examine }) => {
    const network = networkWith(a.network, {
      bindUdp: async (local, options) => {
        const socket = await a.network.bindUdp(local, options);
        const send = socket.send.bind(socket);
        socket.send = async (data, to) => data.length > 1300 ? undefined : await send(data, to);
        return socket;
      },
    });
    const { verdict, findings } = await examine(a, { network });
    assertEquals([verdict.state, verdict.kind], ["warn", "mtu"]);
    assertStringIncludes(findings[0]!.summary, "swallows packets of 1400 bytes");
  });
});

Deno.test("only --public asks other hosts than those that are named", async () => {
  for (const isPublic of [false, true]) {
    await inDoctorScene({ a: NETWORKS.home }, async ({ a, examine }) => {
      const asked = new Set<string>();
      const network = networkWith(a.network, {
        resolve: (name, family, options) => {
          asked.add(name);
          return a.network.resolve(name, family, options);
        },
      });
      const { checks } = await examine(a, { network, isPublic });
      const others = [...asked].filter((name) => /[a-z]/.test(name) && name !== "ipv4only.arpa");
      assertEquals(others.length, isPublic ? 3 : 0, others.join());
      assertEquals(checks.some(({ name }) => name === "public"), isPublic);
    });
  }
});

Deno.test("an examination can be aborted, and a missing permission is an error", async () => {
  await inDoctorScene({ a: NETWORKS.nothing }, async ({ a, examine }) => {
    const controller = new AbortController();
    const aborted = examine(a, { signal: controller.signal });
    setTimeout(() => controller.abort(new Error("enough")), 100);
    await assertRejects(() => aborted, Error, "enough");
    const denied = () =>
      Promise.reject(new NetworkError("Cannot bind: --allow-net is missing", "not-permitted"));
    const network = networkWith(a.network, { bindUdp: denied, connectTcp: denied });
    await assertRejects(() => examine(a, { network }), NetworkError, "--allow-net");
  });
});
