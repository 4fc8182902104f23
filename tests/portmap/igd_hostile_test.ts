// Gateways and others on the link that are broken, slow or hostile: one clear error or the right answer, in time,
// and never a request to where none may go.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { MalformedMessageError, NetworkError, NoResponseError } from "../../lib/errors.ts";
import { MappingRefusedError } from "../../lib/portmap/mapper.ts";
import type { PacketEvent } from "../simnet/subnet.ts";
import { FakeIgd, type FakeIgdOptions, WAN_IP_1 } from "./fake_gateway/fake_igd.ts";
import type { HttpReply } from "./fake_gateway/http_server.ts";
import { answerXml, descriptionXml } from "./fake_gateway/igd_xml.ts";
import { GATEWAY_IP, HOST_IP, TCP_8080 } from "./fixtures.ts";
import { atIgdHome, type IgdHome } from "./igd_home.ts";

const FORBIDDEN_LOCATIONS = [
  "http://127.0.0.1:5000/rootDesc.xml",
  "http://127.1:5000/rootDesc.xml",
  "http://2130706433:5000/rootDesc.xml",
  "http://[::1]:5000/rootDesc.xml",
  "http://[::ffff:127.0.0.1]:5000/rootDesc.xml",
  "http://0.0.0.0:5000/rootDesc.xml",
  `http://${HOST_IP}:5000/rootDesc.xml`,
  "http://44.1.2.3:5000/rootDesc.xml",
  "http://192.168.2.1:5000/rootDesc.xml",
  "http://10.0.0.1:5000/rootDesc.xml",
  "http://169.254.169.254/latest/meta-data",
  "http://239.255.255.250:5000/rootDesc.xml",
  "http://router.example:5000/rootDesc.xml",
  "http://localhost:5000/rootDesc.xml",
  "http://user@192.168.1.1:5000/rootDesc.xml",
  "http://192.168.1.1:22/rootDesc.xml",
  "http://192.168.1.1:0/rootDesc.xml",
  "http://192.168.1.1:99999/rootDesc.xml",
  "https://192.168.1.1:5000/rootDesc.xml",
  "file:///etc/passwd",
  "gopher://192.168.1.1:5000/1",
  "rootDesc.xml",
];

for (const location of FORBIDDEN_LOCATIONS) {
  Deno.test(`no request goes to LOCATION ${location}`, async () => {
    await atIgdHome({ location }, async ({ mapper, internet }) => {
      const dials = recordDials(internet);
      internet.names.set("router.example", [GATEWAY_IP]);
      await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError, location);
      assertEquals(dials, []);
    });
  });
}

Deno.test("control URLs and URLBase of any host lead to the device's own", async () => {
  const urls = ["http://127.0.0.1/ctl/IPConn", "http://44.1.2.3:5000/ctl/IPConn", "ctl/IPConn"];
  for (const controlUrl of [...urls, "//router.example:5000/ctl/IPConn"]) {
    const service = { ...WAN_IP_1, controlUrl };
    for (const urlBase of [undefined, "http://127.0.0.1:5000", "http://44.1.2.3:5000/", "%%%"]) {
      const description = descriptionXml([service], { urlBase });
      await atIgdHome({ description }, async ({ mapper, internet }) => {
        const dials = recordDials(internet);
        await mapper.map(TCP_8080).catch(() => {});
        assert(dials.length > 0 && dials.every((dial) => dial.startsWith(GATEWAY_IP)), `${dials}`);
      });
    }
  }
});

Deno.test("redirects are not followed", async () => {
  for (const location of ["http://127.0.0.1:5000/", "http://44.1.2.3/", "/rootDesc.xml"]) {
    const redirect: HttpReply = {
      kind: "response",
      status: 302,
      body: "",
      fields: { Location: location },
    };
    await atIgdHome({ onGet: () => redirect }, async ({ igd, mapper, internet }) => {
      const dials = recordDials(internet);
      await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError, "HTTP status 302");
      assertEquals([dials.length, igd.httpCalls.length], [1, 1]);
    });
  }
});

