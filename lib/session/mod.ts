/**
 * A byte stream between two peers that moves from path to path without losing a byte, notices when a path is dead, and
 * goes on over another.
 *
 * @module
 */

export { Session, type SessionEvent, type SessionOptions, type SessionRole } from "./session.ts";
export { DEFAULT_SESSION_TIMINGS, type SessionTimings } from "./path.ts";
export type { MalformedMessageError, NetworkError, NetworkErrorReason } from "../base/errors.ts";
export type { TransportAddress } from "../net/address.ts";
export type { DenoConn, NetAddress } from "../net/deno_conn.ts";
export type { TcpConnection } from "../net/network.ts";
export { MAX_SIGNAL_BYTES, type SignalChannel } from "../signal/channel.ts";
