/**
 * SOAP as UPnP control uses it: UPnP Device Architecture 2.0 §3.2.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { childText, escapeXmlText, findElement, parseXml } from "./upnp/xml.ts";

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