Deno.test("an answer from beyond the link counts for nothing", async () => {
  await atIgdHome({ onSearch: () => [] }, async ({ igd, mapper, internet, router }) => {
    const stranger = internet.host("stranger", { behind: router, addresses: ["192.168.9.9"] });
    const { network } = stranger;
    using socket = await network.bindUdp({ ip: "192.168.9.9", port: 1900 });
    internet.onPacket = ({ packet, at, what }) => {
      if (at !== "gateway" || what !== "received" || packet.protocol !== "udp") return;
      const text = igd.searches[0]?.usual;
      if (text !== undefined) socket.send(new TextEncoder().encode(text), packet.source);
    };
    await assertRejects(() => mapper.map(TCP_8080), NoResponseError);
    assertEquals(igd.httpCalls, []);
  });
});

Deno.test("junk, duplicates and answers from another port do not keep a gateway from being found", async () => {
  await atIgdHome({
    onSearch: ({ usual }) =>
      [
        ...["", "\0\xff", "NOTIFY * HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n\r\n"],
        ...[
          "HTTP/1.1 200 OK\r\nST: x\r\n\r\n",
          "<html>",
          "HTTP/1.1 200 OK\r\nLOCATION: ::\r\n\r\n",
        ],
        ...[usual.toLowerCase().replace("rootdesc", "rootDesc"), usual, usual],
      ].map((text) => ({ text, fromElsewhere: true })),
  }, async ({ igd, mapper }) => {
    await mapper.map(TCP_8080);
    assertEquals(igd.table.entries.length, 1);
    assertEquals(igd.httpCalls.filter(({ method }) => method === "GET").length, 1);
  });
});

Deno.test("a flood of answers leads to eight requests at most", async () => {
  let port = 6000;
  const onSearch: FakeIgdOptions["onSearch"] = ({ usual }) =>
    Array.from({ length: 300 }, () => ({ text: usual.replace(":5000", `:${port++}`) }));
  await atIgdHome({ onSearch }, async ({ mapper, internet }) => {
    const dials = recordDials(internet);
    await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError);
    assert(dials.length <= 8, `${dials.length}`);
  });
});

Deno.test("a dead device beside the gateway costs nothing", async () => {
  await atIgdHome({
    onSearch: ({ usual }) => [
      { text: usual.replace("192.168.1.1:5000", "192.168.1.66:5000") },
      { text: usual, delayMs: 20 },
    ],
  }, async ({ mapper, internet, router, time }) => {
    internet.host("dead", { behind: router, addresses: ["192.168.1.66"], fault: "silent" });
    await mapper.map(TCP_8080);
    assert(time.nowMs < 50, `${time.nowMs}`);
  });
});

Deno.test("another device of the link is used where the gateway has none, if it leads out", async () => {
  for (const [externalIp, used] of [["44.0.0.8", true], ["192.168.1.1", false]] as const) {
    await atIgdHome({ onSearch: () => [] }, async ({ mapper, internet, router }) => {
      const { network } = internet.host("other", { behind: router, addresses: ["192.168.1.9"] });
      using other = await FakeIgd.start(network, "192.168.1.9");
      other.table.externalIp = externalIp;
      if (used) await mapper.map(TCP_8080);
      else await assertRejects(() => mapper.map(TCP_8080), NoResponseError);
      assertEquals(other.table.entries.length, used ? 1 : 0);
    });
  }
});

Deno.test("a device that opens no ports is told from one that is silent", async () => {
  const services = [{
    serviceType: "urn:schemas-upnp-org:service:ContentDirectory:1",
    controlUrl: "/c",
  }];
  await atIgdHome({ services }, async ({ mapper }) => {
    const result = await mapper.probe();
    assert(result.kind === "refused");
    assertEquals(result.error.reason, "no WANIPConnection");
  });
});

const DESCRIPTION = descriptionXml([WAN_IP_1]);
const OK = "HTTP/1.1 200 OK\r\n";

function raw(...pieces: string[]): HttpReply {
  return { kind: "raw", pieces, end: "close" };
}

