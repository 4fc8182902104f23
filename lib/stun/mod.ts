/**
 * STUN (RFC 8489, with RFC 5780 and RFC 3489): a client, a server, and the messages between them.
 *
 * ```ts
 * import { systemNetwork } from "@punchline/punchline/net";
 * import { serveStun, stunBinding } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * // A server on this host, for the example. Usually you name one, such as "stun.example.org".
 * await using server = await serveStun({
 *   network: systemNetwork,
 *   address: "127.0.0.1",
 *   alternateAddress: "127.0.0.2",
 *   port: 0,
 *   alternatePort: 0,
 * });
 *
 * const { mapped } = await stunBinding(`127.0.0.1:${server.addresses[0]!.port}`);
 * assertEquals(mapped.ip, "127.0.0.1"); // there is no NAT between this host and itself
 * ```
 *
 * Messages are plain values. {@linkcode encodeMessage} and {@linkcode decodeMessage} do no I/O:
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

export type {
  NamedStunAttribute,
  RawStunAttribute,
  StunAttribute,
  StunAttributeName,
  StunAttributeValues,
} from "./attributes.ts";
export type {
  ChangeRequest,
  PasswordAlgorithm,
  Rfc3489AttributeValues,
  Rfc5780AttributeValues,
  Rfc8489AttributeValues,
  StunErrorCode,
} from "./attribute_tables.ts";
export type {
  AddressErrorCode,
  EvenPort,
  IcmpReport,
  TurnAttributeValues,
} from "./turn_attributes.ts";
export type { ConnectionLimits } from "../net/source.ts";
export {
  FAST_BINDING_WAITS_MS,
  type RequestBindingOptions,
  RFC8489_WAITS_MS,
  type StunBinding,
} from "./client.ts";
export { type LongTermCredential, longTermKey, shortTermKey, userHash } from "./credentials.ts";
export {
  type MessageIntegrity,
  type Verification,
  verifyFingerprint,
  verifyIntegrity,
} from "./integrity.ts";
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
export {
  DEFAULT_SERVER_LIMITS,
  serveStun,
  type StunServer,
  type StunServerLimits,
  type StunServerOptions,
} from "./server/server.ts";
export type { StunServerCounters } from "./server/endpoints.ts";
export type { TcpLimits } from "./server/tcp.ts";
export type { UdpLimits } from "./server/udp.ts";
export { stunBinding, type StunBindingOptions } from "./stun_binding.ts";
export {
  type TcpFilterEvidence,
  type TcpFilterOptions,
  type TcpFilterReport,
  testTcpFilter,
} from "./tcp_filter/client.ts";
export type {
  DialOutcome,
  DialResult,
  TcpFilterResult,
  UnsolicitedSyn,
} from "./tcp_filter/message.ts";
export type { TcpFilterLimits } from "./tcp_filter/service.ts";
export type { StunTransport } from "./transport.ts";
export type { Rate } from "../base/rate_limiter.ts";
export type { IpFamily, TransportAddress } from "../net/address.ts";
export type { Logger } from "../base/logger.ts";
export type * from "../net/network.ts";
