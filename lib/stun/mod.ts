/**
 * STUN (RFC 8489, with RFC 5780 and RFC 3489): a client, a server, and the messages between them.
 *
 * ```ts
 * import { systemNetwork } from "@punchline/punchline/net";
 * import { serveStun, stunBinding } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * // A server of our own; "stun.example.org" would do as well.
 * await using server = await serveStun({
 *   network: systemNetwork,
 *   address: "127.0.0.1",
 *   alternateAddress: "127.0.0.2",
 *   port: 0,
 *   alternatePort: 0,
 * });
 *
 * const { mapped } = await stunBinding(`127.0.0.1:${server.addresses[0]!.port}`);
 * assertEquals(mapped.ip, "127.0.0.1"); // no NAT between this host and itself
 * ```
 *
 * Messages are plain values; {@linkcode encodeMessage} and {@linkcode decodeMessage} do no I/O:
 *
 * ```ts
 * import { BINDING, decodeMessage, encodeMessage, getAttribute } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = encodeMessage({
 *   class: "success",
 *   method: BINDING,
 *   transactionId: crypto.getRandomValues(new Uint8Array(12)),
 *   attributes: [{ type: "XOR-MAPPED-ADDRESS", value: { ip: "192.0.2.1", port: 54321 } }],
 * }, { fingerprint: true });
 *
 * assertEquals(getAttribute(decodeMessage(bytes), "XOR-MAPPED-ADDRESS"), {
 *   ip: "192.0.2.1",
 *   port: 54321,
 * });
 * ```
 *
 * @module
 */

export {
  attributeCode,
  isComprehensionRequired,
  isNamed,
  type NamedStunAttribute,
  type RawStunAttribute,
  type StunAttribute,
  type StunAttributeName,
  type StunAttributeValues,
} from "./attributes.ts";
export {
  FAST_BINDING_WAITS_MS,
  requestBinding,
  type RequestBindingOptions,
  RFC8489_WAITS_MS,
  type StunBinding,
} from "./client.ts";
export {
  type LongTermCredential,
  longTermKey,
  nonceWithFeatures,
  opaqueString,
  type SecurityFeatures,
  securityFeatures,
  shortTermKey,
  userHash,
} from "./credentials.ts";
export type { StunErrorCode } from "./attribute_tables.ts";
export { verifyFingerprint } from "./integrity.ts";

export { type MessageIntegrity, type Verification, verifyIntegrity } from "./integrity.ts";
export {
  BINDING,
  decodeMessage,
  encodeMessage,
  type EncodeMessageOptions,
  getAttribute,
  protectedPart,
  type StunClass,
  type StunMessage,
  unknownRequiredAttributes,
} from "./message.ts";
export type { PasswordAlgorithm } from "./attribute_tables.ts";
export type { Rfc3489AttributeValues } from "./attribute_tables.ts";
export type { ChangeRequest, Rfc5780AttributeValues } from "./attribute_tables.ts";
export type { Rfc8489AttributeValues } from "./attribute_tables.ts";
export type { StunServerCounters } from "./server/endpoints.ts";
export type { TcpFilterLimits } from "./tcp_filter/service.ts";
export type { TcpLimits } from "./server/tcp.ts";
export type {
  AddressErrorCode,
  EvenPort,
  IcmpReport,
  TurnAttributeValues,
} from "./turn_attributes.ts";
export type { UdpLimits } from "./server/udp.ts";
export type { Rate } from "../base/rate_limiter.ts";
export {
  DEFAULT_SERVER_LIMITS,
  serveStun,
  type StunServer,
  type StunServerLimits,
  type StunServerOptions,
} from "./server/server.ts";
export { type TcpFilterOptions, testTcpFilter } from "./tcp_filter/client.ts";
export type {
  DialOutcome,
  DialResult,
  TcpFilterResult,
  UnsolicitedSyn,
} from "./tcp_filter/message.ts";
export type { TcpFilterEvidence, TcpFilterReport } from "./tcp_filter/client.ts";
export { stunBinding, type StunBindingOptions } from "./stun_binding.ts";
export type { StunTransport } from "./transport.ts";
export type { IpFamily, TransportAddress } from "../net/address.ts";
export type * from "../net/network.ts";
