/**
 * Whether signaling servers answer, and whether the relay of a rendezvous carries long messages as well as short ones.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import {
  MalformedMessageError,
  messageOf,
  NetworkError,
  PunchlineError,
  RefusedError,
  remedyOf,
} from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { runAll } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { openSignaling } from "../signal/open.ts";
import { RELAY_TOKEN_BYTES } from "../signal/rendezvous/message.ts";
import { openRelayConnection } from "../signal/rendezvous/relay_connection.ts";
import { TOPIC_BYTES } from "../signal/transport.ts";
import type { JobFault, ServerFacts } from "./facts.ts";
import { serverName } from "./redaction.ts";

/**
 * Opens a signaling server by its URL, and uses it once; a rendezvous also as a relay.
 *
 * @param network through the proxy, if there is one
 * @param withNames puts names into messages, in place of the addresses that a proxy made up
 * @throws the signal's reason on abort
 */
export async function probeServer(
  network: Network,
  url: string,
  signal: AbortSignal,
  withNames: (text: string) => string = (text) => text,
): Promise<ServerFacts> {
  const name = serverName(url);
  const isRendezvous = /^wss?:/.test(url);
  const [signaling, relay] = await Promise.all([
    probeSignaling(network, url, signal).then((facts) => ({
      ...facts,
      fault: facts.fault && { ...facts.fault, message: withNames(facts.fault.message) },
    })),
    isRendezvous ? probeRelay(network, url, signal) : UNTRIED,
  ]);
  // Why the server cannot be reached is told once.
  return signaling.isOpen ? { name, ...signaling, ...relay } : { name, ...signaling, ...UNTRIED };
}

/** Why something failed, for a report; other errors than those of the network are thrown. */
export function faultOf(error: unknown): JobFault {
  if (!(error instanceof PunchlineError || error instanceof TypeError)) throw error;
  const isWrongAnswer = error instanceof MalformedMessageError ||
    error instanceof RefusedError && error.code < RELAY_CODES ||
    error instanceof NetworkError && error.reason === "tls";
  return { message: messageOf(error), remedy: remedyOf(error) ?? null, isWrongAnswer };
}

async function probeSignaling(
  network: Network,
  url: string,
  signal: AbortSignal,
): Promise<Pick<ServerFacts, "isOpen" | "fault" | "rttMs">> {
  using deadline = new Deadline(OPEN_MS, signal);
  try {
    await using connection = await openSignaling(url, { network, signal: deadline.signal });
    const topic = toBase64url(crypto.getRandomValues(new Uint8Array(TOPIC_BYTES)));
    const startMs = performance.now();
    await using _used = await connection.subscribe(topic, () => {}, { signal: deadline.signal });
    return { isOpen: true, fault: null, rttMs: performance.now() - startMs };
  } catch (error) {
    signal.throwIfAborted();
    const fault = deadline.signal.aborted ? NO_ANSWER : faultOf(error);
    return { isOpen: false, fault, rttMs: null };
  }
}

type RelayFacts = Pick<ServerFacts, "relay" | "relayFault">;

/** Joins two connections at the relay, and sends from one to the other and back. */
async function probeRelay(
  network: Network,
  url: string,
  signal: AbortSignal,
): Promise<RelayFacts> {
  using deadline = new Deadline(OPEN_MS, signal);
  const token = crypto.getRandomValues(new Uint8Array(RELAY_TOKEN_BYTES));
  let hasPassedShort = false;
  try {
    const open = () => openRelayConnection(url, { network, token, signal: deadline.signal });
    const ends = await Promise.allSettled([open(), open()]);
    using opened = new DisposableStack();
    for (const end of ends) if (end.status === "fulfilled") opened.use(end.value);
    const [a, b] = ends.map((end) => {
      if (end.status === "rejected") throw end.reason;
      return end.value;
    }) as [TcpConnection, TcpConnection];
    const reset = () => opened.dispose();
    deadline.signal.addEventListener("abort", reset, { once: true });
    try {
      await pass(a, b, SHORT_BYTES);
      await pass(b, a, SHORT_BYTES);
      hasPassedShort = true;
      using stall = new Deadline(STALL_MS, deadline.signal);
      stall.signal.addEventListener("abort", reset, { once: true });
      await runAll([() => pass(a, b, LONG_BYTES), () => pass(b, a, LONG_BYTES)]);
      stall.signal.removeEventListener("abort", reset);
    } finally {
      deadline.signal.removeEventListener("abort", reset);
    }
    return { relay: "works", relayFault: null };
  } catch (error) {
    signal.throwIfAborted();
    if (hasPassedShort) return { relay: "stalls", relayFault: null };
    if (error instanceof RefusedError && error.code === NOT_FOUND) {
      return { relay: "none", relayFault: faultOf(error) };
    }
    return { relay: "failed", relayFault: deadline.signal.aborted ? NO_ANSWER : faultOf(error) };
  }
}

async function pass(from: TcpConnection, to: TcpConnection, bytes: number): Promise<void> {
  await writeAll(from, new Uint8Array(bytes));
  const buffer = new Uint8Array(bytes);
  for (let received = 0; received < bytes;) {
    const count = await to.read(buffer);
    if (count === null) throw new NetworkError("Cannot relay: the relay ended it", "reset");
    received += count;
  }
}

const UNTRIED: RelayFacts = { relay: "untried", relayFault: null };

const NO_ANSWER: JobFault = {
  message: "no answer in time",
  remedy: "Check the address, and that no firewall blocks it",
  isWrongAnswer: false,
};

/** As in HTTP. */
const NOT_FOUND = 404;

/** Close codes of WebSockets begin here (RFC 6455 §7.4); below are statuses of HTTP, which others may have sent. */
const RELAY_CODES = 1000;

/** Chosen by us: the whole examination has five seconds. */
const OPEN_MS = 3500;

/** Chosen by us: short messages fit any packet; long ones fill several of the longest. */
const SHORT_BYTES = 16;
const LONG_BYTES = 8192;

/** As for paths: what has not come in a second is lost, not late. */
const STALL_MS = 1200;