const READABLE: Readonly<Record<string, HttpReply>> = {
  "without a length": raw(`${OK}\r\n${DESCRIPTION}`),
  "of HTTP/1.0 with LF alone": raw(`HTTP/1.0 200 OK\nServer: x\n\n${DESCRIPTION}`),
  "without a reason, of a wrong type": raw(
    `HTTP/1.1 200\r\ncontent-TYPE: image/gif\r\n\r\n${DESCRIPTION}`,
  ),
  "behind an interim response": raw(`HTTP/1.1 100 Continue\r\n\r\n${OK}\r\n${DESCRIPTION}`),
  "in chunks": raw(
    `${OK}transfer-encoding: CHUNKED\r\n\r\n`,
    ...chunks(DESCRIPTION, 7),
    "0\r\nTrailer: x\r\n\r\n",
  ),
  "in chunks that never end": raw(
    `${OK}Transfer-Encoding: chunked\r\n\r\n`,
    ...chunks(DESCRIPTION, 99),
  ),
  "with a length and no end": {
    kind: "raw",
    pieces: [`${OK}Content-Length: ${DESCRIPTION.length}\r\n\r\n${DESCRIPTION}`],
    end: "stay",
  },
  "with a length that is no number": raw(`${OK}Content-Length: many\r\n\r\n${DESCRIPTION}`),
  "byte by byte": raw(...`${OK}Content-Length: ${DESCRIPTION.length}\r\n\r\n${DESCRIPTION}`),
  "with a byte order mark": raw(`${OK}\r\n\ufeff${DESCRIPTION}`),
  "in capital letters": raw(
    `${OK}\r\n${DESCRIPTION.replace(/<\/?\w+/g, (tag) => tag.toUpperCase())}`,
  ),
  "with prefixes that are not declared": raw(
    `${OK}\r\n${DESCRIPTION.replace(/<(\/?)(\w)/g, "<$1q:$2")}`,
  ),
  "with comments and CDATA": raw(
    `${OK}\r\n${
      DESCRIPTION.replace(
        WAN_IP_1.serviceType,
        `<!-- a -- b --><![CDATA[${WAN_IP_1.serviceType}]]>`,
      )
    }`,
  ),
  "that is cut off behind the service": raw(
    `${OK}\r\n${DESCRIPTION.slice(0, DESCRIPTION.indexOf("</serviceList>"))}`,
  ),
};

for (const [name, reply] of Object.entries(READABLE)) {
  Deno.test(`a description ${name} is read`, async () => {
    await atIgdHome({ onGet: () => reply }, async ({ igd, mapper }) => {
      await mapper.map(TCP_8080);
      assertEquals(igd.table.entries.length, 1);
    });
  });
}

const UNREADABLE: Readonly<Record<string, HttpReply>> = {
  "that is empty": raw(`${OK}Content-Length: 0\r\n\r\n`),
  "that is HTML": raw(`${OK}\r\n<!DOCTYPE html><html><body>Login</body></html>`),
  "that is cut off by its length": raw(`${OK}Content-Length: 99999\r\n\r\n${DESCRIPTION}`),
  "that is no HTTP": raw("SSH-2.0-dropbear\r\n"),
  "with a bomb of entities": raw(`${OK}\r\n${bomb()}`),
  "with an external entity": raw(
    `${OK}\r\n<!DOCTYPE r [<!ENTITY x SYSTEM "http://127.0.0.1/">]><root>&x;</root>`,
  ),
  "a million elements deep": raw(`${OK}\r\n${"<a>".repeat(80_000)}`),
  "with too many elements": raw(`${OK}\r\n<root>${"<a/>".repeat(30_000)}`),
  "that is too large": raw(`${OK}\r\n<root>${"x".repeat(300_000)}`),
  "that says it is too large": raw(`${OK}Content-Length: 99999999\r\n\r\n`),
  "with a chunk that is too large": raw(
    `${OK}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n${"x".repeat(300_000)}`,
  ),
  "with a chunk size that is none": raw(`${OK}Transfer-Encoding: chunked\r\n\r\nzz\r\n`),
  "with an endless head": raw(OK, ...Array<string>(2000).fill("X: yyyyyyyyyyyyyyyyyyyyyy\r\n")),
  "with an endless line": raw("HTTP/1.1 200 ", ...Array<string>(2000).fill("OOOOOOOOOOOOOOOO")),
  "that is a script without end": raw(`${OK}\r\n<root>12345678<script>`),
  "with the status of an error": { kind: "response", status: 500, body: DESCRIPTION },
  "that is reset midway": { kind: "raw", pieces: [`${OK}\r\n<root>`], end: "reset" },
};

