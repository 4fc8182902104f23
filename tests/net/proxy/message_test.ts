import { assertEquals, assertThrows } from "@std/assert";
import { MalformedMessageError } from "../../../lib/base/errors.ts";
import { toHex } from "../../../lib/base/bytes.ts";
import {
  decodeConnectAnswer,
  decodeSocksAnswer,
  decodeSocksLoginAnswer,
  decodeSocksMethod,
  encodeConnect,
  encodeSocksConnect,
  encodeSocksGreeting,
  encodeSocksLogin,
  MAX_ANSWER_BYTES,
} from "../../../lib/net/proxy/message.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("CONNECT names host and port twice, and logs in by Basic", () => {
  // RFC 7617 §2 has this login, and what becomes of it.
  const login = { username: "Aladdin", password: "open sesame" };
  assertEquals(
    textOf(encodeConnect({ host: "server.example.com", port: 80 }, login)),
    "CONNECT server.example.com:80 HTTP/1.1\r\nHost: server.example.com:80\r\n" +
      "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
  );
  assertEquals(
    textOf(encodeConnect({ host: "2001:db8::1", port: 443 })),
    "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n",
  );
});

Deno.test("a user with a colon, which a proxy would read as another login, is refused", () => {
  const login = { username: "me:too", password: "hidden" };
  const error = assertThrows(() => encodeConnect({ host: "a", port: 1 }, login), RangeError);
  assertEquals(/too|hidden/.test(error.message), false);
});

Deno.test("a host that would end the line of a request is refused, by both protocols", () => {
  for (const host of ["a b", "a\r\nX: y", "a/", "", "a@b", "\u{e9}.example"]) {
    assertThrows(() => encodeConnect({ host, port: 1 }), RangeError);
    assertThrows(() => encodeSocksConnect({ host, port: 1 }), RangeError);
  }
  assertThrows(() => encodeSocksConnect({ host: "a".repeat(256), port: 1 }), RangeError);
});

Deno.test("decodeConnectAnswer() reads the status, and ends where the tunnel begins", () => {
  const head = "HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n";
  assertEquals(decodeConnectAnswer(bytesOf(`${head}glued`)), {
    kind: "message",
    status: 200,
    reason: "Connection established",
    schemes: [],
    byteLength: head.length,
  });
  for (let length = 0; length < head.length; length++) {
    const cut = bytesOf(head).subarray(0, length);
    assertEquals(decodeConnectAnswer(cut), { kind: "incomplete", neededLength: length + 1 });
  }
});

Deno.test("decodeConnectAnswer() reads by which schemes a proxy lets clients log in", () => {
  const schemesOf = (...values: string[]) => {
    const fields = values.map((value) => `Proxy-Authenticate: ${value}\r\n`).join("");
    const decoded = decodeConnectAnswer(bytesOf(`HTTP/1.1 407 No\r\n${fields}\r\n`));
    return decoded.kind === "message" ? decoded.schemes : undefined;
  };
  assertEquals(schemesOf('Basic realm="x"'), ["basic"]);
  assertEquals(schemesOf("NTLM", "Negotiate"), ["ntlm", "negotiate"]);
  assertEquals(schemesOf('Digest realm="a, basic b", nonce="c", Basic realm="d"'), [
    "basic",
    "digest",
  ]);
  assertEquals(schemesOf('Digest realm="a, basic b"'), ["digest"]);
  assertEquals(schemesOf(), []);
});

Deno.test("decodeConnectAnswer() rejects what is no HTTP, at its first byte, and endless heads", () => {
  const rejects = (text: string) =>
    assertThrows(() => decodeConnectAnswer(bytesOf(text)), MalformedMessageError);
  for (const text of ["\x05\xff", "SSH-2.0", "H3", "HTTP/2 200 OK\r\n\r\n"]) rejects(text);
  for (const line of ["HTTP/1.1", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1  200 OK"]) {
    rejects(`${line}\r\n\r\n`);
  }
  rejects(`HTTP/1.1 200 OK\r\nX: ${"a".repeat(MAX_ANSWER_BYTES)}`);
  rejects(`HTTP/1.1 200 OK\r\nX: ${"a".repeat(MAX_ANSWER_BYTES)}\r\n\r\n`);
});

Deno.test("a reason phrase is printable, and not all of a long one is kept", () => {
  const decoded = decodeConnectAnswer(
    bytesOf(`HTTP/1.1 403 \x1b[2J\x07${"x".repeat(500)}\r\n\r\n`),
  );
  const reason = decoded.kind === "message" ? decoded.reason : "";
  assertEquals([reason.slice(0, 6), reason.length], ["?[2J?x", 60]);
});

Deno.test("SOCKS5 messages have the bytes of RFC 1928 and RFC 1929", () => {
  assertEquals(toHex(encodeSocksGreeting(false)), "050100");
  assertEquals(toHex(encodeSocksGreeting(true)), "05020002");
  assertEquals(
    toHex(encodeSocksLogin({ username: "ab", password: "xyz" })),
    "0102616203" + "78797a",
  );
  assertEquals(
    toHex(encodeSocksConnect({ host: "192.0.2.1", port: 443 })),
    "05010001" + "c0000201" + "01bb",
  );
  assertEquals(
    toHex(encodeSocksConnect({ host: "2001:db8::1", port: 80 })),
    "05010004" + "20010db8000000000000000000000001" + "0050",
  );
  assertEquals(
    toHex(encodeSocksConnect({ host: "abc.de", port: 258 })),
    "05010003" + "06" + "6162632e6465" + "0102",
  );
  for (const username of ["", "x".repeat(256)]) {
    assertThrows(() => encodeSocksLogin({ username, password: "x" }), RangeError);
  }
});

Deno.test("SOCKS5 answers are read to their last byte, and no further", () => {
  const success = [5, 0, 0, 1, 192, 0, 2, 1, 0, 80];
  const named = [5, 5, 0, 3, 2, 0x61, 0x62, 0, 80];
  const ipv6 = [5, 2, 0, 4, ...new Array(16).fill(0), 0, 0];
  for (const [bytes, code] of [[success, 0], [named, 5], [ipv6, 2]] as const) {
    const glued = new Uint8Array([...bytes, 7, 7]);
    assertEquals(decodeSocksAnswer(glued), { kind: "message", code, byteLength: bytes.length });
    for (let length = 0; length < bytes.length; length++) {
      const decoded = decodeSocksAnswer(glued.subarray(0, length));
      const needed = length < 5 ? 5 : bytes.length;
      assertEquals(decoded, { kind: "incomplete", neededLength: needed });
    }
  }
  assertEquals(decodeSocksMethod(new Uint8Array([5])), { kind: "incomplete", neededLength: 2 });
  assertEquals(decodeSocksMethod(new Uint8Array([5, 0xff])), {
    kind: "message",
    method: "refused",
    byteLength: 2,
  });
  assertEquals(decodeSocksLoginAnswer(new Uint8Array([1, 1])), {
    kind: "message",
    isAccepted: false,
    byteLength: 2,
  });
});

Deno.test("what is no SOCKS5 is rejected at its first byte", () => {
  const decoders = [decodeSocksMethod, decodeSocksLoginAnswer, decodeSocksAnswer];
  for (const decode of decoders) {
    for (const text of ["H", "\0"]) {
      assertThrows(() => decode(bytesOf(text)), MalformedMessageError);
    }
  }
  assertThrows(() => decodeSocksMethod(new Uint8Array([5, 1])), MalformedMessageError);
  assertThrows(() => decodeSocksAnswer(new Uint8Array([5, 0, 0, 9, 9])), MalformedMessageError);
});
