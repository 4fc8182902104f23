/**
 * Compares our codec with npm's `stun` 2.1.0. In each group both do the same work: from plain values to bytes, or
 * from bytes to the mapped address. HMAC-SHA1, which is OpenSSL's on both sides, is measured alone as well: no codec that
 * computes it can be faster.
 *
 * `stun` brings almost a hundred packages, so this folder has a configuration and a lock file of its own: `deno bench -A
 * --config bench/npm_stun/deno.json bench/npm_stun`.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
import npmStun from "stun";
import { shortTermKey } from "../../lib/stun/credentials.ts";
import { BINDING, decodeMessage, encodeMessage, getAttribute } from "../../lib/stun/message.ts";
import {
  SAMPLE_IPV4_RESPONSE,
  SAMPLE_IPV6_RESPONSE,
  SHORT_TERM_PASSWORD,
} from "../../tests/vectors/stun_rfc.ts";

const transactionId = crypto.getRandomValues(new Uint8Array(12));
const npmTransactionId = Buffer.from(transactionId);
const { STUN_BINDING_REQUEST, STUN_BINDING_RESPONSE, STUN_ATTR_XOR_MAPPED_ADDRESS } =
  npmStun.constants;
const key = shortTermKey(SHORT_TERM_PASSWORD);
const request = { class: "request", method: BINDING, transactionId } as const;

bench("encode request", "punchline", () => {
  encodeMessage({ ...request, attributes: [] });
});
bench("encode request", "npm stun", () => {
  npmStun.encode(npmStun.createMessage(STUN_BINDING_REQUEST, npmTransactionId));
});

const RESPONSE = "encode response";
const mapped = { ip: "192.0.2.1", port: 32853 };
bench(RESPONSE, "punchline", () => {
  const attributes = [{ type: "XOR-MAPPED-ADDRESS", value: mapped }] as const;
  encodeMessage({ class: "success", method: BINDING, transactionId, attributes });
});
bench(RESPONSE, "npm stun", () => {
  const response = npmStun.createMessage(STUN_BINDING_RESPONSE, npmTransactionId);
  response.addXorAddress(mapped.ip, mapped.port);
  npmStun.encode(response);
});

const INTEGRITY = "encode request with integrity";
bench(INTEGRITY, "punchline", () => {
  const attributes = [{ type: "SOFTWARE", value: "test client" }] as const;
  encodeMessage({ ...request, attributes }, {
    integrity: { algorithm: "sha1", key },
    fingerprint: true,
  });
});
bench(INTEGRITY, "HMAC alone", () => {
  createHmac("sha1", key).update(SAMPLE_IPV4_RESPONSE).digest();
});
bench(INTEGRITY, "npm stun", () => {
  const message = npmStun.createMessage(STUN_BINDING_REQUEST, npmTransactionId);
  message.addSoftware("test client");
  message.addMessageIntegrity(SHORT_TERM_PASSWORD);
  message.addFingerprint();
  npmStun.encode(message);
});

for (
  const [group, bytes] of [
    ["decode IPv4 response", SAMPLE_IPV4_RESPONSE],
    ["decode IPv6 response", SAMPLE_IPV6_RESPONSE],
  ] as const
) {
  const npmBytes = Buffer.from(bytes);
  bench(group, "punchline", () => {
    getAttribute(decodeMessage(bytes), "XOR-MAPPED-ADDRESS");
  });
  bench(group, "npm stun", () => {
    npmStun.decode(npmBytes).getAttribute(STUN_ATTR_XOR_MAPPED_ADDRESS).value;
  });
}

function bench(group: string, name: string, fn: () => void): void {
  Deno.bench({ name: `${group}: ${name}`, group, baseline: name === "npm stun", fn });
}
