/**
 * Calling the actions of one device, one at a time.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../../base/errors.ts";
import type { Network } from "../../net/network.ts";
import type { IgdAction } from "./actions.ts";
import type { IgdService } from "./device.ts";
import type { IgdFailure } from "./faults.ts";
import { type HttpResponse, requestHttp } from "./http.ts";
import { childText, escapeXmlText, findElement, parseXml } from "./xml.ts";
import { delay } from "@std/async/delay";

/** A call of an action. */
export interface SoapRequest {
  /** As the description spells it. */
  readonly serviceType: string;
  readonly action: string;
  /** In the order of the service's specification: some devices read them by place. */
  readonly arguments: readonly (readonly [name: string, value: string])[];
}

/** What is in the body of an envelope. */
export type SoapBody =
  | {
    readonly kind: "values";
    /** The element in the body, in lower case, such as `getexternalipaddressresponse`. */
    readonly name: string;
    /** By name in lower case. */
    readonly values: ReadonlyMap<string, string>;
  }
  | { readonly kind: "fault"; readonly fault: SoapFault };

/** A device says no (§3.2.2). */
export interface SoapFault {
  /** 501, "Action Failed", if it does not say. */
  readonly code: number;
  readonly description: string;
}

/** The header fields of a call; the quotation marks of SOAPACTION are part of it. */
export function soapFields({ serviceType, action }: SoapRequest): Record<string, string> {
  return {
    "Content-Type": 'text/xml; charset="utf-8"',
    SOAPAction: `"${serviceType.replaceAll(/[\r\n"]/g, "")}#${action}"`,
  };
}

/** The bytes of an envelope. */
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
 * Reads an envelope: a call, an answer or a fault.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeSoapBody(bytes: Uint8Array): SoapBody {
  const root = parseXml(bytes);
  const [content] = findElement(root, "Body")?.children ?? [];
  if (content === undefined) {
    throw new MalformedMessageError("Cannot read SOAP: there is nothing in its body");
  }
  if (content.name === "fault") {
    const error = findElement(content, "UPnPError") ?? content;
    const code = childText(error, "errorCode");
    return {
      kind: "fault",
      fault: {
        code: /^\d{1,5}$/.test(code) ? Number(code) : ACTION_FAILED,
        description: childText(error, "errorDescription"),
      },
    };
  }
  const values = new Map<string, string>();
  for (const { name, text } of content.children) if (!values.has(name)) values.set(name, text);
  return { kind: "values", name: content.name, values };
}

const ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/";
const ENCODING = "http://schemas.xmlsoap.org/soap/encoding/";

/** §3.2.2, table 3-3. */
const ACTION_FAILED = 501;

/** Lets a device rest, after each burst of calls, for as long as the burst took. */
export class RequestPacing {
  #calls = 0;
  #busyMs = 0;
  #endMs = -Infinity;

  /** For how long the device is to be left alone from now on. */
  restMs(nowMs: number): number {
    const restMs = Math.min(Math.max(this.#busyMs, MIN_REST_MS), MAX_REST_MS);
    const leftMs = this.#endMs + restMs - nowMs;
    if (leftMs > 0 && this.#calls < BURST) return 0;
    this.#calls = 0;
    this.#busyMs = 0;
    return Math.max(0, leftMs);
  }

  /** Says that a call is over. */
  took(startMs: number, endMs: number): void {
    this.#calls++;
    this.#busyMs += endMs - startMs;
    this.#endMs = endMs;
  }
}

/** Ours: to map a port takes three calls, one to ask, one to look, and one for the address. */
const BURST = 3;

/** Ours: between bursts, so that a fast device is not flooded either. */
const MIN_REST_MS = 10;

/** Ours: what geth leaves between all calls, and is known to be enough. */
const MAX_REST_MS = 200;

/** What came of a call that was answered. */
export type SoapOutcome<T> = { readonly kind: "done"; readonly value: T } | IgdFailure;

/** Calls the actions of a device: never two at once, and no faster than the device likes. */
export class SoapClient {
  readonly #network: Network;
  /** Settles when the calls so far are over. */
  #queue: Promise<void> = Promise.resolve();
  readonly #pace = new RequestPacing();

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
