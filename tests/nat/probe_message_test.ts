import { assert, assertEquals } from "@std/assert";
import { encodeProbe, PROBE_SOFTWARE, readReply } from "../../lib/nat/probe_message.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { BINDING, decodeMessage, getAttribute, type StunMessage } from "../../lib/stun/message.ts";
import { A1P1, A2P2, EXTERNAL } from "./probes.ts";

const ID = new Uint8Array(12).fill(7);
const SPEC = { socket: "mapping", server: 0, to: A1P1 } as const;

Deno.test("encodeProbe() requests a change of address and port, of port alone, or none", () => {
  const change = (test: "binding" | "change-address-and-port" | "change-port") =>
    getAttribute(
      decodeMessage(encodeProbe({ ...SPEC, test }, ID, { isRfc3489: false })),
      "CHANGE-REQUEST",
    );
  assertEquals(change("binding"), undefined);
  assertEquals(change("change-port"), { changeIp: false, changePort: true });
  assertEquals(change("change-address-and-port"), { changeIp: true, changePort: true });
});

Deno.test("encodeProbe() directs the answer by port, or by address for RFC 3489 servers", () => {
  const spec = { ...SPEC, test: "change-port", respondTo: EXTERNAL } as const;
  const message = (isRfc3489: boolean) => decodeMessage(encodeProbe(spec, ID, { isRfc3489 }));
  assertEquals(getAttribute(message(false), "RESPONSE-PORT"), EXTERNAL.port);
  assertEquals(getAttribute(message(true), "RESPONSE-ADDRESS"), EXTERNAL);
});

Deno.test("encodeProbe() sends SOFTWARE with a length that RFC 3489 servers accept", () => {
  const message = decodeMessage(
    encodeProbe({ ...SPEC, test: "binding" }, ID, { isRfc3489: false }),
  );
  assertEquals(getAttribute(message, "SOFTWARE"), PROBE_SOFTWARE);
  assertEquals(PROBE_SOFTWARE.length % 4, 0);
});

function response(...attributes: StunAttribute[]): StunMessage {
  return { class: "success", method: BINDING, transactionId: ID, attributes };
}

Deno.test("readReply() prefers XOR-MAPPED-ADDRESS, and reports a MAPPED-ADDRESS that differs", () => {
  const xored: StunAttribute = { type: "XOR-MAPPED-ADDRESS", value: EXTERNAL };
  const same = readReply(response({ type: "MAPPED-ADDRESS", value: EXTERNAL }, xored), A1P1, 5);
  assert(same?.kind === "success");
  assertEquals([same.atMs, same.from, same.mapped], [5, A1P1, EXTERNAL]);
  assertEquals([same.other, same.rewritten, same.isRfc3489], [undefined, undefined, false]);
  const rewritten = readReply(response({ type: "MAPPED-ADDRESS", value: A2P2 }, xored), A1P1, 5);
  assert(rewritten?.kind === "success");
  assertEquals([rewritten.mapped, rewritten.rewritten], [EXTERNAL, A2P2]);
});

Deno.test("readReply() reads answers of RFC 3489 servers", () => {
  const reply = readReply(
    response({ type: "MAPPED-ADDRESS", value: EXTERNAL }, { type: "CHANGED-ADDRESS", value: A2P2 }),
    A1P1,
    5,
  );
  assert(reply?.kind === "success");
  assertEquals([reply.mapped, reply.other, reply.isRfc3489], [EXTERNAL, A2P2, true]);
});

Deno.test("readReply() reads errors, with or without a code", () => {
  const error = (...attributes: StunAttribute[]) =>
    readReply({ ...response(...attributes), class: "error" }, A1P1, 5);
  const coded = error({ type: "ERROR-CODE", value: { code: 420, reason: "" } });
  assertEquals(coded, { kind: "error", atMs: 5, from: A1P1, code: 420 });
  assertEquals(error(), { kind: "error", atMs: 5, from: A1P1, code: 0 });
});

const IMPOSSIBLE = [
  { ip: "0.0.0.0", port: 5000 },
  { ip: "224.0.0.1", port: 5000 },
  { ip: "127.0.0.1", port: 5000 },
  { ip: "2001:db8::1", port: 5000 },
  { ip: "198.51.100.1", port: 0 },
];

for (const value of IMPOSSIBLE) {
  Deno.test(`readReply() ignores the impossible mapped address ${value.ip}, port ${value.port}`, () => {
    assertEquals(readReply(response({ type: "XOR-MAPPED-ADDRESS", value }), A1P1, 5), undefined);
  });
}

Deno.test("readReply() ignores messages that are not Binding responses", () => {
  const mapped: StunAttribute = { type: "XOR-MAPPED-ADDRESS", value: EXTERNAL };
  assertEquals(readReply(response(), A1P1, 5), undefined);
  assertEquals(readReply({ ...response(mapped), class: "indication" }, A1P1, 5), undefined);
  assertEquals(readReply({ ...response(mapped), method: 3 }, A1P1, 5), undefined);
});

Deno.test("readReply() accepts loopback addresses from servers on this machine", () => {
  const loopback = { ip: "127.0.0.1", port: 5000 };
  const message = response({ type: "XOR-MAPPED-ADDRESS", value: loopback });
  assert(readReply(message, { ip: "127.0.0.2", port: 3478 }, 5) !== undefined);
});
