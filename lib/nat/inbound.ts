/**
 * Learns what SYNs from outside get at this network: a server of this library's dials back. A punch loads this file
 * only where there is a server to ask.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { Behavior, UnsolicitedSyn } from "./behavior.ts";
import { classifyTcpFiltering } from "./tcp_filtering.ts";
import type { TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { testTcpCrossing } from "../stun/tcp_filter/crossing.ts";
import { type TcpFilterReport, testTcpFilter } from "../stun/tcp_filter/client.ts";

/** What SYNs from outside get. */
export interface InboundBehavior {
  /** Which of them are let in. */
  readonly filtering: Behavior;
  /** What happens to those that are not. */
  readonly unsolicitedSyn: UnsolicitedSyn;
  /** What happens to those that cross one of this host's. */
  readonly crossingSyn: UnsolicitedSyn;
}

/**
 * Asks one server after the other until one dials back.
 *
 * @returns `undefined` if none does, which a later try may change only if a server did not answer
 */
export async function learnInbound(
  network: Network,
  servers: readonly TransportAddress[],
  signal: AbortSignal,
): Promise<InboundBehavior | undefined> {
  for (const server of servers.slice(0, MAX_SERVERS)) {
    using deadline = new Deadline(SERVER_TIMEOUT_MS, signal);
    const [report, crossing] = await Promise.all([
      ask(
        deadline,
        signal,
        () => testTcpFilter(network, server, { patience: "short", signal: deadline.signal }),
      ),
      ask(deadline, signal, () => testTcpCrossing(network, server, { signal: deadline.signal })),
    ]);
    if (report?.evidence.server === undefined) continue;
    return { ...inboundOf(report), crossingSyn: crossing?.crossingSyn ?? "unknown" };
  }
  return undefined;
}

/** The verdict on one report. What is not known for certain is what a plan may count on. */
function inboundOf(report: TcpFilterReport): Omit<InboundBehavior, "crossingSyn"> {
  const isTranslated = report.mapped?.ip !== report.local.ip;
  const { filtering, unsolicitedSyn } = classifyTcpFiltering([report], { isTranslated });
  if (filtering.behavior !== "unknown") return { filtering: filtering.behavior, unsolicitedSyn };
  // A server with one address: whoever is let in from another port of it may be let in from anywhere.
  const isLetIn = report.sameAddress === "accepted";
  return { filtering: isLetIn ? "address-dependent" : "unknown", unsolicitedSyn };
}

async function ask<T>(
  deadline: Deadline,
  signal: AbortSignal,
  test: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await test();
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof PunchlineError || error === deadline.signal.reason) return undefined;
    throw error;
  }
}

/** Chosen by us: with more, none of them would be this library's. */
const MAX_SERVERS = 3;

/** Chosen by us: a handshake, the server's dials, and its report, over slow links. */
const SERVER_TIMEOUT_MS = 2500;
