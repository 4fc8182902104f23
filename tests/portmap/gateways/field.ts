/**
 * Gateways with the quirks of devices in the field, after the shape of public reports about them.
 *
 * @module
 */

import { WAN_IP_1, WAN_PPP_1 } from "../fake_gateway/fake_igd.ts";
import type { HttpReply } from "../fake_gateway/http_server.ts";
import { answerXml, faultXml } from "../fake_gateway/igd_xml.ts";
import { bodyOf, descriptionAs, type GatewayScenario, othersEntry, rawReply } from "./scenario.ts";

const FOUND = { external: "44.0.0.7:8080" };

/** Changes the body of a response. */
function rewritten(reply: HttpReply, change: (body: string) => string): HttpReply {
  return reply.kind === "response" ? { ...reply, body: change(bodyOf(reply)) } : reply;
}

/** The scenarios. */
export const FIELD: readonly GatewayScenario[] = [
  {
    name: "field-port-zero",
    does: "shows the internal port of every entry as 0 (miniupnpd 2.3.0 on nftables)",
    igd: () => ({
      onSoap: ({ action }, usual) =>
        /^Get(?:Specific|Generic)/.test(action)
          ? rewritten(usual(), (body) =>
            body.replace(
              /<NewInternalPort>\d+</,
              "<NewInternalPort>0<",
            ))
          : undefined,
    }),
    right: FOUND,
  },
  {
    name: "field-garbled-fault",
    does: "says in broken UTF-8 and broken XML that it does not show its table (TP-Link Archer C8)",
    igd: () => ({
      onSoap: ({ action }) => {
        if (!/^Get(?:Specific|Generic)/.test(action)) return undefined;
        const text = bodyOf(faultXml(401, "Invalid Action"));
        const cut = text.indexOf("</errorDescription>");
        const head = new TextEncoder().encode(
          `HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n${text.slice(0, cut)}`,
        );
        const junk = Uint8Array.of(0xef, 0xbf, 0x91, 0xc9, 0xe9, 0x31);
        return rawReply([head, junk, "</UPnPError></detail></s:Fault></s:Body></s:Enve\x01e>"]);
      },
    }),
    right: FOUND,
  },
  {
    name: "field-control-query",
    does: "has its control URL in a query, and line feeds around the values (DD-WRT)",
    igd: () => ({
      services: [{ ...WAN_IP_1, controlUrl: "/control?WANIPConnection" }],
      frame: descriptionAs((reply) =>
        rewritten(
          reply,
          (xml) => xml.replaceAll(/(<(?:deviceType|serviceType|controlURL)>)([^<]*)/g, "$1\n$2\n"),
        )
      ),
    }),
    right: FOUND,
  },
  {
    name: "field-control-colons",
    does: "has colons in the path of its control URL, and a connection by PPP (o2 HomeBox)",
    igd: () => ({
      services: [{
        ...WAN_PPP_1,
        controlUrl: "/uuid:a0e4cbb2-f1ae-aef1-b2cb-e4a0e4b2ae0002/WANPPPConnection:1",
      }],
    }),
    right: FOUND,
  },
  {
    name: "field-control-relative",
    does: "has a control URL without a leading slash, in CDATA",
    igd: () => ({
      frame: descriptionAs((reply) =>
        rewritten(reply, (xml) =>
          xml.replaceAll(
            /<controlURL>\/([^<]*)</g,
            "<controlURL><!-- here --><![CDATA[$1]]><",
          ))
      ),
    }),
    right: FOUND,
  },
  {
    name: "field-lease-402",
    does: "answers 402 to every lease that ends (a TP-Link)",
    igd: () => ({
      onSoap: ({ action, values }) =>
        action === "AddPortMapping" && values.NewLeaseDuration !== "0" ? faultXml(402) : undefined,
    }),
    right: FOUND,
  },
  {
    name: "field-lease-week",
    does: "answers 402 to leases without an end, and to those of more than a week",
    igd: () => ({
      onSoap: ({ action, values }) =>
        action === "AddPortMapping" &&
          !(Number(values.NewLeaseDuration) > 0 && Number(values.NewLeaseDuration) <= 604_800)
          ? faultXml(402)
          : undefined,
    }),
    right: FOUND,
  },
  {
    name: "field-same-ports",
    does: "wants both ports to be the same, and has given this one to another host (Huawei)",
    igd: () => ({
      onSoap: ({ action, values }) =>
        action === "AddPortMapping" && values.NewExternalPort !== values.NewInternalPort
          ? faultXml(724)
          : undefined,
    }),
    stood: [othersEntry()],
    right: /another device has the external port/,
  },
  {
    name: "field-no-external",
    does: "answers 501 when it is asked for its address, and maps (a cable modem)",
    igd: () => ({
      onSoap: ({ action }) => action === "GetExternalIPAddress" ? faultXml(501) : undefined,
    }),
    right: { external: "0.0.0.0:8080", evidence: /does not report its external address/ },
  },
  {
    name: "field-plain-description",
    does: "takes descriptions of letters and digits only (a D-Link)",
    igd: () => ({
      onSoap: ({ action, values }) =>
        action === "AddPortMapping" && !/^\w*$/.test(values.NewPortMappingDescription ?? "")
          ? faultXml(402)
          : undefined,
    }),
    right: FOUND,
  },
  {
    name: "field-words",
    does: "shows its entries in words: lower-case protocols, true, and leases without an end",
    igd: () => ({
      onSoap: ({ action }, usual) =>
        /^Get(?:Specific|Generic)/.test(action)
          ? rewritten(
            usual(),
            (body) =>
              body.replace(/(<NewProtocol>)(\w+)/, (_, tag, name) => tag + name.toLowerCase())
                .replace(/(<NewEnabled>)1/, "$1true")
                .replace(/(<NewLeaseDuration>)\d+/, "$1infinite"),
          )
          : undefined,
    }),
    right: FOUND,
  },
  {
    name: "field-padded-host",
    does: "pads the addresses of hosts, and adds a line feed to its own (ZyXEL)",
    igd: () => ({
      onSoap: ({ action, serviceType }, usual) =>
        action === "GetExternalIPAddress"
          ? answerXml(serviceType, action, { NewExternalIPAddress: " 44.0.0.7\r\n" })
          : rewritten(usual(), (body) => body.replace("192.168.1.2<", "192.168.001.002<")),
    }),
    right: FOUND,
  },
  {
    name: "field-any-only",
    does: "speaks version 2, and maps by AddAnyPortMapping alone",
    igd: ({ table }) => ({
      services: [{ ...WAN_IP_1, serviceType: WAN_IP_1.serviceType.replace(/1$/, "2") }],
      onSoap: ({ action, values, serviceType }) => {
        if (action === "AddPortMapping") return faultXml(401);
        const at = table.indexOf(values.NewProtocol, values.NewExternalPort);
        const isOwn = table.entries[at]?.internalClient === values.NewInternalClient;
        // What the host has already is extended (WANIPConnection:2 §2.5.19).
        return action === "AddAnyPortMapping" && isOwn
          ? answerXml(serviceType, action, { NewReservedPort: values.NewExternalPort! })
          : undefined;
      },
    }),
    right: FOUND,
  },
];
