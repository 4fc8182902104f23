/**
 * A mapping that is kept open: on one gateway, or on two in a row.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { Semaphore, TaskGroup } from "../base/tasks.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { LeaseNews } from "./lease_engine.ts";
import { LeaseRenewer, type LeaseRenewerOptions } from "./lease_renewer.ts";
import type { MapperName, MappingGrant } from "./mapper.ts";
import type { HeldGrant, RaceResult, RouterMutex } from "./race.ts";
import { type MappingVerdict, mappingVerdict, type MappingVerdictKind } from "./verdict.ts";

/** A mapping as plain data, JSON-safe. */
export interface MappingReport {
  /** The protocol by which the gateway granted it. */
  readonly protocol: MapperName;
  /** The transport protocol of the port. */
  readonly transport: "tcp" | "udp";
  /** This host's end, such as `192.168.1.2:8080`. */
  readonly internal: string;
  /** Where the internet reaches it, such as `192.0.2.1:8080`. */
  readonly external: string;
  /** `null` if it never expires. */
  readonly lifetimeSeconds: number | null;
  /** The nearest gateway's IP address. */
  readonly gateway: string;
  /** Whether the internet can reach it. */
  readonly verdict: MappingVerdictKind;
}

/** Something that happened to a mapping, with the mapping as it was then. */
export interface MappingEvent extends MappingReport {
  /** `lost` is followed by `mapped` once the port is open again. Nothing follows `released`. */
  readonly event: "mapped" | "renewed" | "changed" | "lost" | "released";
  /** Why, if there is a reason to report. */
  readonly reason?: string;
}

/** A port that is open, and kept open until it is disposed. */
export interface PortMapping extends AsyncDisposable {
  /** The protocol of the latest grant. */
  readonly protocol: MapperName;
  /** The transport protocol of the port. */
  readonly transport: "tcp" | "udp";
  /** This host's end. */
  readonly internal: TransportAddress;
  /** Where the internet reaches it now. The IP is `0.0.0.0` if no gateway reports one. */
  readonly external: TransportAddress;
  /** The lifetime of the latest grant; `Infinity` if it never expires. */
  readonly lifetimeSeconds: number;
  /** The nearest gateway's IP address. */
  readonly gateway: string;
  /** Whether the internet can reach it, with the evidence. */
  readonly verdict: MappingVerdict;
  /** Whether the gateway has lost it; it is then requested again. */
  readonly isLost: boolean;
  /** The fields above as plain data. */
  readonly report: MappingReport;
  /**
   * What happens to the mapping, from the first `mapped` until it is released; for one reader. A reader that falls 256
   * events behind misses the newest.
   */
  readonly events: AsyncIterable<MappingEvent>;
  /** The gateways' grants, the nearest first. With the same secret, another run can renew and release them. */
  readonly grants: readonly MappingGrant[];
  /** Stops renewing the mapping, and leaves it open until its lease expires. */
  leave(): Promise<void>;
}

/** What {@linkcode ManagedMapping} takes. */
export interface ManagedMappingOptions extends Omit<LeaseRenewerOptions, "onNews"> {
  /** Shared by all that ask the same routers. */
  readonly mutex: RouterMutex;
  /** The addresses at which STUN servers see this host now; fewer, or none, on abort. */
  readonly checkExternalAddress: (signal: AbortSignal) => Promise<readonly string[]>;
  /** Opens the port on the upstream NAT too; `undefined` if there is no gateway to ask. */
  readonly raceUpstream: (
    inner: HeldGrant,
    verdict: MappingVerdict,
    signal: AbortSignal,
  ) => Promise<RaceResult> | undefined;
  /** Releases the mapping, as disposal does. */
  readonly signal: AbortSignal;
  readonly logger?: Logger;
}

/** A {@linkcode PortMapping} that renews itself, and finds out whether the internet can reach it. */
export class ManagedMapping implements PortMapping {
  readonly #options: ManagedMappingOptions;
  readonly #inner: LeaseRenewer;
  /** On the upstream NAT, if the port is open there too. */
  #outer: LeaseRenewer | undefined;
  #verdict: MappingVerdict;
  readonly #queue = new WaitQueue<MappingEvent>(MAX_EVENTS);
  readonly #faults: unknown[] = [];
  /** What follows from the news, one after the other. */
  readonly #tasks = new TaskGroup((fault) => this.#faults.push(fault));
  readonly #inOrder = new Semaphore(1);
  #isOpen = false;
  #end: Promise<void> | undefined;

