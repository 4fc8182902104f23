/**
 * The server of the TCP filter test: runs tests for its TCP clients, within the limits of docs/tcp-filter-test.md.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import type { Rate } from "../../base/rate_limiter.ts";
import { writeAll } from "../../base/reader.ts";
import { Deadline } from "../../base/timers.ts";
import type { TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { SourceRateLimiter } from "../../net/source.ts";
import { BINDING, encodeMessage } from "../message.ts";
import type { Arrival } from "../server/binding.ts";
import type { StunServerCounters } from "../server/endpoints.ts";
import {
  CROSSING_DIALS,
  CROSSING_SPACING_MS,
  type DialOutcome,
  type DialResult,
  encodeTcpCrossingTimes,
  type TcpCrossingPorts,
  type TcpCrossingRequest,
  type TcpFilterRequest,
  type TcpFilterResult,
} from "./message.ts";
import { delay } from "@std/async/delay";

/** How many TCP filter tests a server runs. */
export interface TcpFilterLimits {
  /** The rate of tests per source. */
  readonly tests: Rate;
  /** The number of tests at the same time. */
  readonly maxConcurrent: number;
}

/** Dials back to clients. */
export class TcpFilterService {
  readonly #network: Network;
  readonly #limits: TcpFilterLimits;
  readonly #counters: StunServerCounters;
  readonly #tests: SourceRateLimiter;
  #running = 0;

  /** @param seed any 32 bits that others cannot guess */
  constructor(
    network: Network,
    limits: TcpFilterLimits,
    { counters, seed }: { counters: StunServerCounters; seed: number },
  ) {
    this.#network = network;
    this.#limits = limits;
    this.#counters = counters;
    this.#tests = new SourceRateLimiter(limits.tests, seed);
  }

  /**
   * Dials the source of a request that arrived over TCP, whose handshake has proved that the source address is not
   * forged. The caller makes sure that a connection gets one test only.
   */
  async test(
    { windowMs }: TcpFilterRequest,
    arrival: Arrival,
    { transactionId, signal }: { transactionId: Uint8Array; signal: AbortSignal },
  ): Promise<TcpFilterResult> {
    if (!this.#take(arrival.source.ip)) return this.refuse();
    this.#running++;
    this.#counters.filterTests++;
    try {
      const dialFrom = (fromIp: string) =>
        dialBack(arrival.source, {
          network: this.#network,
          fromIp,
          windowMs: Math.min(windowMs, MAX_WINDOW_MS),
          greeting: (origin) => encodeGreeting(transactionId, origin),
          signal,
        });
      const [sameAddress, alternateAddress] = await Promise.all([
        dialFrom(arrival.destination.ip),
        arrival.other === undefined ? NOT_TESTED : dialFrom(arrival.other.ip),
      ]);
      return { sameAddress, alternateAddress };
    } finally {
      this.#running--;
    }
  }

  /**
   * Prepares dials that cross those of the client, over a connection as for {@linkcode TcpFilterService.test}. `run` makes
   * them, once the response is on its way, and resolves with an indication that tells when. Each ends before the client's
   * own SYN arrives, so that no connection comes of it: what the client's system makes of the RST that it gets instead
   * shows whether this side's SYN had arrived.
   */
  async cross(
    { delayMs, holdMs }: TcpCrossingRequest,
    { source, destination }: Arrival,
    { transactionId, signal }: { transactionId: Uint8Array; signal: AbortSignal },
  ): Promise<{ readonly ports: TcpCrossingPorts; readonly run?: () => Promise<Uint8Array> }> {
    if (!this.#take(source.ip)) {
      this.#counters.filterTestsRefused++;
      return { ports: [] };
    }
    this.#counters.filterTests++;
    const { ip } = destination;
    let ports: TcpCrossingPorts;
    this.#running++;
    try {
      ports = await freePortPairs(this.#network, ip);
    } catch (error) {
      if (error instanceof NetworkError) return { ports: [] }; // a shortage of this system's
      throw error;
    } finally {
      this.#running--;
    }
    const run = async () => {
      const respondedMs = performance.now();
      const sinceMs = () => performance.now() - respondedMs;
      const isFull = this.#running >= this.#limits.maxConcurrent; // others were faster: no dial, no time
      this.#running++;
      try {
        const times = await Promise.all((isFull ? [] : ports).map(async ({ dial }, index) => {
          await delay(Math.min(delayMs, MAX_DELAY_MS) + index * CROSSING_SPACING_MS, { signal });
          using hold = new Deadline(Math.min(holdMs, MAX_HOLD_MS), signal);
          const startedMs = sinceMs();
          await this.#dialBriefly(source, { ip, port: dial }, hold.signal);
          return { startedMs, endedMs: sinceMs() };
        }));
        return encodeMessage({
          class: "indication",
          method: BINDING,
          transactionId,
          attributes: [encodeTcpCrossingTimes(times)],
        });
      } finally {
        this.#running--;
      }
    };
    return { ports, run };
  }

  async #dialBriefly(
    to: TransportAddress,
    local: TransportAddress,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      using connection = await this.#network.connectTcp(to, { local, signal });
      connection.reset(); // the hold was too long
    } catch (error) {
      if (!(error instanceof NetworkError) && error !== signal.reason) throw error;
    }
  }

