/**
 * The STUN messages of probes: what a request asks for, and what a response tells (RFC 5780, and RFC 3489 for old servers).
 *
 * @module
 */

import { ipFamily, ipScope, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import type { StunAttribute } from "../stun/attributes.ts";
import {
  BINDING,
  encodeMessage,
  getAttribute,
  mappedAddress,
  type StunMessage,
  unmapped,
} from "../stun/message.ts";
import type { ProbeSpec, Reply } from "./probe.ts";

/** The Binding request of a probe. */
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

/** The reply in a message; `undefined` if it is not a response or reports an impossible address. */
export function readReply(
  message: StunMessage,
  from: TransportAddress,
  atMs: number,
): Reply | undefined {
  if (message.method !== BINDING) return undefined;
  if (message.class === "error") {
    return { kind: "error", atMs, from, code: getAttribute(message, "ERROR-CODE")?.code ?? 0 };
  }
  const plain = unmappedAttribute(message, "MAPPED-ADDRESS");
  const xored = unmappedAttribute(message, "XOR-MAPPED-ADDRESS") ??
    unmappedAttribute(message, "OLD-XOR-MAPPED-ADDRESS");
  const mapped = mappedAddress(message);
  if (message.class !== "success" || mapped === undefined) return undefined;
  if (!isPlausible(mapped, from)) return undefined;
  const other = unmappedAttribute(message, "OTHER-ADDRESS");
  const changed = unmappedAttribute(message, "CHANGED-ADDRESS");
  const isRewritten = xored !== undefined && plain !== undefined &&
    !sameTransportAddress(xored, plain);
  return {
    kind: "success",
    atMs,
    from,
    mapped,
    other: other ?? changed,
    rewritten: isRewritten ? plain : undefined,
    isRfc3489: other === undefined && changed !== undefined,
  };
}

/** Some servers write IPv4 addresses as IPv4-mapped ones. */
function unmappedAttribute(
  message: StunMessage,
  name:
    | "MAPPED-ADDRESS"
    | "XOR-MAPPED-ADDRESS"
    | "OLD-XOR-MAPPED-ADDRESS"
    | "OTHER-ADDRESS"
    | "CHANGED-ADDRESS",
): TransportAddress | undefined {
  const address = getAttribute(message, name);
  return address && unmapped(address);
}

/** Rejects addresses that this host's packets cannot have come from. */
function isPlausible(mapped: TransportAddress, server: TransportAddress): boolean {
  const scope = ipScope(mapped.ip);
  if (scope === "loopback") return ipScope(server.ip) === "loopback";
  // Behind a NAT64 the server is asked over IPv6, and sees IPv4.
  return scope !== "unspecified" && scope !== "multicast" && mapped.port !== 0 &&
    (ipFamily(mapped.ip) === ipFamily(server.ip) || ipFamily(server.ip) === 6);
}

/**
 * Sent in every request. It is long on purpose: a server that never answers with more bytes than it received then has
 * room for all attributes of RFC 5780, over IPv6 too. Its length is a multiple of four because RFC 3489 has no padding,
 * and its servers refuse other lengths.
 */
export const PROBE_SOFTWARE =
  "Punchline NAT test: a few dozen packets, then silence. (jsr.io/@punchline/punchline)";
