/**
 * SOAP: calling the actions of one device, one at a time. UPnP Device Architecture 2.0 §3.
 *
 * @module
 */

import { malformed, MalformedMessageError, NetworkError } from "../../base/errors.ts";
import { runAll } from "../../base/tasks.ts";
import type { Network } from "../../net/network.ts";
import type { IgdAction } from "./actions.ts";
import type { IgdService } from "./device.ts";
import type { IgdFailure } from "./faults.ts";
import { type HttpResponse, requestDevice } from "./http.ts";
import { childText, escapeXmlText, findElement, parseXml, xmlExtent } from "./xml.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

/** A call of an action. */
export interface SoapRequest {
  /** The service's type, as its description spells it. */
  readonly serviceType: string;
  readonly action: string;
  /** In the order of the service's specification: some devices read them by position. */
  readonly arguments: readonly (readonly [name: string, value: string])[];
}

/** The content of an envelope's body. */
export type SoapBody =
  | {
    readonly kind: "values";
    /** The element in the body, in lower case, such as `getexternalipaddressresponse`. */
    readonly name: string;
    /** By name in lower case. */
    readonly values: ReadonlyMap<string, string>;
  }
  | { readonly kind: "fault"; readonly fault: SoapFault };

/** A device's refusal (§3.2.2). */
export interface SoapFault {
  /** 501, "Action Failed", if the device sends none. */
  readonly code: number;
  readonly description: string;
}

/** The header fields of a call. The value of SOAPACTION includes quotation marks. */
export function soapFields({ serviceType, action }: SoapRequest): Record<string, string> {
  return {
    "Content-Type": 'text/xml; charset="utf-8"',
    SOAPAction: `"${serviceType.replaceAll(/[\r\n"]/g, "")}#${action}"`,
  };
}

/** Encodes a call as an envelope. */
export function encodeSoapRequest(request: SoapRequest): Uint8Array {
  const { action, arguments: values } = request;
  const serviceType = escapeXmlText(request.serviceType).replaceAll('"', "&quot;");
  const elements = values.map(([name, value]) => `<${name}>${escapeXmlText(value)}</${name}>`);
  return new TextEncoder().encode(
    '<?xml version="1.0"?>\r\n' +
      `<s:Envelope xmlns:s="${ENVELOPE}" s:encodingStyle="${ENCODING}">` +
      `<s:Body><u:${action} xmlns:u="${serviceType}">${elements.join("")}</u:${action}></s:Body>` +
      "</s:Envelope>\r\n",
  );
}

/**
 * Decodes an envelope: a call, an answer or a fault.
 *
 * @throws {MalformedMessageError} if the bytes are not an envelope with a body
 */
export function decodeSoapBody(bytes: Uint8Array): SoapBody {
  const root = parseXml(bytes);
  const error = findElement(root, "UPnPError") ?? findElement(root, "Fault");
  if (error !== undefined) {
    const code = childText(error, "errorCode");
    return {
      kind: "fault",
      fault: {
        code: /^\d{1,5}$/.test(code) ? Number(code) : ACTION_FAILED,
        description: childText(error, "errorDescription"),
      },
    };
  }
  // Some devices send no envelope.
  const isAnswer = /response$/.test(root.name) && findElement(root, "Body") === undefined;
  const [content] = isAnswer ? [root] : findElement(root, "Body")?.children ?? [];
  if (content === undefined) throw malformed("SOAP", "its body is empty");
  const values = new Map<string, string>();
  for (const { name, text } of content.children) if (!values.has(name)) values.set(name, text);
  return { kind: "values", name: content.name, values };
}

/** The result of a call that was answered. */
export type SoapOutcome<T> = { readonly kind: "done"; readonly value: T } | IgdFailure;

/** How to call an action. */
export interface SoapCallOptions {
  /** The address to dial from, as devices map ports only of the host that asks. */
  readonly local: string;
  /** How long to wait for the answer; eight seconds by default. */
  readonly timeoutMs?: number;
  /** Whether to call at once, beside a call that has not been answered; `false` by default. */
  readonly isUrgent?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Calls the actions of a device, one after the other, and no faster than the device can take: one that refuses or resets
 * connections is given more time between two calls, and is asked again unless that could open a second port.
 */
export class SoapClient {
  readonly #network: Network;
  /** Settles once the calls so far are over. */
  #queue: Promise<void> = Promise.resolve();
  readonly #pacing = new RequestPacing();
  /** Whether the device refused the last call as often as it was tried: then each call is tried once. */
  #isHopeless = false;

  constructor(network: Network) {
    this.#network = network;
  }

  /**
   * Calls an action, after those that were called before.
   *
   * @throws {NoResponseError} if the device does not answer in time
   * @throws {MalformedMessageError} if it reports success, but its answer cannot be read
   * @throws {NetworkError} if it cannot be reached
   * @throws the signal's reason on abort
   */
  async call<T>(
    service: IgdService,
    action: IgdAction<T>,
    options: SoapCallOptions,
  ): Promise<SoapOutcome<T>> {
    const call = () => this.#callPatiently(service, action, options);
    return options.isUrgent ? await call() : await this.#inTurn(call, options.signal);
  }

  /**
   * Makes two calls at once, which take the time of one; one after the other if the device cannot take that.
   *
   * @param calls they may not depend on each other
   */
  async callBoth<A, B>(
    calls: readonly [(isUrgent: boolean) => Promise<A>, (isUrgent: boolean) => Promise<B>],
    signal?: AbortSignal,
  ): Promise<[A, B]> {
    const [first, second] = calls;
    if (this.#pacing.isSlow) return [await first(false), await second(false)];
    return await this.#inTurn(() => runAll([() => first(true), () => second(true)]), signal);
  }

  async #inTurn<T>(job: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const before = this.#queue;
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    this.#queue = before.then(() => over);
    try {
      await (signal === undefined ? before : abortable(before, signal));
      return await job();
    } finally {
      end();
    }
  }

