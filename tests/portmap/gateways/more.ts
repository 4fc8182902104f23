/**
 * Further gateways with faults of the same kinds as the reported ones, made up by us.
 *
 * @module
 */

import { gzipSync } from "node:zlib";
import type { FakeIgdOptions } from "../fake_gateway/fake_igd.ts";
import { WAN_IP_1, WAN_IP_2, WAN_PPP_1 } from "../fake_gateway/fake_igd.ts";
import type { HttpReply } from "../fake_gateway/http_server.ts";
import { answerXml, descriptionXml, faultXml } from "../fake_gateway/igd_xml.ts";
import {
  bodyOf,
  descriptionAs,
  type GatewayScenario,
  othersEntry,
  rawReply,
  USUAL,
  withHead,
} from "./scenario.ts";

const FOUND = { external: "44.0.0.7:8080" };
const MOVED = { external: "44.0.0.7:*" };

/** Answers only searches for a target that matches. */
function answersOnly(pattern: RegExp): Pick<FakeIgdOptions, "onSearch"> {
  return {
    onSearch: ({ target, usual }) => pattern.test(target) ? [{ text: usual }] : [],
  };
}

/** Answers a search as usual, but changed. */
function answersAs(
  change: (usual: string) => string,
  delayMs = 0,
): Pick<FakeIgdOptions, "onSearch"> {
  return {
    onSearch: ({ target, usual }) =>
      /InternetGatewayDevice:1$/.test(target) ? [{ text: change(usual), delayMs }] : [],
  };
}

/** Describes itself as usual, but changed. */
function describedAs(change: (xml: string) => string | Uint8Array): FakeIgdOptions {
  return {
    frame: descriptionAs((reply) => {
      return reply.kind === "response" ? { ...reply, body: change(bodyOf(reply)) } : reply;
    }),
  };
}

/** Reacts to an action in a way of its own. */
function onAction(
  pattern: RegExp,
  react: (usual: () => HttpReply, index: number) => HttpReply | undefined,
): Pick<FakeIgdOptions, "onSoap"> {
  return {
    onSoap: (call, usual) => pattern.test(call.action) ? react(usual, call.index) : undefined,
  };
}

const SEARCHES: readonly GatewayScenario[] = [
  ["only searches for version 2", /InternetGatewayDevice:2$/, 500],
  ["only searches for WANIPConnection:2", /WANIPConnection:2$/, 1500],
  ["only searches for its WANConnectionDevice", /device:WANConnectionDevice:1$/, 1500],
  ["only searches for its WANDevice", /device:WANDevice:1$/, 1500],
  ["only searches for root devices", /^upnp:rootdevice$/, 500],
].map(([does, pattern, limitMs], index): GatewayScenario => ({
  name: `search-${index + 1}`,
  does: `answers ${does}`,
  igd: () => answersOnly(pattern as RegExp),
  right: FOUND,
  limitMs: limitMs as number,
}));

