/**
 * The tests that run beside the dials of a TCP NAT test: filtering and hairpinning.
 *
 * @module
 */

import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { testTcpFilter } from "../stun/tcp_filter/client.ts";
import type { TcpFilterReport } from "../stun/tcp_filter_report.ts";
import { unknown } from "./behavior.ts";
import { classifyTcpFiltering, type TcpFiltering } from "./tcp_filtering.ts";
import { hairpinsTcp } from "./tcp_hairpin.ts";

/** Starts each test once, and ends them all when time is over or it is disposed. */
export class SideTests implements AsyncDisposable {
  readonly #network: Network;
  readonly #end = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #signal: AbortSignal;
  /** By server, in the order of their start. */
  readonly #filterTests = new Map<string, Promise<FilterOutcome[]>>();
  #hairpinTest: Promise<boolean | "unknown"> | undefined;

  /** @param timeoutMs from now on, for all tests */
  constructor(network: Network, timeoutMs: number, signal?: AbortSignal) {
    this.#network = network;
    this.#timer = setTimeout(() => this.#end.abort(), timeoutMs);
    this.#signal = signal === undefined
      ? this.#end.signal
      : AbortSignal.any([this.#end.signal, signal]);
  }

  /** Whether the hairpin test has taken its port for listening. */
  get isListening(): boolean {
    return this.#hairpinTest !== undefined;
  }

  /** Asks a server to dial back, to two ports at once. */
  testFilter(server: TransportAddress): void {
    const name = formatTransportAddress(server);
    if (this.#filterTests.has(name)) return;
    const ask = () => askToDialBack(this.#network, server, this.#signal);
    this.#filterTests.set(name, this.#settled(Promise.all(Array.from({ length: PORTS }, ask))));
  }

  /** Tests whether a local port can be dialled by its external address. */
  testHairpin(local: TransportAddress, external: TransportAddress): void {
    this.#hairpinTest ??= this.#settled(
      hairpinsTcp(this.#network, local, external, this.#signal),
    );
  }

  /** What the first server to know the filter test found, waited for; else why there is no verdict. */
  async filtering(options: { isTranslated: boolean }): Promise<TcpFiltering> {
    let first: TcpFiltering | undefined;
    for (const test of this.#filterTests.values()) {
      const found = verdictOf(await test, options);
      if (found.filtering.behavior !== "unknown" || found.unsolicitedSyn !== "unknown") {
        return found;
      }
      first ??= found;
    }
    return first ?? verdictOf([{ reason: NO_SERVER }], options);
  }

  /** What the hairpin test has found by now. */
  async hairpinning(): Promise<boolean | "unknown"> {
    this.#stop();
    return await this.#hairpinTest ?? "unknown";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop();
    await Promise.allSettled([...this.#filterTests.values(), this.#hairpinTest]);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#end.abort();
  }

  /** A failure belongs to who waits for the test, and must not end the program before. */
  #settled<T>(test: Promise<T>): Promise<T> {
    test.catch(() => {});
    return test;
  }
}

type FilterOutcome = TcpFilterReport | { readonly reason: string };

async function askToDialBack(
  network: Network,
  server: TransportAddress,
  signal: AbortSignal,
): Promise<FilterOutcome> {
  try {
    return await testTcpFilter(network, server, { signal });
  } catch (error) {
    if (signal.aborted) return { reason: "the TCP filter test did not end in time" };
    const isExpected = error instanceof NetworkError || error instanceof NoResponseError ||
      error instanceof RefusedError || error instanceof MalformedMessageError;
    if (!isExpected) throw error;
    return { reason: error.message };
  }
}

function verdictOf(
  outcomes: readonly FilterOutcome[],
  options: { isTranslated: boolean },
): TcpFiltering {
  const reports = outcomes.flatMap((outcome) => "reason" in outcome ? [] : [outcome]);
  if (reports.length > 0) return classifyTcpFiltering(reports, options);
  const reasons = outcomes.flatMap((outcome) => "reason" in outcome ? [outcome.reason] : []);
  return { filtering: unknown(...new Set(reasons)), unsolicitedSyn: "unknown" };
}

const NO_SERVER = "no server with two addresses answered over TCP";

/** Each port gets three SYNs from either origin: at 10 % loss each way all six are lost once in 20,000 tests. */
const PORTS = 2;
