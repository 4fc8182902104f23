/**
 * NAT tests behind NATs of every kind, with real servers: a short version of the suites of verdicts/suites.ts.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { labTest } from "./lab_test_case.ts";
import { ADVERSE_NATS, runAdverse } from "../../lab/scenarios/verdicts/adverse.ts";
import { combinations, judge } from "../../lab/scenarios/verdicts/combinations.ts";
import { runMatrix } from "../../lab/scenarios/verdicts/matrix.ts";

for (const alternateKnown of [false, true]) {
  const name = alternateKnown ? "known from the start" : "learned on the way";
  labTest(
    `every verdict is right, by all three servers, the alternate address ${name}`,
    async () => {
      const cells = await runMatrix({
        combinations: combinations([{ kind: "random" }]),
        servers: ["punchline", "coturn", "vovida"],
        runs: 1,
        internet: { rttMs: 50 },
        alternateKnown,
      });
      const notRight = cells.filter(({ notes }) => notes.length > 0);
      assertEquals(notRight.map(({ nat, server, notes }) => [nat, server, notes]), []);
    },
    { programs: ["turnserver", "stund"] },
  );
}

labTest("no verdict is wrong if packets are lost, late and out of order", async () => {
  const cells = await runMatrix({
    combinations: combinations([{ kind: "sequential", delta: 1 }]),
    servers: ["punchline"],
    runs: 2,
    internet: { rttMs: 50, jitterMs: 10, loss: 0.05 },
    alternateKnown: false,
  });
  const wrong = cells.filter(({ counts }) =>
    Object.values(counts).some((count) => count.wrong > 0)
  );
  assertEquals(wrong.map(({ nat, notes }) => [nat, notes]), []);
});

labTest("no verdict is wrong with bad servers, outages and long round trips", async () => {
  const results = await runAdverse(() => {}, [ADVERSE_NATS[1]!]);
  const wrong = results.filter(({ judgement }) => judgement === "wrong");
  assertEquals(wrong, []);
  const honest = results.filter(({ condition }) => !condition.startsWith("server "));
  assertEquals(honest.filter(({ judgement }) => judgement !== "right"), []);
});

Deno.test("judge() distinguishes right, wrong and unknown verdicts", () => {
  const [combination] = combinations([{ kind: "sequential", delta: 2 }]);
  const verdict = (behavior: "endpoint-independent" | "address-dependent" | "unknown") => ({
    behavior,
    confidence: 1,
    evidence: [],
  });
  assertEquals(
    judge(combination!, {
      mapping: verdict("endpoint-independent"),
      filtering: verdict("address-dependent"),
      allocation: { kind: "sequential", delta: 1, range: null },
    }),
    { mapping: "right", filtering: "wrong", allocation: "wrong" },
  );
});