const ANSWERS: readonly GatewayScenario[] = [
  {
    name: "answer-late",
    does: "answers searches after four seconds",
    igd: () => answersAs((usual) => usual, 4000),
    right: FOUND,
    limitMs: 5000,
  },
  {
    name: "answer-second",
    does: "answers only the second search",
    igd: () => {
      let startMs = Infinity;
      return {
        onSearch: ({ usual, atMs }) => {
          startMs = Math.min(startMs, atMs);
          return atMs > startMs + 2000 ? [{ text: usual }] : [];
        },
      };
    },
    right: FOUND,
    limitMs: 3500,
  },
  {
    name: "answer-lf",
    does: "answers searches with bare line feeds, lower-case fields and a tab before the URL",
    igd: () =>
      answersAs((usual) => usual.replaceAll("\r\n", "\n").replace("LOCATION: ", "location:\n\t")),
    right: FOUND,
  },
  {
    name: "answer-blank-lines",
    does: "puts empty lines everywhere in its answer to a search",
    igd: () => answersAs((usual) => `\r\n\r\n${usual.replaceAll("\r\n", "\r\n\r\n")}`),
    right: FOUND,
  },
  {
    name: "answer-multicast-only",
    does: "answers only multicasts, from another port",
    igd: () => ({
      onSearch: ({ text, usual, target }) =>
        text.includes("239.255.255.250") && target === "upnp:rootdevice"
          ? [{ text: usual, fromElsewhere: true }]
          : [],
    }),
    right: FOUND,
  },
  {
    name: "answer-notify-name",
    does: "answers with an announcement after three seconds, and names its description by name",
    igd: () =>
      answersAs((usual) =>
        usual.replace("HTTP/1.1 200 OK", "NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive")
          .replace("192.168.1.1", "fritz.box"), 3000),
    right: FOUND,
    limitMs: 4000,
  },
  {
    name: "answer-schemeless",
    does: "leaves out the scheme of the URL",
    igd: () => answersAs((usual) => usual.replace("http://", "")),
    right: FOUND,
  },
  {
    name: "answer-neighbour",
    does: "names a neighbour as the host of its description",
    igd: () => answersAs((usual) => usual.replace("192.168.1.1", "192.168.1.9")),
    right: FOUND,
  },
  {
    name: "answer-several",
    does: "is a media server too, which answers first",
    igd: () => ({
      onSearch: ({ usual }) => [
        { text: usual.replace("rootDesc", "media") },
        { text: usual, delayMs: 300 },
      ],
      onGet: ({ target }) =>
        target === "/media.xml"
          ? {
            kind: "response",
            status: 200,
            body: descriptionXml([{
              serviceType: "urn:schemas-upnp-org:service:ContentDirectory:1",
              controlUrl: "/media",
            }]),
          }
          : undefined,
    }),
    right: FOUND,
  },
];

const FRAMES: readonly GatewayScenario[] = [
  {
    name: "http-chunks",
    does: "sends everything in chunks with extensions, and the last one is missing",
    igd: () => ({
      frame: (reply) => {
        if (reply.kind !== "response") return reply;
        const pieces = bodyOf(reply).match(/[^]{1,99}/g) ?? [];
        const head = `HTTP/1.1 ${reply.status} OK\r\nTransfer-Encoding: Chunked\r\n\r\n`;
        const chunk = (text: string) =>
          `${text.length.toString(16).toUpperCase()} ;x\r\n${text}\r\n`;
        return rawReply([head, ...pieces.map(chunk)]);
      },
    }),
    right: FOUND,
  },
  {
    name: "http-gzip-all",
    does: "compresses everything, and does not say so",
    igd: () => ({
      frame: (reply) =>
        reply.kind === "response" ? { ...reply, body: gzipSync(bodyOf(reply)) } : reply,
    }),
    right: FOUND,
  },
  {
    name: "http-latin-1",
    does: "describes itself in ISO-8859-1",
    igd: () =>
      describedAs((xml) =>
        Uint8Array.from(
          xml.replace("?>", ' encoding="ISO-8859-1"?>').replace("Fake Router", "Bo\u00eete"),
          (letter) => letter.charCodeAt(0),
        )
      ),
    right: FOUND,
  },
  {
    name: "http-utf-16be",
    does: "describes itself in UTF-16 without a byte order mark",
    igd: () =>
      describedAs((xml) =>
        Uint8Array.from([...xml].flatMap((letter) => [0, letter.charCodeAt(0)]))
      ),
    right: FOUND,
  },
  {
    name: "http-redirects",
    does: "redirects twice, the second time by its name",
    igd: () => ({
      onGet: ({ target }) => {
        const next =
          { "/rootDesc.xml": "desc/", "/desc/": "http://router.lan:5000/desc/igd.xml" }[target];
        return next === undefined
          ? { kind: "response", status: 200, body: descriptionXml([WAN_IP_1]) }
          : { kind: "response", status: 307, body: "", fields: { Location: next } };
      },
    }),
    right: FOUND,
  },
  {
    name: "http-drip",
    does: "takes five seconds to send its description, a few bytes at a time",
    igd: () => ({
      frame: descriptionAs((reply) => {
        const text = `HTTP/1.1 200 OK\r\n\r\n${bodyOf(reply)}`;
        const size = Math.ceil(text.length / 50);
        const pieces = text.match(new RegExp(`[^]{1,${size}}`, "g"))!;
        return { kind: "raw", pieces, pauseMs: 100, end: "close" };
      }),
    }),
    right: FOUND,
    limitMs: 6000,
  },
  {
    name: "http-short",
    does: "announces forty bytes fewer than it sends",
    igd: () => ({
      frame: withHead(({ status, body }) =>
        `HTTP/1.1 ${status} OK\r\nContent-Length: ${body.length - 40}\r\n\r\n`
      ),
    }),
    right: FOUND,
  },
  {
    name: "http-interim",
    does: "sends interim responses, and neither a length nor carriage returns",
    igd: () => ({
      frame: withHead(({ status }) => `HTTP/1.1 100 Continue\n\nHTTP/1.0 ${status}\nServer: x\n\n`),
    }),
    right: FOUND,
  },
  {
    name: "http-starting",
    does: "answers 503 to the first two requests for its description",
    igd: () => {
      let gets = 0;
      return {
        onGet: () => gets++ < 2 ? { kind: "response", status: 503, body: "" } : undefined,
      };
    },
    right: FOUND,
  },
  {
    name: "load-one",
    does: "resets all connections but the first",
    igd: () => ({ refuses: ({ open }) => open > 0 }),
    right: FOUND,
  },
  {
    name: "load-150",
    does: "resets connections that come within 150 ms of the last one",
    igd: () => ({ refuses: ({ lastEndMs }) => performance.now() < lastEndMs + 150 }),
    right: FOUND,
    limitMs: 2000,
  },
  {
    name: "load-every-other",
    does: "hangs up on every other connection without an answer",
    igd: () => {
      let connections = 0;
      return { frame: (reply) => connections++ % 2 === 1 ? rawReply([]) : reply };
    },
    right: FOUND,
    limitMs: 2000,
  },
];

