import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeRelayState, encodeRelayState } from "../../lib/peer/relay_message.ts";

const STATE = {
  nonce: "00112233445566778899aabbccddeeff",
  mayOffer: true,
  refusalCode: 401,
  version: 3,
  acknowledged: 2,
  ips: ["192.0.2.1", "2001:db8::1"],
  relayed: [{ ip: "192.0.2.9", port: 49_152 }],
  rendezvous: [{ id: "0123456789abcdef", rttMs: 51 }, { id: "fedcba9876543210", rttMs: null }],
};

Deno.test("encodeRelayState() writes the JSON that the protocol specifies", () => {
  const json =
    '{"nonce":"00112233445566778899aabbccddeeff","mayOffer":true,"version":3,"heard":2,' +
    '"ips":["192.0.2.1","2001:db8::1"],"relayed":["192.0.2.9:49152"],' +
    '"rendezvous":[{"id":"0123456789abcdef","rttMs":51},{"id":"fedcba9876543210","rttMs":null}],"refusalCode":401}';
  assertEquals(new TextDecoder().decode(encodeRelayState(STATE)), json);
});

Deno.test("a relay state round-trips through encode and decode", () => {
  assertEquals(decodeRelayState(encodeRelayState(STATE)), STATE);
});

Deno.test("a state of a peer that knows no rendezvous has none", () => {
  const old = { nonce: "00".repeat(16), version: 1, heard: 0, ips: [], relayed: [] };
  const bytes = new TextEncoder().encode(JSON.stringify(old));
  assertEquals(decodeRelayState(bytes).rendezvous, []);
});

for (
  const [name, bad] of Object.entries({
    nonce: { nonce: "12" },
    version: { version: -1 },
    heard: { heard: 0.5 },
    ips: { ips: ["example.org"] },
    "too many ips": { ips: Array.from({ length: 9 }, () => "192.0.2.1") },
    relayed: { relayed: ["192.0.2.9"] },
    "rendezvous without an ID": { rendezvous: [{ rttMs: 1 }] },
    "a negative round trip": { rendezvous: [{ id: "00".repeat(8), rttMs: -1 }] },
    "a rendezvous that is null": { rendezvous: [null] },
    "an error code that is none": { refusalCode: 200 },
    "too many rendezvous": {
      rendezvous: Array.from({ length: 5 }, () => ({ id: "00".repeat(8), rttMs: 1 })),
    },
  })
) {
  Deno.test(`decodeRelayState() rejects a state with an invalid field: ${name}`, () => {
    const good = { nonce: "00".repeat(16), version: 1, heard: 0, ips: [], relayed: [] };
    const bytes = new TextEncoder().encode(JSON.stringify({ ...good, ...bad }));
    assertThrows(() => decodeRelayState(bytes), MalformedMessageError);
  });
}

Deno.test("decodeRelayState() throws nothing but MalformedMessageError", () => {
  const json = fc.json().map((text) => new TextEncoder().encode(text));
  fc.assert(fc.property(fc.oneof(json, fc.uint8Array()), (bytes) => {
    try {
      decodeRelayState(bytes);
    } catch (error) {
      assert(error instanceof MalformedMessageError, `${error}`);
    }
  }));
});
