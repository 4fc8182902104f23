import { assert, assertEquals } from "@std/assert";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { answerBinding, type Arrival, refuseBinding } from "../../lib/stun/server/binding.ts";
import { BINDING, getAttribute, type StunMessage } from "../../lib/stun/message.ts";

const A1P1 = { ip: "192.0.2.1", port: 3478 };
const A2P2 = { ip: "192.0.2.2", port: 3479 };
const CLIENT = { ip: "198.51.100.7", port: 40_000 };
const ARRIVAL: Arrival = { transport: "udp", source: CLIENT, destination: A1P1, other: A2P2 };
const ONE_ADDRESS: Arrival = { ...ARRIVAL, other: undefined };

function request(...attributes: StunAttribute[]): StunMessage {
  return { class: "request", method: BINDING, transactionId: new Uint8Array(12), attributes };
}

function rfc3489Request(...attributes: StunAttribute[]): StunMessage {
  return { ...request(...attributes), transactionId: new Uint8Array(16) };
}

function changeRequest(changeIp: boolean, changePort: boolean): StunAttribute {
  return { type: "CHANGE-REQUEST", value: { changeIp, changePort } };
}

function errorCode(message: StunMessage, arrival = ARRIVAL): number | undefined {
  const { response } = answerBinding(message, arrival)!;
  return getAttribute(response, "ERROR-CODE")?.code;
}

Deno.test("answerBinding() returns all four addresses of RFC 5780, the most useful first", () => {
  const answer = answerBinding(request(), ARRIVAL);
  assertEquals(answer?.response.attributes, [
    { type: "XOR-MAPPED-ADDRESS", value: CLIENT },
    { type: "OTHER-ADDRESS", value: A2P2 },
    { type: "RESPONSE-ORIGIN", value: A1P1 },
    { type: "MAPPED-ADDRESS", value: CLIENT },
  ]);
  assertEquals(answer?.from, A1P1);
  assertEquals(answer?.to, CLIENT);
  assertEquals(answer?.limited, false);
});

Deno.test("answerBinding() returns the other address relative to the one that received the request", () => {
  const other = { ip: "192.0.2.1", port: 3479 };
  const answer = answerBinding(request(), {
    ...ARRIVAL,
    destination: { ip: "192.0.2.2", port: 3478 },
    other,
  });
  assertEquals(getAttribute(answer!.response, "OTHER-ADDRESS"), other);
});

Deno.test("answerBinding() sends from the addresses in table 1 of RFC 5780", () => {
  const from = (changeIp: boolean, changePort: boolean) => {
    const answer = answerBinding(request(changeRequest(changeIp, changePort)), ARRIVAL)!;
    assertEquals(getAttribute(answer.response, "RESPONSE-ORIGIN"), answer.from);
    assertEquals(getAttribute(answer.response, "OTHER-ADDRESS"), A2P2);
    assertEquals(answer.limited, changeIp || changePort);
    return answer.from;
  };
  assertEquals(from(false, false), A1P1);
  assertEquals(from(true, false), { ip: "192.0.2.2", port: 3478 });
  assertEquals(from(false, true), { ip: "192.0.2.1", port: 3479 });
  assertEquals(from(true, true), A2P2);
});

Deno.test("answerBinding() honours RESPONSE-PORT, alone and with CHANGE-REQUEST", () => {
  const responsePort: StunAttribute = { type: "RESPONSE-PORT", value: 41_000 };
  const alone = answerBinding(request(responsePort), ARRIVAL)!;
  assertEquals([alone.from, alone.to], [A1P1, { ip: CLIENT.ip, port: 41_000 }]);
  assert(alone.limited);
  const both = answerBinding(request(responsePort, changeRequest(true, true)), ARRIVAL)!;
  assertEquals([both.from, both.to], [A2P2, { ip: CLIENT.ip, port: 41_000 }]);
  assertEquals(getAttribute(both.response, "XOR-MAPPED-ADDRESS"), CLIENT);
});

Deno.test("answerBinding() refuses RESPONSE-PORT with PADDING, and port 0", () => {
  const padding: StunAttribute = { type: "PADDING", value: new Uint8Array(1500) };
  assertEquals(errorCode(request({ type: "RESPONSE-PORT", value: 41_000 }, padding)), 400);
  assertEquals(errorCode(request({ type: "RESPONSE-PORT", value: 0 })), 400);
  assertEquals(answerBinding(request(padding), ARRIVAL)?.padding, true);
  assertEquals(answerBinding(request(padding), ARRIVAL)?.limited, true);
});

Deno.test("answerBinding() refuses over TCP what RFC 5780 allows over UDP only", () => {
  const overTcp = { ...ARRIVAL, transport: "tcp" } as const;
  assertEquals(errorCode(request(changeRequest(true, true)), overTcp), 400);
  assertEquals(errorCode(request({ type: "RESPONSE-PORT", value: 41_000 }), overTcp), 400);
  assertEquals(errorCode(request({ type: "PADDING", value: new Uint8Array(4) }), overTcp), 400);
  assertEquals(errorCode(request(), overTcp), undefined);
});