const DESCRIPTIONS: readonly GatewayScenario[] = [
  {
    name: "description-urlbase",
    does: "names an URLBase on another host, and a port that serves nothing",
    igd: () => ({
      description: descriptionXml([WAN_IP_1], { urlBase: "http://10.9.9.9:22/base/" }),
    }),
    right: FOUND,
  },
  {
    name: "description-case",
    does: "describes itself in upper case, with prefixes and spaces around the values",
    igd: () =>
      describedAs((xml) =>
        xml.replaceAll(/<(\/?)(\w+)>/g, (_, slash, name) => `<${slash}u:${name.toUpperCase()}>`)
          .replace(WAN_IP_1.serviceType, ` ${WAN_IP_1.serviceType}\n`)
      ),
    right: FOUND,
  },
  {
    name: "description-twice",
    does: "lists its connection twice, after others of no use",
    igd: () => ({
      services: [
        { serviceType: "urn:schemas-upnp-org:service:Layer3Forwarding:1", controlUrl: "/l3f" },
        WAN_IP_1,
        WAN_IP_1,
      ],
    }),
    right: FOUND,
  },
  {
    name: "description-flat",
    does: "lists its connection in the root device, without inner devices",
    igd: () => ({
      ...describedAs((xml) =>
        xml.replaceAll(/<\/?deviceList>/g, "").replaceAll("WANDevice", "Box")
      ),
    }),
    right: FOUND,
  },
  {
    name: "description-ppp",
    does: "has a connection that is not connected before the one that is",
    igd: ({ tableOf }) => {
      const idle = tableOf(USUAL);
      idle.status = "Disconnected";
      idle.externalIp = "0.0.0.0";
      return { services: [WAN_IP_1, WAN_PPP_1] };
    },
    right: FOUND,
  },
  {
    name: "description-cut",
    does: "cuts its description in the middle of the connection",
    igd: () => describedAs((xml) => xml.slice(0, xml.indexOf("IPConn"))),
    right: /Cannot find UPnP|answered|Cannot/,
    limitMs: 31_000,
  },
];

