/**
 * Gateways as people report them: what each of them does, and what is right.
 *
 * @module
 */

import { gzipSync } from "node:zlib";
import { WAN_IP_1 } from "../fake_gateway/fake_igd.ts";
import { answerXml, descriptionXml, faultXml } from "../fake_gateway/igd_xml.ts";
import {
  bodyOf,
  descriptionAs,
  type GatewayScenario,
  othersEntry,
  rawReply,
  withHead,
} from "./scenario.ts";

const IGD_1 = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
const FOUND = { external: "44.0.0.7:8080" };

/** An answer to a search, line by line. */
function searchAnswer(...lines: string[]): string {
  return `${lines.join("\r\n")}\r\n\r\n`;
}

const LOCATION = "http://192.168.1.1:5000/rootDesc.xml";

/** The scenarios. */
export const REPORTED: readonly GatewayScenario[] = [
  { name: "base", does: "has no fault", igd: () => ({}), right: FOUND },
  {
    name: "p3",
    does: "grants by NAT-PMP for 0 s",
    udp: {
      speaks: ["nat-pmp"],
      script: ({ data, usual }) =>
        data.length === 12
          ? usual().map((reply) => ({
            data: reply.data.map((byte, index) => index >= 12 ? 0 : byte),
          }))
          : undefined,
    },
    options: { protocols: ["nat-pmp"] },
    right: /for 0 s.*Restart the router/s,
  },
  {
    name: "q3",
    does: "grants by PCP for 0 s",
    udp: {
      speaks: ["pcp"],
      script: ({ data, usual }) =>
        data[1] === 1
          ? usual().map((reply) => ({
            data: reply.data.map((byte, index) => index >= 4 && index < 8 ? 0 : byte),
          }))
          : undefined,
    },
    options: { protocols: ["pcp"] },
    right: /for 0 s.*Restart the router/s,
  },
  {
    name: "u02b",
    does: "puts an empty line before LOCATION",
    igd: () => ({
      onSearch: ({ target }) =>
        target === IGD_1
          ? [{
            text: searchAnswer(
              "HTTP/1.1 200 OK",
              "EXT:",
              "",
              `LOCATION: ${LOCATION}`,
              `ST: ${target}`,
              "",
            ),
          }]
          : [],
    }),
    right: FOUND,
  },
  {
    name: "u02c",
    does: "puts an empty line before its answer to a search",
    igd: () => ({
      onSearch: ({ usual, target }) => target === IGD_1 ? [{ text: `\r\n${usual}` }] : [],
    }),
    right: FOUND,
  },
  {
    name: "u02d",
    does: "folds the LOCATION field",
    igd: () => ({
      onSearch: ({ usual, target }) =>
        target === IGD_1 ? [{ text: usual.replace("LOCATION: ", "LOCATION:\r\n ") }] : [],
    }),
    right: FOUND,
  },
  {
    name: "u08b",
    does: "has no external address",
    igd: ({ table }) => {
      table.externalIp = "";
      table.status = "Unconfigured";
      return {};
    },
    right: { external: "0.0.0.0:8080", evidence: /does not report its external address/ },
  },
  {
    name: "u10b",
    does: "has two connections of one type, the first of which refuses",
    igd: ({ tableOf }) => {
      tableOf("/ctl/wan1").externalIp = "44.0.0.8";
      return {
        services: ["/ctl/wan1", "/ctl/wan2"].map((controlUrl) => ({ ...WAN_IP_1, controlUrl })),
        onSoap: ({ action, target }) =>
          action === "AddPortMapping" && target === "/ctl/wan1" ? faultXml(606) : undefined,
      };
    },
    right: FOUND,
  },
  {
    name: "u12",
    does: "compresses its description",
    igd: () => ({
      frame: descriptionAs((reply) =>
        reply.kind === "response"
          ? { ...reply, body: gzipSync(bodyOf(reply)), fields: { "Content-Encoding": "gzip" } }
          : reply
      ),
    }),
    right: FOUND,
  },
  {
    name: "u13c",
    does: "describes itself in UTF-16",
    igd: () => ({
      frame: descriptionAs((reply) =>
        reply.kind === "response" ? { ...reply, body: utf16(bodyOf(reply)) } : reply
      ),
    }),
    right: FOUND,
  },
  {
    name: "u16a",
    does: "puts an empty line before its responses",
    igd: () => ({
      frame: withHead(({ status, body }) =>
        `\r\nHTTP/1.1 ${status} OK\r\nContent-Length: ${body.length}\r\n\r\n`
      ),
    }),
    right: FOUND,
  },
  {
    name: "u16b",
    does: "announces twelve bytes more than it sends",
    igd: () => ({
      frame: withHead(({ status, body }) =>
        `HTTP/1.1 ${status} OK\r\nContent-Length: ${body.length + 12}\r\n\r\n`
      ),
    }),
    right: FOUND,
  },
  {
    name: "u16c",
    does: "neither names the length of its responses nor ends them",
    igd: () => ({
      frame: withHead(
        ({ status }) => `HTTP/1.1 ${status} OK\r\nContent-Type: text/xml\r\n\r\n`,
        "stay",
      ),
    }),
    right: FOUND,
  },
  {
    name: "u16f",
    does: "sends its description with status 404",
    igd: () => ({ frame: descriptionAs((reply) => ({ ...reply, status: 404 } as typeof reply)) }),
    right: FOUND,
  },
  {
    name: "u16i",
    does: "redirects to another page of its own",
    igd: () => ({
      frame: descriptionAs((reply, { target }) =>
        target === "/real.xml"
          ? { kind: "response", status: 200, body: descriptionXml([WAN_IP_1]) }
          : {
            ...reply,
            status: 302,
            body: "",
            fields: { Location: "http://192.168.1.1:5000/real.xml" },
          } as typeof reply
      ),
    }),
    right: FOUND,
  },
  ...[
    ["u22", "http://router.lan:5000/rootDesc.xml", "by a name"],
    ["u22c", "http://203.0.113.9:5000/rootDesc.xml", "by its external address"],
    ["u22e", "http://[::1]:5000/rootDesc.xml", "by its own loopback address"],
  ].map(([name, location, how]): GatewayScenario => ({
    name: name!,
    does: `names the place of its description ${how}`,
    igd: () => ({ location }),
    right: FOUND,
  })),
  {
    name: "u25a",
    does: "takes four seconds before it sends its description",
    igd: () => ({ frame: descriptionAs((reply) => ({ ...reply, delayMs: 4000 })) }),
    right: FOUND,
    limitMs: 5000,
  },
  {
    name: "u25b",
    does: "answers searches after 2.5 s",
    igd: () => ({ onSearch: ({ usual }) => [{ text: usual, delayMs: 2500 }] }),
    right: FOUND,
    limitMs: 3500,
  },
  {
    name: "u25c",
    does: "takes 9.5 s for AddPortMapping",
    igd: () => ({
      onSoap: ({ action }, usual) =>
        action === "AddPortMapping" ? { ...usual(), delayMs: 9500 } : undefined,
    }),
    right: FOUND,
    limitMs: 4000,
  },
  {
    name: "u26b_30",
    does: "resets connections that come within 30 ms of the last one",
    igd: () => ({ refuses: ({ lastEndMs }) => performance.now() < lastEndMs + 30 }),
    right: FOUND,
  },
  {
    name: "u26c_30",
    does: "answers 500 to requests that come within 30 ms of the last one",
    igd: () => {
      let lastMs = -Infinity;
      return {
        frame: (reply) => {
          const isEarly = performance.now() < lastMs + 30;
          if (!isEarly) lastMs = performance.now();
          return isEarly ? { kind: "response", status: 500, body: "" } : reply;
        },
      };
    },
    right: FOUND,
  },
  {
    name: "u28a",
    does: "answers only searches for everything",
    igd: () => ({
      onSearch: ({ target, usual }) => target === "ssdp:all" ? [{ text: usual }] : [],
    }),
    right: FOUND,
    limitMs: 1500,
  },
  {
    name: "u28b",
    does: "answers only searches for its services",
    igd: () => ({
      onSearch: ({ target, usual }) =>
        /service:WAN(?:IP|PPP)Connection:1$/.test(target) ? [{ text: usual }] : [],
    }),
    right: FOUND,
    limitMs: 1500,
  },
  {
    name: "u34",
    does: "grants leases of ten minutes at most",
    igd: () => ({
      onSoap: ({ action, values }) => {
        const seconds = Number(values.NewLeaseDuration);
        return action === "AddPortMapping" && !(seconds >= 1 && seconds <= 600)
          ? faultXml(402)
          : undefined;
      },
    }),
    right: FOUND,
  },
  {
    name: "u39",
    does: "rewrites descriptions, and takes each refresh for a conflict",
    igd: ({ table }) => ({
      onSoap: ({ action, values }, usual) => {
        if (action !== "AddPortMapping") return undefined;
        const { NewProtocol, NewExternalPort, NewPortMappingDescription } = values;
        if (table.indexOf(NewProtocol, NewExternalPort) !== -1) return faultXml(718);
        const reply = usual();
        const index = table.indexOf(NewProtocol, NewExternalPort);
        const description = `UPnP ${NewPortMappingDescription} (TCP 8080)`;
        table.entries[index] = { ...table.entries[index]!, description };
        return reply;
      },
    }),
    right: FOUND,
  },
  ...[
    ["u43a", "nothing", ""],
    ["u43b", "HTML", "<html><body>OK</body></html>"],
    ["u43c", "an empty body", "<SOAP-ENV:Envelope><SOAP-ENV:Body/></SOAP-ENV:Envelope>"],
  ].map(([name, what, body]): GatewayScenario => ({
    name: name!,
    does: `answers requests to map and to unmap with ${what}`,
    igd: () => ({
      onSoap: ({ action }, usual) => {
        if (!/^(?:Add|Delete)PortMapping$/.test(action)) return undefined;
        usual();
        return { kind: "response", status: 200, body: body! };
      },
    }),
    right: FOUND,
  })),
  {
    name: "u44",
    does: "maps, and never answers",
    igd: () => ({
      onSoap: ({ action }, usual) => {
        if (action !== "AddPortMapping") return undefined;
        usual();
        return rawReply([], "stay");
      },
    }),
    right: FOUND,
    limitMs: 4000,
  },
  {
    name: "u49",
    does: "allows one mapping for each description",
    stood: [othersEntry({ protocol: "UDP", externalPort: 9999, description: "punchline" })],
    igd: ({ table }) => ({
      onSoap: ({ action, values }) => {
        const isUsed = table.entries.some(({ description, externalPort }) =>
          description === values.NewPortMappingDescription &&
          externalPort !== Number(values.NewExternalPort)
        );
        return action === "AddPortMapping" && isUsed ? faultXml(718) : undefined;
      },
    }),
    right: { ...FOUND, description: /^punchline tcp 8080$/ },
  },
  {
    name: "u54",
    does: "pads its external address with zeros",
    igd: ({ table }) => {
      table.externalIp = "044.000.000.007";
      return {};
    },
    right: FOUND,
  },
  {
    name: "u55",
    does: "reports its external address in reverse order",
    igd: ({ table }) => {
      table.externalIp = "7.0.0.44";
      return {};
    },
    right: { external: "7.0.0.44:8080", evidence: /no server outside has confirmed it/ },
  },
  {
    name: "u56",
    does: "answers searches with an announcement, after a second",
    igd: () => ({
      onSearch: ({ target }) =>
        target === IGD_1
          ? [{
            delayMs: 1000,
            text: searchAnswer(
              "NOTIFY * HTTP/1.1",
              "HOST: 239.255.255.250:1900",
              `LOCATION: ${LOCATION}`,
              `NT: ${target}`,
              "NTS: ssdp:alive",
            ),
          }]
          : [],
    }),
    right: FOUND,
    limitMs: 2000,
  },
];

function utf16(text: string): Uint8Array {
  const named = text.replace('<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-16"?>');
  const units = Uint16Array.from(`\ufeff${named}`, (unit) => unit.charCodeAt(0));
  return new Uint8Array(units.buffer);
}

/** The answer of a gateway that does what it is asked, for the scenarios of `more.ts`. */
export function success(action: string): ReturnType<typeof answerXml> {
  return answerXml(WAN_IP_1.serviceType, action);
}
