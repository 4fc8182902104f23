import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError, type NetworkErrorReason } from "../../lib/errors.ts";

/** Asserts that a call rejects with a {@linkcode NetworkError} of this reason. */
export async function assertNetworkError(
  reason: NetworkErrorReason,
  act: () => Promise<unknown>,
): Promise<void> {
  assertEquals((await assertRejects(act, NetworkError)).reason, reason);
}
