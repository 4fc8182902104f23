/**
 * Peers between real kernels; the lab runs of peers/suite.ts in small.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { labTest } from "./lab_test_case.ts";
import { OUTAGES, runOutage } from "../../lab/scenarios/peers/outages.ts";
import { runTransfer } from "../../lab/scenarios/peers/transfer.ts";

const NEEDS = { programs: ["ip", "mosquitto", "turnserver"] };

labTest("a file arrives whole though both NATs forget everything on its way", async () => {
  const { isWhole, newPaths } = await runTransfer({ megabytes: 64, cuts: 1 });
  assertEquals({ isWhole, newPaths }, { isWhole: true, newPaths: 1 });
}, NEEDS);

labTest(
  "a side that is killed is missed at once, and told apart when it is started again",
  async () => {
    const result = await runOutage(OUTAGES.listenerKilled);
    assert(result.passed, JSON.stringify(result));
  },
  NEEDS,
);

labTest("a connection goes on after NATs forgot it, and from another address", async () => {
  const results = await Promise.all([OUTAGES.bothForget, OUTAGES.addressChanged].map(runOutage));
  for (const result of results) assert(result.passed, JSON.stringify(result));
}, NEEDS);