const REQUESTS: readonly GatewayScenario[] = [
  {
    name: "table-taken",
    does: "has given the port to another host",
    stood: [othersEntry()],
    igd: () => ({}),
    right: MOVED,
  },
  {
    name: "table-overwrites",
    does: "has given the port to another host, and would overwrite that",
    stood: [othersEntry()],
    igd: ({ table }) =>
      onAction(/^AddPortMapping$/, (usual) => {
        const others = table.entries.findIndex(({ internalClient }) =>
          internalClient !== "192.168.1.2"
        );
        const saved = table.entries[others];
        if (others !== -1) table.entries.splice(others, 1);
        const reply = usual();
        const isKept = saved !== undefined &&
          table.indexOf(saved.protocol, `${saved.externalPort}`) === -1;
        if (isKept) table.entries.splice(others, 0, saved);
        return reply;
      }),
    right: MOVED,
  },
  {
    name: "table-own",
    does: "has given the port to this host, for another program",
    stood: [othersEntry({ internalClient: "192.168.1.2", description: "punchline" })],
    igd: () => ({}),
    right: MOVED,
  },
  {
    name: "table-exact",
    does: "has given the port to another host, and no other will do",
    stood: [othersEntry()],
    igd: () => ({}),
    options: { exactExternalPort: true },
    right: /another device has the external port/,
  },
  {
    name: "table-any",
    does: "has given the port to another host, and speaks version 2",
    stood: [othersEntry()],
    igd: () => ({ services: [WAN_IP_2] }),
    right: MOVED,
  },
  {
    name: "table-list-only",
    does: "does not find its own entries, but lists them",
    igd: () => onAction(/^GetSpecific/, () => faultXml(714)),
    right: FOUND,
  },
  {
    name: "table-hidden",
    does: "does not show its table",
    igd: () => onAction(/^Get(?:Specific|Generic)/, () => faultXml(401)),
    right: FOUND,
  },
  {
    name: "table-names",
    does: "shows the names of hosts in place of their addresses",
    igd: () =>
      onAction(/^GetSpecific/, (usual) => {
        const reply = usual();
        return { ...reply, body: bodyOf(reply).replace("192.168.1.2<", "laptop<") } as HttpReply;
      }),
    right: FOUND,
  },
  {
    name: "table-empty-entries",
    does: "shows empty entries where there are none",
    igd: () =>
      onAction(/^GetSpecific/, (usual) => {
        const reply = usual();
        return reply.kind === "response" && reply.status === 500
          ? answerXml(WAN_IP_1.serviceType, "GetSpecificPortMappingEntry", {
            NewInternalPort: 0,
            NewInternalClient: "",
            NewEnabled: 0,
            NewPortMappingDescription: "",
            NewLeaseDuration: 0,
          })
          : reply;
      }),
    right: FOUND,
  },
  {
    name: "add-garbled-refusal",
    does: "answers HTML to a request, and does nothing",
    igd: () =>
      onAction(/^AddPortMapping$/, () => ({
        kind: "response",
        status: 200,
        body: "<html><body>Please wait</body></html>",
      })),
    right: /Cannot read/,
  },
  {
    name: "add-500-mapped",
    does: "answers 500 with HTML, and maps nevertheless",
    igd: () =>
      onAction(/^AddPortMapping$/, (usual) => {
        usual();
        return { kind: "response", status: 500, body: "<html>Internal error</html>" };
      }),
    right: FOUND,
  },
  {
    name: "add-reset-mapped",
    does: "maps, and resets the connection",
    igd: () =>
      onAction(/^AddPortMapping$/, (usual) => {
        usual();
        return rawReply(["HTTP/1.1 2"], "reset");
      }),
    right: FOUND,
  },
  {
    name: "add-late",
    does: "maps and answers after 9.5 s",
    igd: ({ table }) => ({
      onSoap: (call, usual) => {
        if (call.action !== "AddPortMapping") return undefined;
        const reply = usual();
        const { NewProtocol, NewExternalPort } = call.values;
        const index = table.indexOf(NewProtocol, NewExternalPort);
        const [entry] = table.entries.splice(index, 1);
        setTimeout(() => table.put(entry!), 9500);
        return { ...reply, delayMs: 9500 };
      },
    }),
    right: FOUND,
    limitMs: 13_000,
  },
  {
    name: "add-never",
    does: "neither maps nor answers",
    igd: () => onAction(/^AddPortMapping$/, () => rawReply([], "stay")),
    right: /not finished|no HTTP response/,
    limitMs: 30_100,
  },
  {
    name: "add-busy",
    does: "answers nothing while it maps, for five seconds",
    igd: () => {
      let busyUntilMs = 0;
      return {
        onSoap: ({ action }) => {
          if (action === "AddPortMapping") busyUntilMs = performance.now() + 5000;
          return undefined;
        },
        frame: (reply) => {
          const leftMs = busyUntilMs - performance.now();
          return leftMs > 0 ? { ...reply, delayMs: leftMs } : reply;
        },
      };
    },
    right: FOUND,
    limitMs: 6000,
  },
  {
    name: "add-elsewhere",
    does: "maps odd ports only, and does not say so",
    igd: ({ table }) => {
      const put = table.put.bind(table);
      table.put = (entry) => put({ ...entry, externalPort: entry.externalPort | 1 });
      return {};
    },
    right: { external: "44.0.0.7:8081" },
  },
  {
    name: "add-conflict-refresh",
    does: "takes each refresh for a conflict",
    igd: ({ table }) => ({
      onSoap: ({ action, values }) =>
        action === "AddPortMapping" &&
          table.indexOf(values.NewProtocol, values.NewExternalPort) !== -1
          ? faultXml(718)
          : undefined,
    }),
    right: FOUND,
  },
  {
    name: "add-short-names",
    does: "keeps six letters of a description",
    igd: ({ table }) => {
      const put = table.put.bind(table);
      table.put = (entry) => put({ ...entry, description: entry.description.slice(0, 6) });
      return {};
    },
    right: { ...FOUND, description: /^punchl$/ },
  },
  {
    name: "add-permanent",
    does: "grants only permanent leases",
    igd: () => ({
      onSoap: ({ action, values }) =>
        action === "AddPortMapping" && values.NewLeaseDuration !== "0" ? faultXml(725) : undefined,
    }),
    right: FOUND,
  },
  {
    name: "add-two-minutes",
    does: "grants two minutes at most, and answers faults with status 200",
    igd: () => ({
      onSoap: ({ action, values }) =>
        action === "AddPortMapping" && !(Number(values.NewLeaseDuration) <= 120) ||
          action === "AddPortMapping" && values.NewLeaseDuration === "0"
          ? { ...faultXml(402), status: 200 } as HttpReply
          : undefined,
    }),
    right: FOUND,
  },
  {
    name: "delete-714",
    does: "deletes, and says that there was nothing",
    igd: () =>
      onAction(/^DeletePortMapping$/, (usual) => {
        usual();
        return faultXml(714);
      }),
    right: FOUND,
  },
  {
    name: "delete-501",
    does: "deletes, and says that it failed",
    igd: () =>
      onAction(/^DeletePortMapping$/, (usual) => {
        usual();
        return faultXml(501);
      }),
    right: FOUND,
  },
  {
    name: "delete-twice",
    does: "confirms the first deletion, and does the second",
    igd: () => {
      let deletions = 0;
      return onAction(
        /^DeletePortMapping$/,
        (usual) =>
          deletions++ % 2 === 0 ? answerXml(WAN_IP_1.serviceType, "DeletePortMapping") : usual(),
      );
    },
    right: FOUND,
  },
  {
    name: "delete-garbled",
    does: "answers deletions with an empty response, and then no more for two seconds",
    igd: () =>
      onAction(/^DeletePortMapping$/, (usual) => {
        usual();
        return { kind: "response", status: 200, body: "", delayMs: 2000 };
      }),
    right: FOUND,
  },
  {
    name: "delete-slow",
    does: "deletes at once, and answers after 9.5 s",
    igd: () => onAction(/^DeletePortMapping$/, (usual) => ({ ...usual(), delayMs: 9500 })),
    right: FOUND,
  },
  {
    name: "read-never",
    does: "never answers when it is asked for an entry",
    igd: () => onAction(/^GetSpecific/, () => rawReply([], "stay")),
    right: FOUND,
    limitMs: 13_000,
  },
  {
    name: "read-confused",
    does: "shows the same entry for every port",
    stood: [othersEntry({ externalPort: 9000 })],
    igd: () =>
      onAction(
        /^GetSpecific/,
        () =>
          answerXml(WAN_IP_1.serviceType, "GetSpecificPortMappingEntry", {
            NewInternalPort: 9000,
            NewInternalClient: "192.168.1.77",
            NewEnabled: 1,
            NewPortMappingDescription: "camera",
            NewLeaseDuration: 0,
          }),
      ),
    movesAfterRestart: true,
    right: { external: "44.0.0.7:*" },
  },
  {
    name: "soap-bare",
    does: "answers without an envelope",
    igd: () => ({
      frame: (reply) => {
        const [, inner] = /<s:Body>(.*)<\/s:Body>/s.exec(bodyOf(reply)) ?? [];
        return inner === undefined || reply.kind !== "response" ? reply : { ...reply, body: inner };
      },
    }),
    right: FOUND,
  },
  {
    name: "external-half-padded",
    does: "pads some parts of its external address, and shows IPv4 hosts as IPv6",
    igd: ({ table }) => {
      table.externalIp = "44.000.000.007";
      return onAction(/^GetSpecific/, (usual) => {
        const reply = usual();
        const body = bodyOf(reply).replace("192.168.1.2<", "::ffff:192.168.1.2<");
        return { ...reply, body } as HttpReply;
      });
    },
    right: FOUND,
  },
  {
    name: "external-private",
    does: "has a private external address",
    igd: ({ table }) => {
      table.externalIp = "192.168.178.20";
      return {};
    },
    right: {
      external: "192.168.178.20:8080",
      evidence: /is private: there is a second NAT upstream/,
    },
    limitMs: 7000,
  },
  {
    name: "external-garbage",
    does: "reports (null) as its external address",
    igd: ({ table }) => {
      table.externalIp = "(null)";
      return {};
    },
    right: { external: "0.0.0.0:8080", evidence: /does not report its external address/ },
  },
];