  private constructor(result: RaceResult, options: ManagedMappingOptions) {
    this.#options = options;
    this.#verdict = mappingVerdict({ externalIp: result.winner.grant.external.ip, seenIps: [] });
    this.#inner = new LeaseRenewer(result, { ...options, onNews: (news) => this.#onNews(news) });
    options.signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  /**
   * Keeps what a race has won.
   *
   * @param seenIps the first external-address check, which may have begun with the race
   * @throws the signal's reason on abort, after releasing the mapping
   */
  static async open(
    result: RaceResult,
    seenIps: Promise<readonly string[]>,
    options: ManagedMappingOptions,
  ): Promise<ManagedMapping> {
    const { signal } = options;
    const mapping = new ManagedMapping(result, options);
    try {
      await mapping.#verify(seenIps, AbortSignal.any([signal, mapping.#tasks.signal]));
      signal.throwIfAborted();
    } catch (error) {
      await mapping[Symbol.asyncDispose]();
      signal.throwIfAborted();
      throw error;
    }
    mapping.#isOpen = true;
    mapping.#publish("mapped");
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
    const { external } = (this.#outer ?? this.#inner).held.grant;
    return { ...external, ip: this.#verdict.correctedIp ?? external.ip };
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
    const inner = this.#inner.held.grant;
    return this.#outer === undefined ? [inner] : [inner, this.#outer.held.grant];
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
    this.#end ??= this.#finish(async (lease) => {
      await lease.leave();
      return "left open until its lease expires";
    });
    await this.#end;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end ??= this.#finish(async (lease) => {
      return await this.#options.mutex.through(() => lease.release());
    });
    await this.#end;
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

  async #finish(end: (lease: LeaseRenewer) => Promise<string | undefined>): Promise<void> {
    this.#options.signal.removeEventListener("abort", this.#onAbort);
    try {
      await this.#tasks.stop(OVER);
      if (this.#faults.length > 0) throw this.#faults[0];
      const outer = this.#outer && await end(this.#outer);
      const reason = await end(this.#inner) ?? outer;
      if (this.#isOpen) this.#publish("released", reason);
    } finally {
      this.#queue.close(OVER);
    }
  }

  #onNews({ event, reason }: LeaseNews): void {
    if (!this.#isOpen) return; // the first `mapped` reports the mapping as it is then
    if (event === "renewed" || event === "lost") return this.#publish(event, reason);
    this.#tasks.run((signal) =>
      this.#inOrder.through(async () => {
        await this.#verify(this.#options.checkExternalAddress(signal), signal);
        this.#publish(event, reason);
      })
    );
  }

  /** Finds out whether the internet can reach the mapping, and opens the port on an upstream NAT too. */
  async #verify(seen: Promise<readonly string[]>, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const before = this.#outer;
    this.#outer = undefined;
    await before?.release();
    const seenIps = await seen;
    signal.throwIfAborted();
    const { held } = this.#inner;
    const verdict = mappingVerdict({ externalIp: held.grant.external.ip, seenIps });
    this.#verdict = verdict;
    if (verdict.kind !== "double-nat" && verdict.kind !== "cgnat") return;
    const race = this.#options.raceUpstream(held, verdict, signal);
    if (race !== undefined) await this.#openUpstream(race, { verdict, seenIps, signal });
  }

  async #openUpstream(
    race: Promise<RaceResult>,
    { verdict, seenIps, signal }: {
      readonly verdict: MappingVerdict;
      readonly seenIps: readonly string[];
      readonly signal: AbortSignal;
    },
  ): Promise<void> {
    const { raceUpstream } = this.#options;
    try {
      const result = await race;
      this.#outer = new LeaseRenewer(result, {
        ...this.#options,
        listens: false, // announcements stay on the outer gateway's own link
        race: (signal) => raceUpstream(this.#inner.held, verdict, signal) ?? race,
        onNews: (news) => this.#onOuterNews(news),
      });
      const { external, gateway, mapper } = result.winner.grant;
      const outside = mappingVerdict({ externalIp: external.ip, seenIps });
      const evidence = `${verdict.evidence}; the upstream router ${gateway} opened the port by ` +
        `${mapper}: ${outside.evidence}`;
      this.#verdict = { ...outside, evidence };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof PunchlineError)) throw error;
      const problem = error.message.replace(/^.*?: /, "");
      this.#verdict = { ...verdict, evidence: `${verdict.evidence}; upstream: ${problem}` };
    }
  }

  #onOuterNews({ event, reason }: LeaseNews): void {
    if (event === "renewed" || !this.#isOpen) return;
    this.#publish(event, `on the upstream router: ${reason}`);
  }

  #publish(event: MappingEvent["event"], reason?: string): void {
    const { report } = this;
    this.#options.logger?.info(
      `${event}: ${report.external} to ${report.internal} by ${report.protocol}`,
    );
    this.#queue.push(reason === undefined ? { event, ...report } : { event, ...report, reason });
  }
}

const OVER = new DOMException("The mapping has ended", "AbortError");

/** Chosen by us: days of renewals that nothing reads. */
const MAX_EVENTS = 256;
