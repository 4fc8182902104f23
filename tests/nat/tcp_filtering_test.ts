import { assert, assertEquals, assertMatch } from "@std/assert";
import type { UnsolicitedSyn } from "../../lib/nat/behavior.ts";
import { classifyTcpFiltering } from "../../lib/nat/tcp_filtering.ts";
import type { DialResult } from "../../lib/stun/tcp_filter/message.ts";
import type { TcpFilterReport } from "../../lib/stun/tcp_filter/client.ts";

const NAT = { isTranslated: true };

/** SYNs from another port of the server's address, and from its alternate address; the expected verdict. */
const CASES: readonly [UnsolicitedSyn, UnsolicitedSyn, string, UnsolicitedSyn][] = [
  ["accepted", "accepted", "endpoint-independent", "accepted"],
  ["accepted", "dropped", "address-dependent", "dropped"],
  ["accepted", "reset", "address-dependent", "reset"],
  ["dropped", "dropped", "address-and-port-dependent", "dropped"],
  ["reset", "reset", "address-and-port-dependent", "reset"],
  ["unknown", "dropped", "unknown", "dropped"],
  ["dropped", "unknown", "unknown", "unknown"],
];

for (const [same, alternate, behavior, unsolicitedSyn] of CASES) {
  Deno.test(`classifyTcpFiltering() calls ${same} and ${alternate} ${behavior}`, () => {
    const verdict = classifyTcpFiltering([report(same, alternate)], NAT);
    assertEquals(verdict.filtering.behavior, behavior);
    assertEquals(verdict.unsolicitedSyn, unsolicitedSyn);
  });
}

Deno.test("classifyTcpFiltering() reports no filter for an open host without NAT", () => {
  const { filtering } = classifyTcpFiltering([report("accepted", "accepted")], {
    isTranslated: false,
  });
  assertEquals(filtering.behavior, "none");
});

Deno.test("classifyTcpFiltering() lets answers outweigh silence", () => {
  const reports = [report("dropped", "dropped"), report("accepted", "accepted")];
  assertEquals(classifyTcpFiltering(reports, NAT).filtering.behavior, "endpoint-independent");
  assertEquals(
    classifyTcpFiltering([report("dropped", "dropped"), report("reset", "reset")], NAT)
      .unsolicitedSyn,
    "reset",
  );
});

Deno.test("classifyTcpFiltering() is more confident of silence after more SYNs", () => {
  const confidence = (dials: number) =>
    classifyTcpFiltering([report("dropped", "dropped", { dials })], NAT).filtering.confidence;
  assert(confidence(1) < confidence(2));
  assertEquals(confidence(9), 0.999);
});

Deno.test("classifyTcpFiltering() disregards silence on a path with an outage", () => {
  const late = report("dropped", "dropped", { elapsedMs: 1200 });
  assertEquals(classifyTcpFiltering([late], NAT).filtering.behavior, "unknown");
  const inTime = classifyTcpFiltering([late, report("dropped", "dropped")], NAT);
  assertEquals(inTime.filtering.behavior, "address-and-port-dependent");
  assertMatch(inTime.filtering.evidence[0]!, /dropped \(3 sent\)$/);
});

Deno.test("classifyTcpFiltering() reports that the server does not support the test", () => {
  const { filtering, unsolicitedSyn } = classifyTcpFiltering(
    [report("unknown", "unknown", "none")],
    NAT,
  );
  assertEquals([filtering.behavior, unsolicitedSyn], ["unknown", "unknown"]);
  assertMatch(filtering.evidence[0]!, /needs a server that dials back/);
});

/** A report over a path with a round trip of 50 ms, by a server that dialled for 600 ms. */
function report(
  sameAddress: UnsolicitedSyn,
  alternateAddress: UnsolicitedSyn,
  by: { dials?: number; elapsedMs?: number } | "none" = {},
): TcpFilterReport {
  const { dials = 3, elapsedMs = 700 } = by === "none" ? {} : by;
  const dial: DialResult = { outcome: "silent", dials, elapsedMs: 600 };
  return {
    sameAddress,
    alternateAddress,
    local: { ip: "192.168.1.2", port: 5000 },
    mapped: undefined,
    evidence: {
      server: by === "none" ? undefined : { sameAddress: dial, alternateAddress: dial },
      arrived: {
        sameAddress: sameAddress === "accepted",
        alternateAddress: alternateAddress === "accepted",
      },
      listening: true,
      rttMs: 50,
      elapsedMs,
    },
  };
}
