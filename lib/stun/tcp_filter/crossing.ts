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

import { equalBytes } from "../../base/bytes.ts";
import { NetworkError, NoResponseError, RefusedError } from "../../base/errors.ts";
import { writeAll } from "../../base/reader.ts";
import { TaskGroup } from "../../base/tasks.ts";
import { Deadline } from "../../base/timers.ts";
import { formatTransportAddress, ipFamily, type TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { readMessages } from "../framing.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  type StunMessage,
} from "../message.ts";
import { REQUEST_LENGTH, RESULT_TIMEOUT_MS } from "./client.ts";
import {
  CROSSING_SPACING_MS,
  encodeTcpCrossingRequest,
  getTcpCrossingPorts,
  getTcpCrossingTimes,
  type TcpCrossingPorts,
  type TcpCrossingTime,
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
  let report = await runTest(network, server, signal);
  // Timers were late, or packets were lost.
  if (report.crossingSyn === "unknown" && report.trials.length > 0) {
    report = await runTest(network, server, signal);
  }
  return report;
}

async function runTest(
  network: Network,
  server: TransportAddress,
  signal: AbortSignal | undefined,
): Promise<TcpCrossingReport> {
  const local = { ip: ipFamily(server.ip) === 4 ? "0.0.0.0" : "::", port: 0 };
  const startedMs = performance.now();
  using connection = await network.connectTcp(server, { local, signal });
  const requestedMs = performance.now();
  const handshakeMs = requestedMs - startedMs;
  if (handshakeMs < MIN_RTT_MS || handshakeMs > MAX_RTT_MS) return report([]);
  const delayMs = Math.round(ONE_WAY_SHARE * handshakeMs + SLACK_MS);
  const holdMs = Math.max(MIN_HOLD_MS, Math.round(handshakeMs / 5));
  using deadline = new Deadline(RESULT_TIMEOUT_MS, signal);
  const onAbort = () => connection.reset();
  deadline.signal.addEventListener("abort", onAbort, { once: true });
  try {
    const transactionId = crypto.getRandomValues(new Uint8Array(12));
    const attributes = [encodeTcpCrossingRequest({ delayMs, holdMs }, REQUEST_LENGTH - 24)];
    await writeAll(
      connection,
      encodeMessage({ class: "request", method: BINDING, transactionId, attributes }),
    );
    const messages = readMessages(connection)[Symbol.asyncIterator]();
    const ports = getTcpCrossingPorts(await nextMessage(messages, transactionId, server)) ?? [];
    const respondedMs = performance.now();
    if (ports.length === 0) return report([]);
    const rttMs = Math.min(handshakeMs, respondedMs - requestedMs);
    const dials = await cross(network, {
      server,
      local: connection.local,
      ports,
      // The server has sent its response half a round trip ago, and dials a little later than this host.
      dueMs: respondedMs + Math.max(0, delayMs - ONE_WAY_SHARE * rttMs),
      timeoutMs: 3 * rttMs + TIMEOUT_MS,
      signal,
    });
    if (dials === "let in") return report([dials]);
    const times = getTcpCrossingTimes(await nextMessage(messages, transactionId, server)) ?? [];
    return report(dials.map((dial, index) => {
      const time = times[index];
      return time && didCross(dial, time, respondedMs)
        ? trialOf(dial.crossing, dial.closed)
        : "unclear";
    }));
  } catch (error) {
    signal?.throwIfAborted();
    if (!deadline.signal.aborted) throw error;
    throw new NoResponseError(
      `Cannot test crossing SYNs with ${formatTransportAddress(server)}: no response`,
      { cause: error },
    );
  } finally {
    deadline.signal.removeEventListener("abort", onAbort);
  }
}

async function nextMessage(
  messages: AsyncIterator<Uint8Array>,
  transactionId: Uint8Array,
  server: TransportAddress,
): Promise<StunMessage> {
  const cannot = `Cannot test crossing SYNs with ${formatTransportAddress(server)}`;
  for (;;) {
    const { value, done } = await messages.next();
    if (done) throw new NoResponseError(`${cannot}: it closed the connection`);
    const message = decodeMessage(value);
    if (!equalBytes(message.transactionId, transactionId)) continue;
    if (message.class === "success" || message.class === "indication") return message;
    const { code, reason } = getAttribute(message, "ERROR-CODE") ?? { code: 0, reason: "" };
    throw new RefusedError(`${cannot}: it answered ${code} ${reason}`.trimEnd(), code, {
      remedy: "Wait a minute, or use another server",
    });
  }
}