for (const [name, reply] of Object.entries(UNREADABLE)) {
  Deno.test(`a description ${name} is one clear error`, async () => {
    await atIgdHome({ onGet: () => reply }, async ({ mapper, time }) => {
      const error = await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError);
      assert(error.message.startsWith(`Cannot find UPnP at gateway ${GATEWAY_IP}: Cannot`));
      assertEquals((await mapper.probe()).kind, "garbled");
      assert(time.nowMs < 10_000);
    });
  });
}

Deno.test("who sends a byte a second is given up after three seconds, as is who sends none", async () => {
  const drip: HttpReply = {
    kind: "raw",
    pieces: `${OK}Content-Length: 9999\r\n\r\n${DESCRIPTION}`,
    pauseMs: 1000,
    end: "stay",
  };
  for (const reply of [drip, { kind: "raw", pieces: [], end: "stay" } as const]) {
    await atIgdHome({ onGet: () => reply }, async ({ mapper, time }) => {
      await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError, "3000 ms");
      assert(time.nowMs < 4000, `${time.nowMs}`);
    });
  }
});

Deno.test("a call that is not answered is given up after eight seconds", async () => {
  await atIgdHome(
    { onSoap: () => ({ kind: "raw", pieces: [], end: "stay" }) },
    async ({ mapper, time }) => {
      await assertRejects(() => mapper.map(TCP_8080), NoResponseError, "8000 ms");
      assert(time.nowMs < 9000, `${time.nowMs}`);
    },
  );
});

Deno.test("answers to calls that make no sense are our errors, whatever they are", async () => {
  const values = answerXml(WAN_IP_1.serviceType, "GetExternalIPAddress");
  assert(values.kind === "response");
  const replies: HttpReply[] = [
    { ...values, body: "" },
    { ...values, body: "<html>" },
    { ...values, body: bomb() },
    { ...values, body: "x".repeat(100_000) },
    { ...values, status: 200, body: values.body.slice(0, 50) },
    { ...values, status: 302, fields: { Location: "http://127.0.0.1/" } },
    { kind: "raw", pieces: [OK, "Content-Length: 100\r\n\r\n"], end: "reset" },
  ];
  for (const reply of replies) {
    await atIgdHome({ onSoap: () => reply }, async ({ mapper, internet }) => {
      const dials = recordDials(internet);
      const jobs: (() => Promise<unknown>)[] = [
        () => mapper.map(TCP_8080),
        () => mapper.externalIp(),
        () => mapper.listMappings(),
      ];
      for (const job of jobs) {
        const error = await assertRejects(job);
        assert(isOurs(error), String(error));
      }
      assert(dials.every((dial) => dial.startsWith(GATEWAY_IP)));
    });
  }
});

Deno.test("nobody at home: the verdict comes in less than two seconds, after 18 searches", async () => {
  await atIgdHome({ onSearch: () => [] }, async ({ igd, mapper, time }) => {
    assertEquals(await mapper.probe(), { kind: "silent", waitedMs: 1800 });
    assert(time.nowMs <= 2000);
    assertEquals(igd.searches.length, 18);
  });
});

function isOurs(error: unknown): boolean {
  return error instanceof MalformedMessageError || error instanceof NoResponseError ||
    error instanceof NetworkError || error instanceof MappingRefusedError;
}

/** Whom the host dials. */
function recordDials(internet: IgdHome["internet"]): string[] {
  const dials: string[] = [];
  internet.onPacket = ({ at, what, packet }: PacketEvent) => {
    if (at !== "host" || what !== "sent" || packet.protocol !== "tcp") return;
    const { syn, ack } = packet.tcpFlags;
    if (syn && !ack) dials.push(`${packet.destination.ip}:${packet.destination.port}`);
  };
  return dials;
}

function chunks(text: string, size: number): string[] {
  const pieces = text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
  return pieces.map((piece) => `${piece.length.toString(16)};x=y\r\n${piece}\r\n`);
}

/** "Billion laughs". */
function bomb(): string {
  const entities = Array.from(
    { length: 9 },
    (_, index) => `<!ENTITY e${index + 1} "${`&e${index};`.repeat(10)}">`,
  );
  return `<?xml version="1.0"?><!DOCTYPE r [<!ENTITY e0 "lol">${
    entities.join("")
  }]><root>&e9;</root>`;
}
