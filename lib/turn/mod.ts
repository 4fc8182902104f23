/**
 * A TURN client (RFC 8656, RFC 6062, RFC 8016): it opens a relayed address at a server, for datagrams or byte streams
 * between hosts that cannot reach each other directly.
 *
 * ```ts ignore
 * import { openRelay, openStreamRelay } from "@punchline/punchline/turn";
 *
 * const credential = { username: "ann", password: "secret" };
 *
 * // Datagrams: a UDP socket at the server.
 * await using datagrams = await openRelay("turn:turn.example.org", { credential });
 * await datagrams.socket.send(new TextEncoder().encode("hello"), { ip: "192.0.2.1", port: 9000 });
 *
 * // Streams: TCP connections that the server makes and accepts.
 * await using streams = await openStreamRelay("turns:turn.example.org", { credential });
 * using connection = await streams.connect({ ip: "192.0.2.1", port: 9000 });
 * ```
 *
 * Relayed addresses are refreshed while they are open, and released when they are disposed.
 *
 * @module
 */

export type { AllocationRequest } from "./allocation.ts";
export type { DatagramOptions, DatagramRelay } from "./datagram_relay.ts";
export {
  type OpenDatagramRelayOptions,
  openRelay,
  type OpenRelayOptions,
  openStreamRelay,
  type OpenStreamRelayOptions,
} from "./open_relay.ts";
export { RFC8656_TIMINGS, type TurnTimings } from "./protocol.ts";
export type { Relay } from "./relay.ts";
export type { StreamRelay } from "./stream_relay.ts";
export {
  timeLimitedCredential,
  type TimeLimitedCredentialOptions,
} from "./time_limited_credential.ts";
export { parseTurnUri, type TurnServer } from "./turn_uri.ts";
export type { IpFamily, TransportAddress } from "../net/address.ts";
export type * from "../net/network.ts";
export type { StunErrorCode } from "../stun/attribute_tables.ts";
export type { LongTermCredential } from "../stun/credentials.ts";
export type { StunTransport } from "../stun/transport.ts";
export type { AddressErrorCode, IcmpReport } from "../stun/turn_attributes.ts";
