// Broken, slow or hostile HTTP and XML: it is read nevertheless, or ends in one clear error in time.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { MalformedMessageError, NetworkError, NoResponseError } from "../../lib/base/errors.ts";
import { MappingRefusedError } from "../../lib/portmap/mapper.ts";
import { WAN_IP_1 } from "./fake_gateway/fake_igd.ts";
import type { HttpReply } from "./fake_gateway/http_server.ts";
import { answerXml, descriptionXml } from "./fake_gateway/igd_xml.ts";
import { GATEWAY_IP, TCP_8080 } from "./fixtures.ts";
import { atIgdHome, recordDials } from "./igd_home.ts";

const DESCRIPTION = descriptionXml([WAN_IP_1]);
const OK = "HTTP/1.1 200 OK\r\n";

function raw(...pieces: string[]): HttpReply {
  return { kind: "raw", pieces, end: "close" };
}

const READABLE: Readonly<Record<string, HttpReply>> = {
  "without a length": raw(`${OK}\r\n${DESCRIPTION}`),
  "by HTTP/1.0 with LF alone": raw(`HTTP/1.0 200 OK\nServer: x\n\n${DESCRIPTION}`),
  "without a reason, of a wrong type": raw(
    `HTTP/1.1 200\r\ncontent-TYPE: image/gif\r\n\r\n${DESCRIPTION}`,
  ),
  "after an interim response": raw(`HTTP/1.1 100 Continue\r\n\r\n${OK}\r\n${DESCRIPTION}`),
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
  "with a length that is not a number": raw(`${OK}Content-Length: many\r\n\r\n${DESCRIPTION}`),
  "byte by byte": raw(...`${OK}Content-Length: ${DESCRIPTION.length}\r\n\r\n${DESCRIPTION}`),
  "with a byte order mark": raw(`${OK}\r\n\ufeff${DESCRIPTION}`),
  "in capital letters": raw(
    `${OK}\r\n${DESCRIPTION.replace(/<\/?\w+/g, (tag) => tag.toUpperCase())}`,
  ),
  "with undeclared prefixes": raw(
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
  "that is shorter than its length": raw(`${OK}Content-Length: 99999\r\n\r\n${DESCRIPTION}`),
  "that something follows, on a connection that stays": {
    kind: "raw",
    pieces: [
      `${OK}Content-Length: ${DESCRIPTION.length + 12}\r\n\r\n`,
      `${DESCRIPTION}<!-- end -->`,
    ],
    end: "stay",
  },
  "that is cut after the service, on a connection that stays": {
    kind: "raw",
    pieces: [
      `${OK}Content-Length: ${DESCRIPTION.indexOf("</serviceList>")}\r\n\r\n`,
      DESCRIPTION.slice(0, DESCRIPTION.indexOf("</serviceList>")),
    ],
    end: "stay",
  },
  "that is longer than its length": raw(`${OK}Content-Length: 200\r\n\r\n${DESCRIPTION}`),
  "with an error status": { kind: "response", status: 404, body: DESCRIPTION },
  "without a length or an end": {
    kind: "raw",
    pieces: [`${OK}\r\n`, DESCRIPTION, "\r\n"],
    end: "stay",
  },
  "after empty lines": raw(`\r\n\r\n${OK}\r\n${DESCRIPTION}`),
  "that announces chunks, and has none": raw(
    `${OK}Transfer-Encoding: chunked\r\n\r\n${DESCRIPTION}`,
  ),
  "with folded fields": raw(
    `${OK}Content-Type:\r\n text/xml\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n`,
    ...chunks(DESCRIPTION, 50),
    "0\r\n\r\n",
  ),
  "that is cut off after the service": raw(
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
  "that is cut, and shorter than its length": raw(
    `${OK}Content-Length: 99999\r\n\r\n${DESCRIPTION.slice(0, -20)}`,
  ),
  "that is not HTTP": raw("SSH-2.0-dropbear\r\n"),
  "with an entity bomb": raw(`${OK}\r\n${bomb()}`),
  "with an external entity": raw(
    `${OK}\r\n<!DOCTYPE r [<!ENTITY x SYSTEM "http://127.0.0.1/">]><root>&x;</root>`,
  ),
  "a million elements deep": raw(`${OK}\r\n${"<a>".repeat(80_000)}`),
  "with too many elements": raw(`${OK}\r\n<root>${"<a/>".repeat(30_000)}`),
  "that is too large": raw(`${OK}\r\n<root>${"x".repeat(300_000)}`),
  "that declares to be too large": raw(`${OK}Content-Length: 99999999\r\n\r\n`),
  "with a chunk that is too large": raw(
    `${OK}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n${"x".repeat(300_000)}`,
  ),
  "with a malformed chunk size": raw(`${OK}Transfer-Encoding: chunked\r\n\r\nzz\r\n`),
  "with an endless head": raw(OK, ...Array<string>(2000).fill("X: yyyyyyyyyyyyyyyyyyyyyy\r\n")),
  "with an endless line": raw("HTTP/1.1 200 ", ...Array<string>(2000).fill("OOOOOOOOOOOOOOOO")),
  "that is a script without end": raw(`${OK}\r\n<root>12345678<script>`),
  "with an error status and nothing else": { kind: "response", status: 500, body: "" },
  "that is reset midway": { kind: "raw", pieces: [`${OK}\r\n<root>`], end: "reset" },
};

for (const [name, reply] of Object.entries(UNREADABLE)) {
  Deno.test(`a description ${name} is one clear error`, async () => {
    await atIgdHome({ onGet: () => reply }, async ({ mapper, time }) => {
      const error = await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError);
      assert(error.message.startsWith(`Cannot find UPnP at gateway ${GATEWAY_IP}: Cannot`));
      assertEquals((await mapper.probe()).kind, "garbled");
      assert(time.nowMs < 12_000);
    });
  });
}

Deno.test("a description that drips is given up after 20 seconds, and one that never comes after eight", async () => {
  const drip: HttpReply = {
    kind: "raw",
    pieces: `${OK}Content-Length: 9999\r\n\r\n${DESCRIPTION}`,
    pauseMs: 1000,
    end: "stay",
  };
  const never: HttpReply = { kind: "raw", pieces: [], end: "stay" };
  for (const [reply, limitMs] of [[drip, 20_000], [never, 8000]] as const) {
    await atIgdHome({ onGet: () => reply }, async ({ mapper, time }) => {
      await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError, `${limitMs} ms`);
      assert(time.nowMs < limitMs + 1000, `${time.nowMs}`);
    });
  }
});

Deno.test("a call without an answer is given up after eight seconds", async () => {
  await atIgdHome(
    { onSoap: () => ({ kind: "raw", pieces: [], end: "stay" }) },
    async ({ mapper, time }) => {
      await assertRejects(() => mapper.map(TCP_8080), NoResponseError, "3000 ms");
      assert(time.nowMs < 9000, `${time.nowMs}`);
    },
  );
});

Deno.test("answers that make no sense fail with an expected error", async () => {
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

function isOurs(error: unknown): boolean {
  return error instanceof MalformedMessageError || error instanceof NoResponseError ||
    error instanceof NetworkError || error instanceof MappingRefusedError;
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
