/**
 * A test that no machine can run, for `deno test programs/unsupported.ts`.
 *
 * @module
 */

import { labTest } from "../lab_test_case.ts";

labTest("this never runs", () => Promise.reject(new Error("it did")), {
  programs: ["no-such-program"],
});
