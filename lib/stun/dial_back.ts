/**
 * The server's half of the TCP filter test: dials a client from a port that the client has not talked to, and
 * tells what comes back. docs/tcp-filter-test.md says why it cannot be aimed at others.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { writeMessage } from "./framing.ts";
import type { DialOutcome, DialResult } from "./tcp_filter/message.ts";
import { delay } from "@std/async/delay";

/** How to dial back. */
export interface DialBackOptions {
  readonly network: Network;
  /** The address to dial from; each dial has a fresh port of the system's choice. */
  readonly fromIp: string;
  /** Without an answer in this time, the outcome is silence. */
  readonly windowMs: number;
  /** What to say on a connection that is accepted, by the address that it comes from. */
  readonly greeting: (origin: TransportAddress) => Uint8Array;
  readonly signal: AbortSignal;
}

/**
 * Dials up to three times, so that a lost SYN or two do not look like a filter, and hangs up as soon as one
 * dial is answered. Never rejects for what the network does; an abort ends it like the end of the window.
 */
export async function dialBack(
  target: TransportAddress,
  options: DialBackOptions,
): Promise<DialResult> {
  const startedMs = performance.now();
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), options.windowMs);
  const signal = AbortSignal.any([over.signal, options.signal]);
  let dials = 0;

  async function attempt(afterMs: number): Promise<DialOutcome> {
    try {
      await delay(afterMs, { signal });
      dials++;
      await dialAndGreet(target, options, signal);
      return "accepted";
    } catch (error) {
      return outcomeOf(error, signal);
    }
  }

  const spacingMs = Math.min(MAX_SPACING_MS, options.windowMs / (DIALS + 1));
  const outcomes = await Promise.all(
    Array.from({ length: DIALS }, async (_, index) => {
      const outcome = await attempt(index * spacingMs);
      if (outcome === "accepted" || outcome === "refused") over.abort();
      return outcome;
    }),
  );
  clearTimeout(timer);
  return {
    outcome: BY_WEIGHT.find((outcome) => outcomes.includes(outcome)) ?? "silent",
    dials,
    elapsedMs: Math.min(0xffff, Math.round(performance.now() - startedMs)),
  };
}

async function dialAndGreet(
  target: TransportAddress,
  { network, fromIp, greeting }: DialBackOptions,
  signal: AbortSignal,
): Promise<void> {
  using connection = await network.connectTcp(target, { local: { ip: fromIp, port: 0 }, signal });
  try {
    await writeMessage(connection, greeting(connection.local));
  } catch (error) {
    // It was accepted; what the client does then is its own affair.
    if (!(error instanceof NetworkError)) throw error;
  }
}

function outcomeOf(error: unknown, signal: AbortSignal): DialOutcome {
  if (signal.aborted && error === signal.reason) return "silent";
  if (!(error instanceof NetworkError)) throw error;
  switch (error.reason) {
    case "refused":
      return "refused";
    case "reset": // a RST behind the SYN-ACK
      return "accepted";
    case "unreachable":
      return "unreachable";
    case "timed-out":
      return "silent";
    default:
      return "not-tested"; // this system's own failure, such as no free port
  }
}

/** One answer outweighs any silence, and silence outweighs a failure of single dials. */
const BY_WEIGHT: readonly DialOutcome[] = [
  "accepted",
  "refused",
  "silent",
  "unreachable",
  "not-tested",
];

/** Ours: with 10 % loss each way all of three are lost once in 150 times; retransmissions come on top. */
export const DIALS = 3;

/** Ours: far enough apart that one burst of losses does not take two. */
const MAX_SPACING_MS = 250;
