/**
 * The XML of a fake gateway, written by hand, so that the library does not decode its own mistakes.
 *
 * @module
 */

import type { HttpReply } from "./http_server.ts";

/** A service in a description. */
export interface FakeServiceXml {
  readonly serviceType: string;
  readonly controlUrl: string;
}

/** The description of a gateway with these services, three devices deep. */
export function descriptionXml(
  services: readonly FakeServiceXml[],
  options: { readonly urlBase?: string; readonly friendlyName?: string } = {},
): string {
  const { urlBase, friendlyName = "Fake Router" } = options;
  const list = services.map(({ serviceType, controlUrl }, index) =>
    `<service><serviceType>${serviceType}</serviceType>` +
    `<serviceId>urn:upnp-org:serviceId:${index}</serviceId>` +
    `<controlURL>${controlUrl}</controlURL><eventSubURL>/e${index}</eventSubURL>` +
    `<SCPDURL>/s${index}.xml</SCPDURL></service>`
  );
  return `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
${urlBase === undefined ? "" : `<URLBase>${urlBase}</URLBase>`}
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<friendlyName>${friendlyName}</friendlyName><modelName>F1</modelName><deviceList>
<device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList>
<device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList>${
    list.join("\n")
  }</serviceList></device></deviceList></device></deviceList></device></root>`;
}

/** The answer to a call that succeeded. */
export function answerXml(
  serviceType: string,
  action: string,
  values: Readonly<Record<string, string | number>> = {},
): HttpReply {
  const elements = Object.entries(values).map(([name, value]) => `<${name}>${value}</${name}>`);
  return {
    kind: "response",
    status: 200,
    body: envelope(
      `<u:${action}Response xmlns:u="${serviceType}">${elements.join("")}</u:${action}Response>`,
    ),
  };
}

/** The answer to a call that failed. */
export function faultXml(code: number, description = "said no"): HttpReply {
  return {
    kind: "response",
    status: 500,
    body: envelope(
      "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>" +
        '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">' +
        `<errorCode>${code}</errorCode><errorDescription>${description}</errorDescription>` +
        "</UPnPError></detail></s:Fault>",
    ),
  };
}

function envelope(body: string): string {
  return '<?xml version="1.0"?>\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">' +
    `<s:Body>${body}</s:Body></s:Envelope>`;
}