const UDP: readonly GatewayScenario[] = [
  {
    name: "pmp-nothing",
    does: "grants no port for 0 s by NAT-PMP",
    udp: {
      speaks: ["nat-pmp"],
      script: ({ data, usual }) =>
        data.length === 12
          ? usual().map((reply) => ({ data: reply.data.map((byte, at) => at >= 10 ? 0 : byte) }))
          : undefined,
    },
    options: { protocols: ["nat-pmp"] },
    right: /for 0 s/,
  },
  {
    name: "pmp-no-address",
    does: "maps by NAT-PMP, but does not answer requests for its address",
    udp: { speaks: ["nat-pmp"], script: ({ data }) => data.length === 2 ? [] : undefined },
    options: { protocols: ["nat-pmp"] },
    right: { external: "0.0.0.0:8080", evidence: /does not report its external address/ },
    limitMs: 2000,
  },
  {
    name: "pcp-nonce",
    does: "maps by PCP, and answers with another nonce",
    udp: {
      speaks: ["pcp"],
      script: ({ usual }) =>
        usual().map((reply) => ({
          data: reply.data.map((byte, at) => at === 24 ? byte ^ 0xff : byte),
        })),
    },
    options: { protocols: ["pcp"] },
    right: /no answer/,
  },
  {
    name: "pcp-cut",
    does: "maps by PCP, and cuts its answers",
    udp: {
      speaks: ["pcp"],
      script: ({ usual }) => usual().map((reply) => ({ data: reply.data.subarray(0, 30) })),
    },
    options: { protocols: ["pcp"] },
    right: /answers, but not with PCP/,
  },
  {
    name: "pcp-late",
    does: "answers by PCP after three seconds",
    udp: {
      speaks: ["pcp"],
      script: ({ usual }) => usual().map((reply) => ({ ...reply, delayMs: 3000 })),
    },
    options: { protocols: ["pcp"] },
    right: { external: "203.0.113.7:8080" },
    limitMs: 5000,
  },
];

/** The scenarios. */
export const MORE: readonly GatewayScenario[] = [
  ...SEARCHES,
  ...ANSWERS,
  ...FRAMES,
  ...DESCRIPTIONS,
  ...REQUESTS,
  ...UDP,
];
