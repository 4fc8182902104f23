/**
 * The client of the crossing test (docs/tcp-filter-test.md): does a SYN from outside get in while one of this host's is on
 * its way to the same address and port? A NAT must let it in (RFC 5382 REQ-2); some drop it, and a simultaneous open
 * through two of those fails.
 *
 * The client dials a port of the server, and the server dials the client from that port at the same time, but ends its
 * dial before the client's SYN arrives. So the server answers that SYN with a RST. If its own SYN had not got in, the RST
 * ends the client's dial: `refused`, as soon as a closed port that is dialled beside it. If it had got in, the client's
 * system has answered it by then, ignores that RST (RFC 5961 §3), and only another one, for its answer, ends the dial:
 * `reset`, half a round trip later.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { Deadline } from "../../base/timers.ts";
import { ipFamily, type TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { BINDING, encodeMessage } from "../message.ts";
import { REQUEST_LENGTH, requestTest, RESULT_TIMEOUT_MS } from "./client.ts";
import {
  CROSSING_SPACING_MS,
  encodeTcpCrossingRequest,
  getTcpCrossingPorts,
  type TcpCrossingPorts,
  type UnsolicitedSyn,
} from "./message.ts";
import { delay } from "@std/async/delay";

/** The result of a crossing test. */
export interface TcpCrossingReport {
  /**
   * What becomes of a SYN that crosses one of this host's. `"dropped"` stands for a RST as well: no end of a dial can tell
   * them apart.
   */
  readonly crossingSyn: UnsolicitedSyn;
  /** What each dial showed. */
  readonly trials: readonly ("let in" | "kept out" | "unanswered" | "unclear")[];
}

/**
 * Runs the test. It shows something only behind a NAT whose mappings do not depend on the destination, and over a path
 * with a round trip of some milliseconds.
 *
 * @throws {NetworkError} if the server cannot be reached over TCP
 * @throws {NoResponseError} if it does not respond
 * @throws {RefusedError} if it responds with an error
 * @throws {MalformedMessageError} if what it sends is not STUN
 */
export async function testTcpCrossing(
  network: Network,
  server: TransportAddress,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<TcpCrossingReport> {
  const local = { ip: ipFamily(server.ip) === 4 ? "0.0.0.0" : "::", port: 0 };
  const startedMs = performance.now();
  using connection = await network.connectTcp(server, { local, signal });
  const rttMs = performance.now() - startedMs;
  if (rttMs < MIN_RTT_MS || rttMs > MAX_RTT_MS) return report([]);
  const delayMs = Math.round(ONE_WAY_SHARE * rttMs + SLACK_MS);
  const transactionId = crypto.getRandomValues(new Uint8Array(12));
  const request = encodeMessage({
    class: "request",
    method: BINDING,
    transactionId,
    attributes: [
      encodeTcpCrossingRequest(
        { delayMs, holdMs: Math.max(MIN_HOLD_MS, Math.round(rttMs / 4)) },
        REQUEST_LENGTH - 24,
      ),
    ],
  });
  const deadline = AbortSignal.timeout(RESULT_TIMEOUT_MS);
  const response = await requestTest(connection, request, {
    transactionId,
    signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
    deadline,
  });
  const ports = getTcpCrossingPorts(response) ?? [];
  // The server has sent its response half a round trip ago, and dials a little later than this host.
  return await cross(network, {
    server,
    local: connection.local,
    ports,
    afterMs: Math.max(0, delayMs - ONE_WAY_SHARE * rttMs),
    timeoutMs: 3 * rttMs + TIMEOUT_MS,
    signal,
  });
}

interface CrossOptions {
  readonly server: TransportAddress;
  readonly local: TransportAddress;
  readonly ports: TcpCrossingPorts;
  readonly afterMs: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

async function cross(
  network: Network,
  { server, local, ports, afterMs, timeoutMs, signal }: CrossOptions,
): Promise<TcpCrossingReport> {
  const dial = async (port: number): Promise<DialEnd> => {
    using deadline = new Deadline(timeoutMs, signal);
    const startedMs = performance.now();
    try {
      const options = { local, signal: deadline.signal };
      const connection = await network.connectTcp({ ip: server.ip, port }, options);
      connection.reset();
      return { reason: "connected", elapsedMs: performance.now() - startedMs };
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof NetworkError) && error !== deadline.signal.reason) throw error;
      const reason = error instanceof NetworkError ? error.reason : "silent";
      return { reason, elapsedMs: performance.now() - startedMs };
    }
  };
  const trials = ports.map(async (pair, index) => {
    await delay(afterMs + index * CROSSING_SPACING_MS, { signal });
    const [crossing, closed] = await Promise.all([dial(pair.dial), dial(pair.closed)]);
    return trialOf(crossing, closed);
  });
  return report(await Promise.all(trials));
}

/** How a dial ended, and when. */
export interface DialEnd {
  readonly reason: string;
  readonly elapsedMs: number;
}

/** What one dial shows, beside the dial of a closed port at the same time. */
export function trialOf(crossing: DialEnd, closed: DialEnd): TcpCrossingReport["trials"][number] {
  if (crossing.reason === "reset") return "let in";
  if (closed.reason !== "refused") return "unclear";
  // Some NATs forget the session with the first RST, and the one that would end the dial does not get in.
  if (crossing.reason === "silent") return "unanswered";
  if (crossing.reason !== "refused") return "unclear";
  const ratio = crossing.elapsedMs / closed.elapsedMs;
  if (ratio > LATER) return "let in"; // a system that calls every end of a dial a refusal
  return ratio < AT_ONCE ? "kept out" : "unclear";
}

/** One SYN that got in is proof; otherwise all must agree, for packets are lost. */
function report(trials: TcpCrossingReport["trials"]): TcpCrossingReport {
  const agree = (what: string) => trials.length > 1 && trials.every((trial) => trial === what);
  if (trials.includes("let in") || agree("unanswered")) return { crossingSyn: "accepted", trials };
  return { crossingSyn: agree("kept out") ? "dropped" : "unknown", trials };
}

/** Chosen by us: below that, timers are too coarse for SYNs to cross; above it, the server does not wait. */
const MIN_RTT_MS = 12;
const MAX_RTT_MS = 500;

/** The server dials a tenth of a round trip after this host: its SYN is still on its way, and arrives that much later. */
const ONE_WAY_SHARE = 0.6;

/** Chosen by us: time for this host to receive the response and dial. */
const SLACK_MS = 30;

/** Chosen by us: systems dial in the next turn of their event loop. */
const MIN_HOLD_MS = 4;

/** How much later than a closed port's the end of a dial comes that was let in: half a round trip in theory. */
const LATER = 1.4;
const AT_ONCE = 1.25;

/** Chosen by us: a busy system. */
const TIMEOUT_MS = 200;
