/**
 * Peers: two programs get one encrypted connection, whatever stands between them, by a ticket that one has of the
 * other.
 *
 * ```ts ignore
 * import { Peer } from "@punchline/punchline/peer";
 *
 * // One side listens, and shows its ticket.
 * await using peer = await Peer.open({ signaling: ["ws://192.0.2.1:3480"] });
 * console.log(peer.ticket);
 * for await (const incoming of peer) {
 *   using conn = await incoming.accept();
 *   await conn.readable.pipeTo(conn.writable);
 * }
 *
 * // The other side connects.
 * await using other = await Peer.open();
 * await using conn = await other.connect(ticket);
 * console.log(conn.path.kind, conn.remoteId);
 * ```
 *
 * @module
 */

export { REJECTION_CODES } from "./dialer.ts";
export { IncomingConnection } from "./incoming.ts";
export { Peer } from "./peer.ts";
export { PeerConnection, type PeerEvent, type PeerPath } from "./connection.ts";
export type { ConnectOptions, PeerOptions } from "./options.ts";
export { PEER_TIMINGS, type PeerTimings } from "./options.ts";
export type { RelayServer } from "./options.ts";
export type { PathKind, PunchMethodName } from "../base/path_kind.ts";
export { STRATEGIES, type Strategy } from "./options.ts";
export { decodeTicket, encodeTicket, type Ticket } from "./ticket.ts";
export type { PathReport } from "./paths.ts";
export type { SessionRole } from "../session/migration_engine.ts";
export type { Session, SessionEvent, SessionOptions } from "../session/session.ts";
export type { SessionTimings } from "../session/timings.ts";
export type { SignalingConnection, SignalTransport } from "../signal/transport.ts";