Deno.test("answerBinding() with one address has no OTHER-ADDRESS and answers CHANGE-REQUEST with 420", () => {
  const answer = answerBinding(request(), ONE_ADDRESS)!;
  assertEquals(getAttribute(answer.response, "OTHER-ADDRESS"), undefined);
  assertEquals(getAttribute(answer.response, "RESPONSE-ORIGIN"), A1P1);
  const refusal = answerBinding(request(changeRequest(false, false)), ONE_ADDRESS)!;
  assertEquals(refusal.response.attributes, [
    { type: "ERROR-CODE", value: { code: 420, reason: "" } },
    { type: "UNKNOWN-ATTRIBUTES", value: [0x0003] },
  ]);
});

Deno.test("answerBinding() lists unknown comprehension-required attributes and ignores optional ones", () => {
  const value = new Uint8Array(4);
  const answer = answerBinding(
    request({ type: 0x7f00, value }, { type: 0xff00, value }, { type: 0x0019, value }),
    ARRIVAL,
  )!;
  assertEquals(getAttribute(answer.response, "ERROR-CODE")?.code, 420);
  assertEquals(getAttribute(answer.response, "UNKNOWN-ATTRIBUTES"), [0x7f00, 0x0019]);
  assertEquals(errorCode(request({ type: 0xff00, value })), undefined);
});

Deno.test("answerBinding() treats the attributes of RFC 3489 that RFC 8489 reserves as unknown", () => {
  assertEquals(errorCode(request({ type: "RESPONSE-ADDRESS", value: CLIENT })), 420);
  assertEquals(errorCode(request({ type: "CHANGED-ADDRESS", value: CLIENT })), 420);
});

Deno.test("answerBinding() does not require credentials, and ignores any", () => {
  const credentials: StunAttribute[] = [
    { type: "USERNAME", value: "user" },
    { type: "MESSAGE-INTEGRITY", value: new Uint8Array(20) },
  ];
  assertEquals(errorCode(request(...credentials)), undefined);
});

Deno.test("answerBinding() answers requests without a cookie as RFC 3489 specifies", () => {
  const answer = answerBinding(rfc3489Request(changeRequest(true, true)), ARRIVAL)!;
  assertEquals(answer.response.transactionId.length, 16);
  assertEquals(answer.response.attributes, [
    { type: "MAPPED-ADDRESS", value: CLIENT },
    { type: "CHANGED-ADDRESS", value: A2P2 },
    { type: "SOURCE-ADDRESS", value: A2P2 },
  ]);
});

Deno.test("answerBinding() with one address answers an RFC 3489 CHANGE-REQUEST without flags", () => {
  assertEquals(errorCode(rfc3489Request(changeRequest(false, false)), ONE_ADDRESS), undefined);
  assertEquals(errorCode(rfc3489Request(changeRequest(true, false)), ONE_ADDRESS), 420);
});

Deno.test("answerBinding() honours RESPONSE-ADDRESS only for the IP address of the source", () => {
  const own = { ip: CLIENT.ip, port: 41_000 };
  const answer = answerBinding(rfc3489Request({ type: "RESPONSE-ADDRESS", value: own }), ARRIVAL)!;
  assertEquals(answer.to, own);
  assert(answer.limited);
  const victim = { ip: "203.0.113.66", port: 53 };
  const refused = rfc3489Request({ type: "RESPONSE-ADDRESS", value: victim });
  assertEquals(errorCode(refused), 400);
  assertEquals(answerBinding(refused, ARRIVAL)?.to, CLIENT);
});

Deno.test("answerBinding() adds a FINGERPRINT if the request has one", () => {
  assertEquals(
    answerBinding(request({ type: "FINGERPRINT", value: 0 }), ARRIVAL)?.fingerprint,
    true,
  );
  assertEquals(answerBinding(request(), ARRIVAL)?.fingerprint, false);
});

Deno.test("answerBinding() leaves out a RESPONSE-ORIGIN that is a wildcard", () => {
  const answer = answerBinding(request(), {
    ...ONE_ADDRESS,
    destination: { ip: "0.0.0.0", port: 3478 },
  })!;
  assertEquals(answer.response.attributes.map(({ type }) => type), [
    "XOR-MAPPED-ADDRESS",
    "MAPPED-ADDRESS",
  ]);
});

Deno.test("answerBinding() ignores indications, responses and other methods", () => {
  for (const kind of ["indication", "success", "error"] as const) {
    assertEquals(answerBinding({ ...request(), class: kind }, ARRIVAL), undefined);
  }
  assertEquals(answerBinding({ ...request(), method: 0x003 }, ARRIVAL), undefined);
});

Deno.test("refuseBinding() returns the response the way the request came", () => {
  const answer = refuseBinding(request(changeRequest(true, true)), ARRIVAL, 500);
  assertEquals([answer.from, answer.to, answer.limited], [A1P1, CLIENT, false]);
});
