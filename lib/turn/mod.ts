/**
 * TURN (RFC 8656, RFC 6062, RFC 8016): a client that gets a relayed address at a server, for datagrams or for
 * byte streams, where two hosts cannot reach each other.
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
 * // Streams: TCP connections from the server, and to it.
 * await using streams = await openStreamRelay("turns:turn.example.org", { credential });
 * using connection = await streams.connect({ ip: "192.0.2.1", port: 9000 });
 * ```
 *
 * Both are refreshed for as long as they are open, and released when they are disposed.
 *
 * @module
 */

export { type AllocationRequest, type TurnAllocation } from "./allocation.ts";
export {
  type ChannelData,
  decodeChannelData,
  encodeChannelData,
  FIRST_CHANNEL,
  LAST_CHANNEL,
} from "./protocol.ts";
export type { DatagramOptions, DatagramRelay } from "./datagram_relay.ts";
export {
  ALLOCATE,
  CHANNEL_BIND,
  CONNECT,
  CONNECTION_ATTEMPT,
  CONNECTION_BIND,
  CREATE_PERMISSION,
  DATA,
  REFRESH,
  SEND,
} from "./protocol.ts";
export {
  type OpenDatagramRelayOptions,
  openRelay,
  type OpenRelayOptions,
  openStreamRelay,
  type OpenStreamRelayOptions,
} from "./open_relay.ts";
export type { Relay } from "./relay.ts";
export { remedyFor } from "./protocol.ts";
export type { StreamRelay } from "./stream_relay.ts";
export {
  timeLimitedCredential,
  type TimeLimitedCredentialOptions,
} from "./time_limited_credential.ts";
export { RFC8656_TIMINGS, type TurnTimings } from "./protocol.ts";
export { parseTurnUri, type TurnServer } from "./open_relay.ts";
export type { IpFamily, TransportAddress } from "../net/address.ts";
export type * from "../net/network.ts";
export type { LongTermCredential } from "../stun/credentials.ts";
export type { AddressErrorCode, IcmpReport } from "../stun/turn_attributes.ts";
export type { StunErrorCode } from "../stun/attribute_tables.ts";
export type { StunTransport } from "../stun/transport.ts";
