/**
 * Peers: two programs get one encrypted connection, whatever is between them, with a ticket that one has from the other.
 *
 * ```ts ignore
 * import { Peer } from "@punchline/punchline/peer";
 *
 * // One side listens, and shows its ticket.
 * await using peer = await Peer.open({ signaling: ["ws://192.0.2.1:3480"] });
 * console.log(peer.ticket);
 * const server = peer.serve((conn) => conn.readable.pipeTo(conn.writable));
 * await server.finished;
 *
 * // The other side connects.
 * await using other = await Peer.open({ listen: false });
 * await using conn = await other.connect(ticket);
 * console.log(conn.path.kind, conn.remoteId);
 * ```
 *
 * @module
 */

export {
  type Attempt,
  type CandidatePair,
  type ConnectionAttempt,
  MalformedMessageError,
  NetworkError,
  type NetworkErrorReason,
  NoResponseError,
  PunchlineError,
  type PunchlineErrorOptions,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
export type { Logger } from "../base/logger.ts";
export {
  PATH_KINDS,
  type PathKind,
  PUNCH_METHODS,
  type PunchMethodName,
} from "../base/path_kind.ts";
export type {
  Behavior,
  BehaviorVerdict,
  FamilyDetails,
  FamilyReport,
  Finding,
  FindingKind,
  PortAllocation,
  PortAllocationDetails,
  UnsolicitedSyn,
} from "../nat/behavior.ts";
export type { IpFamily, TransportAddress } from "../net/address.ts";
export type {
  ByteStream,
  DenoAddress,
  DenoConn,
  DenoConnLike,
  NetAddress,
} from "../net/deno_conn.ts";
export type * from "../net/network.ts";
export type { ProxyOptions } from "../net/proxy/client.ts";
export type { SessionRole } from "../session/migration_engine.ts";
export type * from "../session/options.ts";
export type { Session } from "../session/session.ts";
export type { SessionStream, StreamOptions, StreamOwner } from "../session/stream.ts";
export type { StreamEvent } from "../session/stream_engine.ts";
export type { StreamSession } from "../session/streams.ts";
export type {
  ReceiveStream,
  ReceiveStreamOptions,
  Window,
  WindowSource,
} from "../session/receive_stream.ts";
export type { SignalChannel } from "../signal/channel.ts";
export type {
  OpenSignalingOptions,
  SignalingConnection,
  SignalingState,
  SignalTransport,
} from "../signal/transport.ts";
export type { LongTermCredential } from "../stun/credentials.ts";
export type { CodeEvent } from "../code/offer.ts";
export type { CodeOffer } from "./codes.ts";
export {
  type ConnectionEvent,
  PeerConnection,
  type PeerEvent,
  type PeerPath,
} from "./connection.ts";
export {
  forward,
  type ForwardOptions,
  type ForwardTarget,
  forwardUdp,
  serveForwards,
  type ServeForwardsOptions,
} from "./forward.ts";
export { FORWARD_CODES, type ForwardEvent } from "./forward_outcome.ts";
export type { DatagramCarrier, UdpFront } from "./forward_udp.ts";
export { IncomingConnection } from "./incoming.ts";
export {
  type AllowUrl,
  type CodeOptions,
  type ConnectOptions,
  PEER_TIMINGS,
  type PeerOptions,
  type PeerProgress,
  type PeerTimings,
  type RelayServer,
} from "./options.ts";
export { STRATEGIES, type Strategy } from "../punch/path_kinds.ts";
export type { PathReport } from "./path_search.ts";
export { Peer } from "./peer.ts";
export {
  type ConnectionHandler,
  type ConnectionServer,
  type ServeOptions,
  type VisitorSource,
} from "./server.ts";
export { REJECTION_CODES } from "./rejection.ts";
export { decodeTicket, encodeTicket, type Ticket } from "./ticket.ts";
export type { TicketOptions } from "./tickets.ts";
