/**
 * `nat-test --watch`: tests again when this machine's addresses or routers change, and now and then, and prints what has
 * changed since.
 *
 * @module
 */

import { messageOf, PunchlineError } from "../base/errors.ts";
import { WakeableDelay } from "../base/timers.ts";
import type { NatReport } from "../nat/behavior.ts";
import { changesBetween } from "../nat/changes.ts";
import { testNat, type TestNatOptions } from "../nat/report.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";

/** What happens while a network is watched. */
export type WatchEvent =
  | { readonly event: "changed"; readonly report: NatReport; readonly texts: readonly string[] }
  /** The test failed, and did not before. */
  | { readonly event: "failed"; readonly text: string };

/** How to watch. */
export interface WatchNatOptions extends Omit<TestNatOptions, "signal"> {
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Default: the system's. */
  readonly network?: Network;
}

/**
 * Watches until the signal aborts.
 *
 * @param first what was seen before
 * @throws the signal's reason on abort
 */
export async function* watchNat(
  first: NatReport,
  options: WatchNatOptions,
): AsyncGenerator<WatchEvent, never> {
  const { network = systemNetwork, signal } = options;
  let last = first;
  let failure: string | undefined;
  for (let place = await placeOf(network);;) {
    place = await untilElsewhere(network, place, signal);
    try {
      // The same servers and the same router are asked again and again: as little as possible.
      const report = await testNat({ ...options, hairpinning: false });
      const texts = changesBetween(last, report).map(({ text }) => text);
      if (failure !== undefined) texts.unshift("The test works again");
      failure = undefined;
      last = report;
      if (texts.length > 0) yield { event: "changed", report, texts };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof PunchlineError)) throw error;
      const text = messageOf(error);
      if (text !== failure) yield { event: "failed", text };
      failure = text;
    }
  }
}

/** Waits until this machine's addresses or routers are others, or it is time for the next test. */
async function untilElsewhere(
  network: Network,
  place: string,
  signal: AbortSignal,
): Promise<string> {
  const delay = new WakeableDelay();
  const untilMs = performance.now() + TEST_EVERY_MS;
  while (performance.now() < untilMs) {
    await delay.wait(LOOK_EVERY_MS, signal);
    const now = await placeOf(network);
    if (now === place) continue;
    await delay.wait(SETTLE_MS, signal);
    return await placeOf(network);
  }
  return place;
}

/** Where this machine is, as far as its permissions let it see. */
async function placeOf(network: Network): Promise<string> {
  const addresses = await network.localAddresses() ?? [];
  const gateways = await network.defaultGateways() ?? [];
  return [...addresses, ...gateways].map(({ interfaceName, ip }) => `${interfaceName} ${ip}`)
    .sort().join();
}

/** Chosen by us: looking costs no packet. */
const LOOK_EVERY_MS = 1000;

/** Chosen by us: a new network has its addresses and routes a moment after the first of them. */
const SETTLE_MS = 500;

/** Chosen by us: a test has some dozen packets, to servers of others. */
const TEST_EVERY_MS = 30_000;