  /** The result of a test that was not run. */
  refuse(): TcpFilterResult {
    this.#counters.filterTestsRefused++;
    return { sameAddress: NOT_TESTED, alternateAddress: NOT_TESTED };
  }

  #take(sourceIp: string): boolean {
    return this.#running < this.#limits.maxConcurrent &&
      this.#tests.take(sourceIp, 1, performance.now());
  }
}

/** A Binding indication with the transaction ID of the request, by which the client recognises the dial. */
function encodeGreeting(transactionId: Uint8Array, origin: TransportAddress): Uint8Array {
  return encodeMessage({
    class: "indication",
    method: BINDING,
    transactionId,
    attributes: [{ type: "RESPONSE-ORIGIN", value: origin }],
  });
}

/** Ports that are free, and closed until they are dialled from. */
async function freePortPairs(network: Network, ip: string): Promise<TcpCrossingPorts> {
  using listeners = new DisposableStack();
  const ports: number[] = [];
  while (ports.length < 2 * CROSSING_DIALS) {
    ports.push(listeners.use(await network.listenTcp({ ip, port: 0 })).local.port);
  }
  return Array.from({ length: CROSSING_DIALS }, (_, index) => ({
    dial: ports[2 * index]!,
    closed: ports[2 * index + 1]!,
  }));
}

/** Options of {@linkcode dialBack}. */
interface DialBackOptions {
  readonly network: Network;
  /** The address to dial from; each dial has a fresh port of the system's choice. */
  readonly fromIp: string;
  /** With no reply in this time, the outcome is `"silent"`. */
  readonly windowMs: number;
  /** What to send on a connection that is accepted, given the address that it comes from. */
  readonly greeting: (origin: TransportAddress) => Uint8Array;
  readonly signal: AbortSignal;
}

/**
 * Dials up to three times, so that a lost SYN or two do not look like a filter, and stops at the first reply. Network
 * failures become outcomes; an abort has the same effect as the end of the window.
 */
async function dialBack(target: TransportAddress, options: DialBackOptions): Promise<DialResult> {
  const startedMs = performance.now();
  const replied = new AbortController(); // one reply ends the other dials
  using window = new Deadline(
    options.windowMs,
    AbortSignal.any([replied.signal, options.signal]),
  );
  const { signal } = window;
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
      if (outcome === "accepted" || outcome === "refused") replied.abort();
      return outcome;
    }),
  );
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
    await writeAll(connection, greeting(connection.local));
  } catch (error) {
    // The connection was accepted; what the client does with it does not matter.
    if (!(error instanceof NetworkError)) throw error;
  }
}

function outcomeOf(error: unknown, signal: AbortSignal): DialOutcome {
  if (signal.aborted && error === signal.reason) return "silent";
  if (!(error instanceof NetworkError)) throw error;
  switch (error.reason) {
    case "refused":
      return "refused";
    case "reset": // a RST right after the SYN-ACK
      return "accepted";
    case "unreachable":
      return "unreachable";
    case "timed-out":
      return "silent";
    default:
      return "not-tested"; // a failure of this system, such as no free port
  }
}

const NOT_TESTED: DialResult = { outcome: "not-tested", dials: 0, elapsedMs: 0 };

/** One reply outweighs any silence, and silence outweighs the failure of single dials. */
const BY_WEIGHT: readonly DialOutcome[] = [
  "accepted",
  "refused",
  "silent",
  "unreachable",
  "not-tested",
];

/** Chosen by us: with 10 % loss in each direction all three are lost once in 150 times, retransmissions aside. */
const DIALS = 3;

/** Chosen by us: far enough apart that one burst of losses does not hit two. */
const MAX_SPACING_MS = 250;

/**
 * Chosen by us: long enough for three dials over any terrestrial path, and too short for a kernel to send a SYN a
 * third time (after 2 s on Linux, 3 s by RFC 6298).
 */
const MAX_WINDOW_MS = 1900;

/** The longest that a client may make the server wait, and hold a socket. Chosen by us: for a round trip of 500 ms. */
const MAX_DELAY_MS = 500;
const MAX_HOLD_MS = 125;

/**
 * A request for a test is at least as long as everything that the test sends to a target that does not reply: the
 * dials from two addresses, each a SYN and its retransmission, at 80 bytes with IPv6; rounded up.
 */
export const MIN_FILTER_REQUEST_LENGTH: number = Math.ceil(2 * DIALS * 2 * 80 / 1024) * 1024;
