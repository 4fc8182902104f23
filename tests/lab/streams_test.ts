/**
 * Streams over UDP paths between real kernels, briefly; `deno task lab streams` measures the figures.
 *
 * @module
 */

import { assert } from "@std/assert";
import { measureRate, measureShare } from "../../lab/scenarios/streams/suite.ts";
import { labTest } from "./lab_test_case.ts";

labTest(
  "a stream over UDP gets through a path with 1 % loss at more than CUBIC's rate",
  async () => {
    const rate = await measureRate({ rttMs: 54, loss: 0.01, forMs: 4000 });
    assert(rate > 0.5, `${rate} MB/s`); // CUBIC: 0.3; the exact figure needs a quiet machine
  },
);

labTest("a stream over UDP and the kernel's CUBIC share a line", async () => {
  const { udp, cubic, share } = await measureShare({ bufferBdp: 1, forMs: 12_000 });
  assert(udp + cubic > 1.5, `${udp} and ${cubic} MB/s of 2.5`);
  assert(share > 0.1 && share < 0.9, `${share}`);
});
