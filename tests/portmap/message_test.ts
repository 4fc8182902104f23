import { assertEquals, assertThrows } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  decodeNatPmpRequest,
  decodeNatPmpResponse,
  encodeNatPmpRequest,
  encodeNatPmpResponse,
} from "../../lib/portmap/nat_pmp/message.ts";
import {
  decodePcpRequest,
  decodePcpResponse,
  encodePcpRequest,
  encodePcpResponse,
  type PcpRequest,
} from "../../lib/portmap/pcp/message.ts";
import { NAT_PMP_REQUESTS, NAT_PMP_RESPONSES } from "../vectors/nat_pmp_messages.ts";
import { NAT_PMP_ONLY, PCP_REQUESTS, PCP_RESPONSES } from "../vectors/pcp_messages.ts";
import { fromHex } from "../vectors/stun_hex.ts";

for (const { name, bytes, message } of PCP_REQUESTS) {
  Deno.test(`encodePcpRequest() writes the bytes of RFC 6887: ${name}`, () => {
    assertEquals(encodePcpRequest(message), bytes);
    assertEquals(decodePcpRequest(bytes), message);
  });
}

for (const { name, bytes, message } of PCP_RESPONSES) {
  Deno.test(`decodePcpResponse() reads what miniupnpd wrote: ${name}`, () => {
    assertEquals(decodePcpResponse(bytes), message);
    assertEquals(encodePcpResponse(message), bytes);
  });
}

for (const { name, bytes, message } of NAT_PMP_REQUESTS) {
  Deno.test(`encodeNatPmpRequest() writes the bytes that others write: ${name}`, () => {
    assertEquals(encodeNatPmpRequest(message), bytes);
    assertEquals(decodeNatPmpRequest(bytes), message);
  });
}

for (const { name, bytes, message } of NAT_PMP_RESPONSES) {
  Deno.test(`decodeNatPmpResponse() reads what others wrote: ${name}`, () => {
    assertEquals(decodeNatPmpResponse(bytes), message);
    assertEquals(encodeNatPmpResponse(message), bytes);
  });
}

Deno.test("decodePcpResponse() reads the 8 bytes with which a NAT-PMP router refuses PCP", () => {
  const { version, resultCode, body } = decodePcpResponse(NAT_PMP_ONLY);
  assertEquals([version, resultCode, body.opcode], [0, 1, 1]);
});

Deno.test("decodePcpResponse() reads a view into a larger buffer", () => {
  const { bytes, message } = PCP_RESPONSES[1]!;
  const larger = new Uint8Array(bytes.length + 7);
  larger.set(bytes, 3);
  assertEquals(decodePcpResponse(larger.subarray(3, 3 + bytes.length)), message);
});

Deno.test("decodePcpResponse() keeps unknown options", () => {
  const { bytes, message } = PCP_RESPONSES[1]!;
  const option = { type: 0x81, data: fromHex("aabbcc") };
  const longer = fromHex(`${toHex(bytes)} 81 00 0003 aabbcc 00`);
  assertEquals(decodePcpResponse(longer), { ...message, options: [option] });
});

Deno.test("decodePcpResponse() ignores reserved bits", () => {
  const { bytes, message } = PCP_RESPONSES[1]!;
  const odd = bytes.slice();
  for (const at of [2, 12, 23, 37, 39]) odd[at] = 0xff;
  assertEquals(decodePcpResponse(odd), message);
});

const malformedResponses: Readonly<Record<string, string>> = {
  "nothing": "",
  "a truncated header": "0280 0000 00000000 00000001",
  "a request": "0200 0000 00000000 00000000000000000000ffffc0a80102",
  "a success without its mapping": "0281 0000 00000e10 00000001 000000000000000000000000",
  "bytes that are no whole words": "0280 0000 00000000 00000001 000000000000000000000000 00",
  "an option that is too long":
    "0280 0000 00000000 00000001 000000000000000000000000 01 00 0010 00000000",
  "a THIRD_PARTY option of 4 bytes":
    "0280 0000 00000000 00000001 000000000000000000000000 01 00 0004 c0a80102",
  "a PREFER_FAILURE option with data":
    "0280 0000 00000000 00000001 000000000000000000000000 02 00 0004 00000000",
  "more than 1100 bytes": "0280 0000 00000000 00000001 " + "00".repeat(1100),
};
for (const [what, hex] of Object.entries(malformedResponses)) {
  Deno.test(`decodePcpResponse() rejects ${what}`, () => {
    assertThrows(() => decodePcpResponse(fromHex(hex)), MalformedMessageError);
  });
}

Deno.test("decodePcpRequest() rejects a response", () => {
  assertThrows(() => decodePcpRequest(PCP_RESPONSES[0]!.bytes), MalformedMessageError, "opcode");
});

Deno.test("encodePcpRequest() rejects a nonce of 11 bytes", () => {
  const { message } = PCP_REQUESTS[1]!;
  const body = { ...message.body, nonce: new Uint8Array(11) } as PcpRequest["body"];
  assertThrows(() => encodePcpRequest({ ...message, body }), RangeError, "nonce");
});

Deno.test("encodePcpRequest() rejects more than 1100 bytes", () => {
  const { message } = PCP_REQUESTS[1]!;
  const options = [{ type: 200, data: new Uint8Array(1040) }];
  assertThrows(() => encodePcpRequest({ ...message, options }), RangeError, "1100");
});

const malformedNatPmp: Readonly<Record<string, string>> = {
  "nothing": "",
  "a truncated header": "0080 0000 0000",
  "a request": "0002 0000 1f90 1f90 00000e10",
  "a truncated external address": "0080 0000 00000001 2c0000",
  "a truncated lifetime": "0082 0000 00000001 1f90 1f90 000e10",
  "a mapping with trailing bytes": "0082 0000 00000001 1f90 1f90 00000e10 00",
  "success in another version": "0280 0000 00000001 2c000007",
  "success of an unknown opcode": "0083 0000 00000001 1f90 1f90 00000e10",
};
for (const [what, hex] of Object.entries(malformedNatPmp)) {
  Deno.test(`decodeNatPmpResponse() rejects ${what}`, () => {
    assertThrows(() => decodeNatPmpResponse(fromHex(hex)), MalformedMessageError);
  });
}

Deno.test("decodeNatPmpResponse() reads a refusal of any length", () => {
  const refusal = { version: 0, opcode: "map-tcp", resultCode: 2, epochSeconds: 9 } as const;
  assertEquals(decodeNatPmpResponse(fromHex("0082 0002 00000009")), refusal);
  assertEquals(decodeNatPmpResponse(fromHex("0082 0002 00000009 1f90 0000 00000000")), refusal);
});

for (const hex of ["", "00", "0200", "0003", "000000", "0001 0000 1f90 1f90 000e10"]) {
  Deno.test(`decodeNatPmpRequest() rejects ${hex || "nothing"}`, () => {
    assertThrows(() => decodeNatPmpRequest(fromHex(hex)), MalformedMessageError);
  });
}
