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
import { Deadline } from "../base/timers.ts";
import type { Network } from "../net/network.ts";
import { openSignaling } from "../signal/open.ts";
import { checkRelay } from "../signal/rendezvous/relay_check.ts";
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

async function probeRelay(
  network: Network,
  url: string,
  signal: AbortSignal,
): Promise<RelayFacts> {
  using deadline = new Deadline(OPEN_MS, signal);
  try {
    return {
      relay: await checkRelay(url, { network, signal: deadline.signal }),
      relayFault: null,
    };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof RefusedError && error.code === NOT_FOUND) {
      return { relay: "none", relayFault: faultOf(error) };
    }
    return { relay: "failed", relayFault: deadline.signal.aborted ? NO_ANSWER : faultOf(error) };
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
