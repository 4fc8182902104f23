/**
 * Finding the device of a gateway, once for all who ask, and again when it has moved.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, NoResponseError } from "../base/errors.ts";
import type { Network } from "../net/network.ts";
import { SharedJob } from "../shared_job.ts";
import type { DeviceLink } from "./device_url.ts";
import { isSameIp } from "./gateway_source.ts";
import type { IgdService } from "./igd_services.ts";
import { connectionStatus, promiseOf, rankConnections } from "./igd_status.ts";
import { MappingRefusedError } from "./mapper.ts";
import { discoverIgds, type FoundIgd, isGateway } from "./upnp/discovery.ts";
import type { IgdSession } from "./upnp/session.ts";
import { SoapClient } from "./upnp/soap.ts";
import { SEARCH_MS } from "./upnp/ssdp.ts";

/** A device, ready to be called. */
export interface KnownIgd {
  readonly found: FoundIgd;
  readonly soap: SoapClient;
  /** In the order of their use. */
  readonly connections: readonly IgdService[];
}

/** Knows the device of one gateway. */
export class IgdFinder {
  readonly #network: Network;
  readonly #gateway: string;
  #known: KnownIgd | undefined;
  #search: SharedJob<KnownIgd> | undefined;

  constructor(network: Network, gateway: string) {
    this.#network = network;
    this.#gateway = gateway;
  }

  /** Whether the device has been found before. */
  get hasFound(): boolean {
    return this.#known !== undefined;
  }

  /**
   * The device, searched for unless it is known.
   *
   * @throws {NoResponseError} if nobody answers
   * @throws {MalformedMessageError} if what the gateway answers leads nowhere
   * @throws {MappingRefusedError} if it is not one that opens ports
   */
  async find(link: DeviceLink, signal?: AbortSignal): Promise<KnownIgd> {
    if (this.#known !== undefined) return this.#known;
    if (this.#search === undefined || this.#search.isAborted) {
      const search: SharedJob<KnownIgd> = this.#search = new SharedJob(async (signal) => {
        try {
          return this.#known = await this.#findOnLink(link, signal);
        } finally {
          if (this.#search === search) this.#search = undefined;
        }
      });
    }
    return await this.#search.join(signal);
  }

  /** Forgets a device that no longer is where it was. */
  forget(known: KnownIgd): void {
    if (this.#known === known) this.#known = undefined;
  }

  async #findOnLink(link: DeviceLink, signal: AbortSignal): Promise<KnownIgd> {
    const problems: Error[] = [];
    const others: FoundIgd[] = [];
    const search = discoverIgds(this.#network, {
      links: [link],
      signal,
      onProblem: (problem, responder) => {
        if (isSameIp(responder, this.#gateway)) problems.push(problem);
      },
    });
    for await (const found of search) {
      if (isGateway(found, this.#gateway)) return await this.#know(found, signal);
      others.push(found);
    }
    for (const found of others) {
      const known = await this.#know(found, signal);
      if (await this.#leadsOut(known, signal)) return known;
    }
    throw this.#notFound(problems);
  }

  async #know(found: FoundIgd, signal: AbortSignal): Promise<KnownIgd> {
    const soap = new SoapClient(this.#network);
    const connections = await rankConnections(this.#session(found, soap, signal));
    return { found, soap, connections };
  }

  /** Another device of the link than the gateway is used only if all speaks for it: it may be an access point. */
  async #leadsOut({ found, soap, connections }: KnownIgd, signal: AbortSignal): Promise<boolean> {
    const [first] = connections;
    if (first === undefined) return false;
    return promiseOf(await connectionStatus(this.#session(found, soap, signal), first)) === 3;
  }

  #session(found: FoundIgd, soap: SoapClient, signal: AbortSignal): IgdSession {
    const { device, link } = found;
    return { device, soap, gateway: this.#gateway, local: link.local, signal };
  }

  #notFound(problems: readonly Error[]): Error {
    const refusal = problems.find((problem) => problem instanceof MappingRefusedError);
    if (refusal !== undefined) return refusal;
    const [problem] = problems;
    const cannot = `Cannot find UPnP at gateway ${this.#gateway}`;
    return problem === undefined
      ? new NoResponseError(`${cannot}: no answer in ${SEARCH_MS} ms`)
      : new MalformedMessageError(`${cannot}: ${problem.message}`, { cause: problem });
  }
}

/** Whether an error may come from asking where the device no longer is: ports change with restarts (kubo #8963). */
export function isOfMovedDevice(error: unknown): boolean {
  if (error instanceof NoResponseError) return true;
  if (error instanceof NetworkError) return MOVED.includes(error.reason);
  return error instanceof MappingRefusedError &&
    ["no SOAP", "connection reset"].includes(error.reason);
}

const MOVED = ["refused", "reset", "unreachable", "timed-out"];
