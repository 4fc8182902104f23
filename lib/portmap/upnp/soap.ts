/**
 * SOAP: calling the actions of one device, one at a time. UPnP Device Architecture 2.0 §3.
 *
 * @module
 */

import { malformed, MalformedMessageError, NetworkError } from "../../base/errors.ts";
import type { Network } from "../../net/network.ts";
import type { IgdAction } from "./actions.ts";
import type { IgdService } from "./device.ts";
import type { IgdFailure } from "./faults.ts";
import { type HttpResponse, requestHttp } from "./http.ts";
import { childText, escapeXmlText, findElement, parseXml } from "./xml.ts";
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
  const [content] = findElement(root, "Body")?.children ?? [];
  if (content === undefined) throw malformed("SOAP", "its body is empty");
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

/** The result of a call that was answered. */
export type SoapOutcome<T> = { readonly kind: "done"; readonly value: T } | IgdFailure;

/** Calls the actions of a device: never two at once, and no faster than the device can take. */
export class SoapClient {
  readonly #network: Network;
  /** Settles once the calls so far are over. */
  #queue: Promise<void> = Promise.resolve();
  readonly #pacing = new RequestPacing();

  constructor(network: Network) {
    this.#network = network;
  }

  /**
   * Calls an action, after those that were called before.
   *
   * @param options.local the address to dial from, as devices map ports only of the host that asks
   * @throws {NoResponseError} if the device does not answer in time
   * @throws {MalformedMessageError} if it reports success, but its answer cannot be read
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
      await (signal === undefined ? before : abortable(before, signal));
      const restMs = this.#pacing.restMs(performance.now());
      if (restMs > 0) await delay(restMs, { signal });
      const startMs = performance.now();
      try {
        return await this.#call(service, action, options);
      } finally {
        this.#pacing.record(startMs, performance.now());
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
      return outcomeOf(response, action);
    } catch (error) {
      if (error instanceof NetworkError && error.reason === "reset") return { kind: "reset" };
      throw error;
    }
  }
}

/** Rate pacing: lets a device rest, after each burst of calls, for as long as the burst took. */
export class RequestPacing {
  #calls = 0;
  #busyMs = 0;
  #endMs = -Infinity;

  /** How long to wait before the next call. */
  restMs(nowMs: number): number {
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
  try {
    const content = decodeSoapBody(body);
    if (content.kind === "fault") return { kind: "fault", ...content.fault };
    if (status === 200) return { kind: "done", value: action.decode(content.values) };
  } catch (error) {
    if (status === 200 || !(error instanceof MalformedMessageError)) throw error;
  }
  return { kind: "http", status };
}

const ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/";
const ENCODING = "http://schemas.xmlsoap.org/soap/encoding/";

/** §3.2.2, table 3-3. */
const ACTION_FAILED = 501;

/** Chosen by us: routers that rewrite their firewall for each mapping take seconds. §3.2.2 allows them thirty. */
const TIMEOUT_MS = 8000;

/** Chosen by us: answers have about a kilobyte. */
const MAX_BODY_BYTES = 64 * 1024;

/** Chosen by us: mapping a port takes three calls: the request, its confirmation, and the external address. */
const BURST = 3;

/** Chosen by us: a pause between bursts for fast devices too. */
const MIN_REST_MS = 10;

/** Chosen by us: what geth leaves between any two calls, which is known to be enough. */
const MAX_REST_MS = 200;