/** A dial that should cross one of the server's, and one of a closed port beside it. */
interface Dials {
  /** By `performance.now()`. */
  readonly startedMs: number;
  readonly crossing: DialEnd;
  readonly closed: DialEnd;
}

interface CrossOptions {
  readonly server: TransportAddress;
  readonly local: TransportAddress;
  readonly ports: TcpCrossingPorts;
  /** By `performance.now()`. */
  readonly dueMs: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Dials as the server does. The first proof ends all dials. */
async function cross(
  network: Network,
  { server, local, ports, dueMs, timeoutMs, signal }: CrossOptions,
): Promise<Dials[] | "let in"> {
  await using proved = new TaskGroup(() => {}); // only for its signal
  const either = signal === undefined ? proved.signal : AbortSignal.any([signal, proved.signal]);
  const dial = async (port: number): Promise<DialEnd> => {
    using deadline = new Deadline(timeoutMs, either);
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
  const dials = ports.map(async (pair, index): Promise<Dials> => {
    await delay(dueMs + index * CROSSING_SPACING_MS - performance.now(), { signal: either });
    const startedMs = performance.now();
    const dialAcross = async () => {
      const end = await dial(pair.dial);
      if (end.reason === "reset") void proved.stop();
      return end;
    };
    const [crossing, closed] = await Promise.all([dialAcross(), dial(pair.closed)]);
    return { startedMs, crossing, closed };
  });
  const results = await Promise.allSettled(dials);
  signal?.throwIfAborted();
  if (proved.signal.aborted) return "let in";
  return results.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

/**
 * Whether the server's SYN left after this host's, seen from this host's NAT, and its dial ended before this host's SYN
 * arrived. The server counts from its response, which was on its way for half a round trip, as every SYN was; the closed
 * port shows how long a round trip is.
 */
function didCross(
  { startedMs, closed }: Dials,
  server: TcpCrossingTime,
  respondedMs: number,
): boolean {
  const dialledMs = startedMs - respondedMs;
  return dialledMs + MARGIN_MS < server.startedMs &&
    server.endedMs + MARGIN_MS < dialledMs + closed.elapsedMs;
}

/** How a dial ended, and when. */
export interface DialEnd {
  readonly reason: string;
  readonly elapsedMs: number;
}

/** What one dial shows, beside the dial of a closed port at the same time. */
function trialOf(crossing: DialEnd, closed: DialEnd): TcpCrossingReport["trials"][number] {
  if (crossing.reason === "reset") return "let in";
  if (closed.reason !== "refused") return "unclear";
  // Some NATs forget the session with the first RST, and the one that would end the dial does not get in.
  if (crossing.reason === "silent") return "unanswered";
  if (crossing.reason !== "refused") return "unclear";
  const ratio = crossing.elapsedMs / closed.elapsedMs;
  if (ratio > LATER) return "let in"; // a system that calls every end of a dial a refusal
  return ratio < AT_ONCE ? "kept out" : "unclear";
}

/** One SYN that got in is proof; otherwise two must agree and none disagree, for packets are lost. */
function report(trials: TcpCrossingReport["trials"]): TcpCrossingReport {
  const clear = trials.filter((trial) => trial !== "unclear");
  const agree = (what: string) => clear.length > 1 && clear.every((trial) => trial === what);
  if (trials.includes("let in") || agree("unanswered")) return { crossingSyn: "accepted", trials };
  return { crossingSyn: agree("kept out") ? "dropped" : "unknown", trials };
}

/** Chosen by us: below that, timers are too coarse for SYNs to cross; above it, the server does not wait. */
const MIN_RTT_MS = 12;
const MAX_RTT_MS = 500;

/** The server dials a tenth of a round trip after this host: its SYN is still on its way, and arrives that much later. */
const ONE_WAY_SHARE = 0.6;

/** Chosen by us: systems dial in the next turn of their event loop, and close sockets as late. */
const MARGIN_MS = 1;

/** Chosen by us: time for this host to receive the response and dial. */
const SLACK_MS = 20;

/** Chosen by us: systems dial in the next turn of their event loop. */
const MIN_HOLD_MS = 4;

/** How much later than a closed port's the end of a dial comes that was let in: half a round trip in theory. */
const LATER = 1.4;
const AT_ONCE = 1.25;

/** Chosen by us: a busy system. */
const TIMEOUT_MS = 200;
