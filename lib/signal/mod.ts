/**
 * Carries the few messages that two peers exchange before they are connected: signaling connections and channels, and a
 * rendezvous server over WebSocket.
 *
 * ```ts
 * import { openWebSocketChannel, serveRendezvous } from "@punchline/punchline/signal";
 * import { systemNetwork } from "@punchline/punchline/net";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = await serveRendezvous({
 *   network: systemNetwork,
 *   local: { ip: "127.0.0.1", port: 0 },
 * });
 * await using a = await openWebSocketChannel(server.url, "kitchen");
 * await using b = await openWebSocketChannel(server.url, "kitchen");
 * await a.send(new TextEncoder().encode("hello"));
 * assertEquals(new TextDecoder().decode(await b.receive()), "hello");
 * ```
 *
 * @module
 */

export type { ConnectionLimits } from "../net/source.ts";
export type { TurnLimits } from "./rendezvous/fair_turns.ts";
export { MAX_SIGNAL_BYTES, type SignalChannel } from "./channel.ts";
export type {
  OpenSignalingOptions,
  SignalingConnection,
  SignalingState,
  SignalTransport,
} from "./transport.ts";
export { DEFAULT_SIGNALING, openSignaling, parseSignalUrl } from "./open.ts";
export { lanTransport } from "./lan.ts";
export { manualTransport, type ManualTransportOptions } from "./manual.ts";
export { webSocketTransport } from "./rendezvous/transport.ts";
export {
  openWebSocketChannel,
  WebSocketChannel,
  type WebSocketChannelOptions,
} from "./rendezvous/channel.ts";
export { agreeOnRole } from "./role.ts";
export {
  DEFAULT_RENDEZVOUS_LIMITS,
  type RendezvousCounters,
  type RendezvousLimits,
  type RendezvousOptions,
  type RendezvousServer,
  serveRendezvous,
} from "./rendezvous/server.ts";
export type { SourceCounts } from "../net/source.ts";
export type { RendezvousBus } from "./rendezvous/bus.ts";
export type { NumberShare } from "./rendezvous/numbers.ts";
export type { RelayClient, RelayLimits, RelayPlaces } from "./rendezvous/relay.ts";
export type { RelayPairLimits } from "./rendezvous/relay_pairs.ts";
export type { RoomLimits } from "./rendezvous/rooms.ts";
export type { SessionLimits } from "./rendezvous/session.ts";
export type { TopicLimits } from "./rendezvous/topics.ts";
export type {
  MalformedMessageError,
  PunchlineError,
  PunchlineErrorOptions,
} from "../base/errors.ts";
export type { Logger } from "../base/logger.ts";
export type { IpFamily, TransportAddress } from "../net/address.ts";
export type * from "../net/network.ts";
