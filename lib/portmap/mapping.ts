/**
 * A mapping that is kept: on one gateway, or on two in a row.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { type LeaseNews, LeaseRenewer, type LeaseRenewerOptions } from "./lease.ts";
import { isOfGateway, type MapperName, type MappingGrant } from "./mapper.ts";
import type { HeldGrant, RaceResult, Turns } from "./race.ts";
import { type MappingVerdict, mappingVerdict, type MappingVerdictKind } from "./verdict.ts";

/** A mapping as plain data, JSON-safe. */
export interface MappingReport {
  /** How it was got. */
  readonly protocol: MapperName;
  /** What it is for. */
  readonly transport: "tcp" | "udp";
  /** This host's end, `192.168.1.2:8080`. */
  readonly internal: string;
  /** Where it is reached, `192.0.2.1:8080`. */
  readonly external: string;
  /** `null` if it never expires. */
  readonly lifetimeSeconds: number | null;
  /** The nearest gateway's address. */
  readonly gateway: string;
  /** What it is worth. */
  readonly verdict: MappingVerdictKind;
}

/** What became of a mapping. */
export interface MappingEvent extends MappingReport {
  /** `lost` is followed by `mapped` once it was got again, and `released` by nothing. */
  readonly event: "mapped" | "renewed" | "changed" | "lost" | "released";
  /** Why, where there is a reason to tell. */
  readonly reason?: string;
}

/** A port that is open, and kept open until it is disposed. */
export interface PortMapping extends AsyncDisposable {
  /** How it was got last. */
  readonly protocol: MapperName;
  /** What it is for. */
  readonly transport: "tcp" | "udp";
  /** This host's end. */
  readonly internal: TransportAddress;
  /** Where it is reached now; the IP is `0.0.0.0` if no gateway tells. */
  readonly external: TransportAddress;
  /** As granted last. */
  readonly lifetimeSeconds: number;
  /** The nearest gateway's address. */
  readonly gateway: string;
  /** What it is worth. */
  readonly verdict: MappingVerdict;
  /** Whether it is gone, and being got again. */
  readonly isLost: boolean;
  /** All of that as plain data. */
  readonly report: MappingReport;
  /** What becomes of it, from the first `mapped` on, until it is released; for one reader. Who reads too late misses the newest. */
  readonly events: AsyncIterable<MappingEvent>;
  /** What the gateways granted, the nearest first: with the same secret another run can renew and release them. */
  readonly grants: readonly MappingGrant[];
  /** Stops keeping it, and leaves it open until its lease is over. */
  leave(): Promise<void>;
}

/** What {@linkcode ManagedMapping} takes. */
export interface ManagedMappingOptions extends Omit<LeaseRenewerOptions, "onNews"> {
  /** Shared with those who ask the same gateway. */
  readonly turns: Turns;
  /** At which addresses servers see this host now. */
  readonly askOutside: (signal: AbortSignal) => Promise<readonly string[]>;
  /** Opens the port above the gateway too, where there is somebody to ask; `undefined` if there is nobody. */
  readonly raceAbove: (
    inner: HeldGrant,
    verdict: MappingVerdict,
    signal: AbortSignal,
  ) => Promise<RaceResult> | undefined;
  /** Releases it, as disposal does. */
  readonly signal: AbortSignal;
  readonly logger?: Logger;
}

/** A {@linkcode PortMapping} that looks itself what it is worth. */
export class ManagedMapping implements PortMapping {
  readonly #options: ManagedMappingOptions;
  readonly #inner: LeaseRenewer;
  readonly #ended = new AbortController();
  readonly #queue = new WaitQueue<MappingEvent>(MAX_EVENTS);
  #outer: LeaseRenewer | undefined;
  #verdict: MappingVerdict;
  /** Settles when what follows from the news so far is done. */
  #work: Promise<void> = Promise.resolve();
  #isOpen = false;
  #release: Promise<void> | undefined;