  async #callPatiently<T>(
    service: IgdService,
    action: IgdAction<T>,
    options: SoapCallOptions,
  ): Promise<SoapOutcome<T>> {
    for (let tries = 1;; tries++) {
      const restMs = this.#pacing.restMs(performance.now());
      if (restMs > 0) await delay(restMs, { signal: options.signal });
      const isLast = tries === MAX_TRIES || this.#isHopeless || action.name.startsWith("Add");
      try {
        const outcome = await this.#callPaced(service, action, options);
        const isBusy = outcome.kind === "reset" || outcome.kind === "http" && outcome.isBusy;
        if (isBusy) this.#pacing.slowDown();
        if (!isBusy || tries === MAX_TRIES) this.#isHopeless = isBusy;
        // The device may have done it nevertheless, which the caller finds out.
        if (isLast || !isBusy) return outcome;
      } catch (error) {
        const isBusy = error instanceof NetworkError && error.reason === "refused";
        if (isBusy) this.#pacing.slowDown();
        if (isLast || !isBusy) throw error;
      }
    }
  }

  async #callPaced<T>(
    service: IgdService,
    action: IgdAction<T>,
    options: SoapCallOptions,
  ): Promise<SoapOutcome<T>> {
    const startMs = performance.now();
    try {
      return await this.#call(service, action, options);
    } finally {
      this.#pacing.record(startMs, performance.now());
    }
  }

  async #call<T>(
    service: IgdService,
    action: IgdAction<T>,
    { local, timeoutMs = TIMEOUT_MS, signal }: SoapCallOptions,
  ): Promise<SoapOutcome<T>> {
    const { serviceType, control } = service;
    const request = { serviceType, action: action.name, arguments: action.arguments };
    try {
      const response = await requestDevice(this.#network, control, {
        request: {
          method: "POST",
          fields: soapFields(request),
          body: encodeSoapRequest(request),
        },
        options: { local, signal, timeoutMs, maxBodyBytes: MAX_BODY_BYTES, extent: xmlExtent },
      });
      return outcomeOf(response, action);
    } catch (error) {
      const isReset = error instanceof NetworkError && error.reason === "reset";
      if (isReset) return { kind: "reset" };
      throw error;
    }
  }
}

/**
 * Rate pacing: lets a device rest, after each burst of calls, for as long as the burst took, and after each single call
 * once it has refused one.
 */
export class RequestPacing {
  #calls = 0;
  #busyMs = 0;
  #endMs = -Infinity;
  /** The rest after each call; 0 if the device has not refused any. */
  #slowRestMs = 0;

  /** Whether the device takes one call at a time. */
  get isSlow(): boolean {
    return this.#slowRestMs > 0;
  }

  /** Doubles the rest after each call, because the device has refused one. */
  slowDown(): void {
    this.#slowRestMs = Math.min(
      Math.max(2 * this.#slowRestMs, FIRST_SLOW_REST_MS),
      MAX_SLOW_REST_MS,
    );
  }

  /** How long to wait before the next call. */
  restMs(nowMs: number): number {
    if (this.isSlow) return Math.max(0, this.#endMs + this.#slowRestMs - nowMs);
    const restMs = Math.min(Math.max(this.#busyMs, MIN_REST_MS), MAX_REST_MS);
    const leftMs = this.#endMs + restMs - nowMs;
    if (leftMs > 0 && this.#calls < BURST) return 0;
    this.#calls = 0;
    this.#busyMs = 0;
    return Math.max(0, leftMs);
  }

  /** Records a call that is over. */
  record(startMs: number, endMs: number): void {
    this.#calls++;
    this.#busyMs += endMs - startMs;
    this.#endMs = endMs;
  }
}

/** Faults should have status 500 (§3.2.2), but arrive with others too. */
function outcomeOf<T>({ status, body }: HttpResponse, action: IgdAction<T>): SoapOutcome<T> {
  const isBusy = BUSY_STATUSES.includes(status) && body.length === 0;
  try {
    const content = decodeSoapBody(body);
    if (content.kind === "fault") return { kind: "fault", ...content.fault };
    if (status === 200) return { kind: "done", value: action.decode(content.values) };
  } catch (error) {
    if (status === 200 || !(error instanceof MalformedMessageError)) throw error;
  }
  return { kind: "http", status, isBusy };
}

const ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/";
const ENCODING = "http://schemas.xmlsoap.org/soap/encoding/";

/** §3.2.2, table 3-3. */
const ACTION_FAILED = 501;

/** Chosen by us: routers that rewrite their firewall for each mapping take seconds. §3.2.2 allows them thirty. */
const TIMEOUT_MS = 8000;

/** Chosen by us: answers have about a kilobyte. */
const MAX_BODY_BYTES = 64 * 1024;

/** Chosen by us: mapping a port takes four calls: the entry and the external address, the request, its confirmation. */
const BURST = 4;

/** Chosen by us: a pause between bursts for fast devices too. */
const MIN_REST_MS = 10;

/** Chosen by us: what geth leaves between any two calls, which is known to be enough. */
const MAX_REST_MS = 200;

/** Chosen by us: routers refuse for 30 to 150 ms after a call; the slowest has been given 0.75 s after four refusals. */
const FIRST_SLOW_REST_MS = 50;
const MAX_SLOW_REST_MS = 800;
const MAX_TRIES = 5;

const BUSY_STATUSES = [500, 502, 503];
