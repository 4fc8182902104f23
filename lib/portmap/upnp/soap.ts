/**
 * Calling the actions of one device, one at a time.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../../base/errors.ts";
import type { Network } from "../../net/network.ts";
import type { HttpResponse } from "../http_message.ts";
import type { IgdService } from "../igd_services.ts";
import { decodeSoapBody, encodeSoapRequest, soapFields } from "../soap_message.ts";
import { SoapPace } from "../soap_pace.ts";
import type { IgdAction } from "./actions.ts";
import type { IgdFailure } from "./faults.ts";
import { requestHttp } from "./http.ts";
import { delay } from "@std/async/delay";

/** What came of a call that was answered. */
export type SoapOutcome<T> = { readonly kind: "done"; readonly value: T } | IgdFailure;

/** Calls the actions of a device: never two at once, and no faster than the device likes. */
export class SoapClient {
  readonly #network: Network;
  /** Settles when the calls so far are over. */
  #queue: Promise<void> = Promise.resolve();
  readonly #pace = new SoapPace();

  constructor(network: Network) {
    this.#network = network;
  }

  /**
   * Calls an action, after those that were called before.
   *
   * @param options.local the address to dial from: devices map ports to whom they hear only
   * @throws {NoResponseError} if the device does not answer in time
   * @throws {MalformedMessageError} if it says it was done, but not what
   * @throws {NetworkError} if it cannot be reached
   * @throws the signal's reason on abort
   */
  async call<T>(
    service: IgdService,
    action: IgdAction<T>,
    options: { local: string; signal?: AbortSignal },
  ): Promise<SoapOutcome<T>> {
    const { signal } = options;
    const before = this.#queue;
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    this.#queue = before.then(() => over);
    try {
      await untilAborted(before, signal);
      const restMs = this.#pace.restMs(performance.now());
      if (restMs > 0) await delay(restMs, { signal });
      const startMs = performance.now();
      try {
        return await this.#call(service, action, options);
      } finally {
        this.#pace.took(startMs, performance.now());
      }
    } finally {
      end();
    }
  }

  async #call<T>(
    service: IgdService,
    action: IgdAction<T>,
    options: { local: string; signal?: AbortSignal },
  ): Promise<SoapOutcome<T>> {
    const { serviceType, control } = service;
    const request = { serviceType, action: action.name, arguments: action.arguments };
    try {
      const response = await requestHttp(this.#network, {
        method: "POST",
        host: control.address,
        target: control.target,
        fields: soapFields(request),
        body: encodeSoapRequest(request),
      }, { ...options, timeoutMs: TIMEOUT_MS, maxBodyBytes: MAX_BODY_BYTES });
      return decode(response, action);
    } catch (error) {
      if (error instanceof NetworkError && error.reason === "reset") return { kind: "reset" };
      throw error;
    }
  }
}

/** Faults are to come with status 500 (§3.2.2), and come with others too. */
function decode<T>({ status, body }: HttpResponse, action: IgdAction<T>): SoapOutcome<T> {
  try {
    const content = decodeSoapBody(body);
    if (content.kind === "fault") return { kind: "fault", ...content.fault };
    if (status === 200) return { kind: "done", value: action.decode(content.values) };
  } catch (error) {
    if (status === 200 || !(error instanceof MalformedMessageError)) throw error;
  }
  return { kind: "http", status };
}

async function untilAborted(wait: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([wait, aborted]);
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Ours: routers that rewrite their firewall for each mapping take seconds; §3.2.2 allows them thirty. */
const TIMEOUT_MS = 8000;

/** Ours: answers have a kilobyte. */
const MAX_BODY_BYTES = 64 * 1024;