  private constructor(result: RaceResult, options: ManagedMappingOptions) {
    this.#options = options;
    this.#verdict = mappingVerdict({ externalIp: result.winner.grant.external.ip, seenIps: [] });
    this.#inner = new LeaseRenewer(result, { ...options, onNews: (news) => this.#onNews(news) });
    options.signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  /**
   * Keeps what a race has won.
   *
   * @throws the signal's reason on abort, when it has been released
   */
  static async open(result: RaceResult, options: ManagedMappingOptions): Promise<ManagedMapping> {
    const { signal } = options;
    const mapping = new ManagedMapping(result, options);
    try {
      await mapping.#appraise(AbortSignal.any([signal, mapping.#ended.signal]));
      signal.throwIfAborted();
    } catch (error) {
      await mapping[Symbol.asyncDispose]();
      signal.throwIfAborted();
      throw error;
    }
    mapping.#isOpen = true;
    mapping.#tell("mapped");
    return mapping;
  }

  get protocol(): MapperName {
    return this.#grant.mapper;
  }

  get transport(): "tcp" | "udp" {
    return this.#grant.protocol;
  }

  get internal(): TransportAddress {
    return this.#grant.internal;
  }

  get external(): TransportAddress {
    return (this.#outer ?? this.#inner).held.grant.external;
  }

  get lifetimeSeconds(): number {
    return this.#grant.lifetimeSeconds;
  }

  get gateway(): string {
    return this.#grant.gateway;
  }

  get verdict(): MappingVerdict {
    return this.#verdict;
  }

  get isLost(): boolean {
    return this.#inner.isLost || this.#outer?.isLost === true;
  }

  get grants(): readonly MappingGrant[] {
    const keepers = [this.#inner, ...this.#outer === undefined ? [] : [this.#outer]];
    return keepers.map(({ held }) => held.grant);
  }

  get report(): MappingReport {
    const { protocol, transport, lifetimeSeconds, gateway, verdict } = this;
    return {
      protocol,
      transport,
      internal: formatTransportAddress(this.internal),
      external: formatTransportAddress(this.external),
      lifetimeSeconds: lifetimeSeconds === Infinity ? null : lifetimeSeconds,
      gateway,
      verdict: verdict.kind,
    };
  }

  readonly events: AsyncIterable<MappingEvent> = {
    [Symbol.asyncIterator]: () => this.#readEvents(),
  };

  async leave(): Promise<void> {
    this.#release ??= this.#finish(async (keeper) => {
      await keeper.leave();
      return "left open until its lease is over";
    });
    await this.#release;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#release ??= this.#finish(async (keeper) => {
      return await this.#options.turns.take(() => keeper.release())
        ? undefined
        : "the gateway did not confirm it";
    });
    await this.#release;
  }

  get #grant(): MappingGrant {
    return this.#inner.held.grant;
  }

  async *#readEvents(): AsyncGenerator<MappingEvent, void> {
    try {
      while (true) yield await this.#queue.next();
    } catch (error) {
      if (error !== OVER) throw error;
    }
  }

  readonly #onAbort = (): void => {
    this[Symbol.asyncDispose]().catch(reportError);
  };

  async #finish(end: (keeper: LeaseRenewer) => Promise<string | undefined>): Promise<void> {
    this.#ended.abort(OVER);
    this.#options.signal.removeEventListener("abort", this.#onAbort);
    try {
      await this.#work;
      const outer = this.#outer && await end(this.#outer);
      const reason = await end(this.#inner) ?? outer;
      if (this.#isOpen) this.#tell("released", reason ?? undefined);
    } finally {
      this.#queue.close(OVER);
    }
  }

  #onNews({ event, reason }: LeaseNews): void {
    if (!this.#isOpen) return; // what is told first is how it is then
    if (event === "renewed" || event === "lost") return this.#tell(event, reason);
    this.#work = this.#work.then(async () => {
      try {
        await this.#appraise(this.#ended.signal);
        this.#tell(event, reason);
      } catch (error) {
        if (error !== OVER) throw error;
      }
    });
    this.#work.catch(() => {}); // whoever disposes is told
  }

  /** Looks what the mapping is worth, and opens the port above too where that takes another. */
  async #appraise(signal: AbortSignal): Promise<void> {
    const { askOutside, raceAbove } = this.#options;
    const before = this.#outer;
    this.#outer = undefined;
    await before?.release();
    const seenIps = await askOutside(signal);
    const { held } = this.#inner;
    const verdict = mappingVerdict({ externalIp: held.grant.external.ip, seenIps });
    this.#verdict = verdict;
    if (verdict.kind !== "double-nat" && verdict.kind !== "cgnat") return;
    const race = raceAbove(held, verdict, signal);
    if (race === undefined) return;
    try {
      const above = await race;
      const { external, gateway, mapper } = above.winner.grant;
      this.#outer = new LeaseRenewer(above, {
        ...this.#options,
        listens: false, // announcements stay on the outer gateway's own link
        race: (signal) => raceAbove(this.#inner.held, verdict, signal) ?? race,
        onNews: (news) => this.#onOuterNews(news),
      });
      const outside = mappingVerdict({ externalIp: external.ip, seenIps });
      const evidence = `${verdict.evidence}; ${gateway} above it opened the port by ${mapper}: ` +
        outside.evidence;
      this.#verdict = { ...outside, evidence };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Error) || !isOfGateway(error)) throw error;
      const said = error.message.replace(/^.*?: /, "");
      this.#verdict = { ...verdict, evidence: `${verdict.evidence}; above it ${said}` };
    }
  }

  #onOuterNews({ event, reason }: LeaseNews): void {
    if (event === "renewed" || !this.#isOpen) return;
    this.#tell(event, `above the gateway: ${reason}`);
  }

  #tell(event: MappingEvent["event"], reason?: string): void {
    const { logger } = this.#options;
    const { report } = this;
    logger?.info(`${event}: ${report.external} to ${report.internal} by ${report.protocol}`);
    this.#queue.push({ event, ...report, ...reason !== undefined && { reason } });
  }
}

const OVER = new DOMException("The mapping is over", "AbortError");

/** Ours: days of renewals that nobody reads; the newest are dropped then. */
const MAX_EVENTS = 256;
