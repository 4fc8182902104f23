/**
 * The STUN messages of a NAT test.
 *
 * @module
 */

import { ipFamily, ipScope, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import type { StunAttribute } from "../stun/attributes.ts";
import { BINDING, encodeMessage, getAttribute, type StunMessage } from "../stun/message.ts";
import type { ProbeSpec, Reply } from "./probe.ts";

/** The request that a probe sends. */
export function encodeProbe(
  spec: ProbeSpec,
  transactionId: Uint8Array,
  options: { isRfc3489: boolean },
): Uint8Array {
  const attributes: StunAttribute[] = [];
  if (spec.test !== "binding") {
    const changeIp = spec.test === "change-address-and-port";
    attributes.push({ type: "CHANGE-REQUEST", value: { changeIp, changePort: true } });
  }
  if (spec.respondTo !== undefined) {
    attributes.push(
      options.isRfc3489
        ? { type: "RESPONSE-ADDRESS", value: spec.respondTo }
        : { type: "RESPONSE-PORT", value: spec.respondTo.port },
    );
  }
  attributes.push({ type: "SOFTWARE", value: PROBE_SOFTWARE });
  return encodeMessage({ class: "request", method: BINDING, transactionId, attributes });
}

/** What a response says, or `undefined` if it is none or says nothing that can be true. */
export function readReply(
  message: StunMessage,
  from: TransportAddress,
  atMs: number,
): Reply | undefined {
  if (message.method !== BINDING) return undefined;
  if (message.class === "error") {
    return { kind: "error", atMs, from, code: getAttribute(message, "ERROR-CODE")?.code ?? 0 };
  }
  const plain = getAttribute(message, "MAPPED-ADDRESS");
  const xored = getAttribute(message, "XOR-MAPPED-ADDRESS");
  const mapped = xored ?? plain;
  if (message.class !== "success" || mapped === undefined) return undefined;
  if (!isPlausible(mapped, from)) return undefined;
  const other = getAttribute(message, "OTHER-ADDRESS");
  const changed = other ?? getAttribute(message, "CHANGED-ADDRESS");
  const isRewritten = xored !== undefined && plain !== undefined &&
    !sameTransportAddress(xored, plain);
  return {
    kind: "success",
    atMs,
    from,
    mapped,
    isRfc3489: other === undefined && changed !== undefined,
    ...changed && { other: changed },
    ...isRewritten && { rewritten: plain },
  };
}

/** No server sees us at an address that packets cannot come from. */
function isPlausible(mapped: TransportAddress, server: TransportAddress): boolean {
  const scope = ipScope(mapped.ip);
  if (scope === "loopback") return ipScope(server.ip) === "loopback";
  return scope !== "unspecified" && scope !== "multicast" && mapped.port !== 0 &&
    ipFamily(mapped.ip) === ipFamily(server.ip);
}

/**
 * Named in every request, and long: a server that answers with no more bytes than it was asked with has then
 * room for all attributes of RFC 5780, over IPv6 too. A multiple of four, because servers of RFC 3489, which
 * knew no padding, refuse other lengths.
 */
export const PROBE_SOFTWARE =
  "Punchline NAT test: a few dozen packets, then silence. (jsr.io/@punchline/punchline)";
