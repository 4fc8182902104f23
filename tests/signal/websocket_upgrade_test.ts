import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  decodeHead,
  encodeRefusal,
  encodeUpgradeRequest,
  encodeUpgradeResponse,
  endOfHead,
  judgeUpgradeRequest,
  judgeUpgradeResponse,
} from "../../lib/signal/websocket/handshake.ts";

const KEY = "dGhlIHNhbXBsZSBub25jZQ=="; // RFC 6455 §1.3
const ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; // its answer

Deno.test("encodeUpgradeResponse() answers the key of RFC 6455 §1.3", () => {
  const text = new TextDecoder().decode(encodeUpgradeResponse(KEY));
  assertMatch(text, /^HTTP\/1\.1 101 /);
  assertEquals(decodeHead(toBytes(text)).fields.get("sec-websocket-accept"), ACCEPT);
  assertEquals(judgeUpgradeResponse(decodeHead(toBytes(text)), KEY), { kind: "upgraded" });
});

Deno.test("judgeUpgradeRequest() accepts the request of encodeUpgradeRequest()", () => {
  const request = encodeUpgradeRequest("192.0.2.1:3480", "/kitchen", KEY);
  assertEquals(endOfHead(request), request.length);
  assertEquals(judgeUpgradeRequest(decodeHead(request)), {
    kind: "upgrade",
    target: "/kitchen",
    key: KEY,
    forwardedFor: undefined,
  });
});

const FIELDS = [
  "Host: a",
  "Connection: keep-alive, UPGRADE",
  "Upgrade: WebSocket",
  "Sec-WebSocket-Version: 13",
  `Sec-WebSocket-Key: ${KEY}`,
];

for (
  const [what, startLine, fields, status] of [
    ["an empty line", "", FIELDS, 400],
    ["another protocol", "SSH-2.0-OpenSSH_9.2", FIELDS, 400],
    ["HTTP/1.0", "GET / HTTP/1.0", FIELDS, 400],
    ["a whole URL", "GET http://a/ HTTP/1.1", FIELDS, 400],
    ["POST", "POST / HTTP/1.1", FIELDS, 405],
    ["no upgrade", "GET / HTTP/1.1", FIELDS.slice(0, 2), 426],
    ["another version", "GET / HTTP/1.1", FIELDS.with(3, "Sec-WebSocket-Version: 8"), 426],
    ["a web page", "GET / HTTP/1.1", [...FIELDS, "Origin: https://example.com"], 403],
    ["no host", "GET / HTTP/1.1", FIELDS.slice(1), 400],
    ["no key", "GET / HTTP/1.1", FIELDS.slice(0, 4), 400],
    ["two keys", "GET / HTTP/1.1", [...FIELDS, `Sec-WebSocket-Key: ${KEY}`], 400],
    ["a short key", "GET / HTTP/1.1", FIELDS.with(4, "Sec-WebSocket-Key: AAAA"), 400],
  ] as const
) {
  Deno.test(`judgeUpgradeRequest() refuses ${what} with ${status}`, () => {
    const head = decodeHead(toBytes([startLine, ...fields, "", ""].join("\r\n")));
    assertEquals(judgeUpgradeRequest(head), { kind: "refused", status });
  });
}

Deno.test("judgeUpgradeRequest() accepts the usual variations", () => {
  const head = decodeHead(toBytes(["GET /a HTTP/1.1", ...FIELDS, "", ""].join("\r\n")));
  assertEquals(judgeUpgradeRequest(head).kind, "upgrade");
});

Deno.test("judgeUpgradeResponse() reads a refusal", () => {
  const bytes = encodeRefusal(409);
  const head = decodeHead(bytes.subarray(0, endOfHead(bytes)));
  assertEquals(judgeUpgradeResponse(head, KEY), {
    kind: "refused",
    status: 409,
    reason: "Two are in this room",
  });
});

for (
  const [what, lines] of [
    ["no status line", ["hello"]],
    ["no accept", ["HTTP/1.1 101 OK"]],
    ["another accept", ["HTTP/1.1 101 OK", "Sec-WebSocket-Accept: AAAA"]],
    ["an extension", [
      "HTTP/1.1 101 OK",
      `Sec-WebSocket-Accept: ${ACCEPT}`,
      "Sec-WebSocket-Extensions: permessage-deflate",
    ]],
  ] as const
) {
  Deno.test(`judgeUpgradeResponse() rejects a response with ${what}`, () => {
    const head = decodeHead(toBytes([...lines, "", ""].join("\r\n")));
    assertThrows(() => judgeUpgradeResponse(head, KEY), MalformedMessageError);
  });
}

Deno.test("decodeHead() throws nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.string(), (bytes, text) => {
    for (const input of [bytes, toBytes(`GET / HTTP/1.1\r\n${text}\r\n\r\n`)]) {
      try {
        judgeUpgradeRequest(decodeHead(input));
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
      }
    }
  }));
  assertThrows(
    () => decodeHead(toBytes("GET / HTTP/1.1\r\nbad field: 1\r\n\r\n")),
    MalformedMessageError,
  );
});

function toBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
