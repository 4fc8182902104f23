/**
 * Punchline gets two machines connected to each other, whatever stands between them, and says why where it cannot.
 *
 * ```ts ignore
 * import { mapPort, Peer, punch, testNat } from "@punchline/punchline";
 *
 * await using peer = await Peer.open({ signaling: ["ws://192.0.2.1:3480"] });
 * console.log(peer.ticket); // what the other side needs to reach this one
 * await using connection = await peer.connect(ticket); // a Deno.Conn, encrypted, to the owner of a ticket
 *
 * const report = await testNat(); // which NAT is this host behind
 * console.log(report.verdict.summary);
 *
 * await using mapping = await mapPort({ protocol: "tcp", internalPort: 8080 });
 * console.log(mapping.external, mapping.verdict.evidence);
 *
 * const conn = await punch({ channel, role: "controlling" }); // TCP through two NATs, over any SignalChannel
 * console.log(conn.punch.plan.reason);
 * ```
 *
 * Relays, STUN, signalling and files have entry points of their own: `./turn`, `./stun`, `./signal`, `./transfer`.
 *
 * @module
 */

export * from "./lib/base/errors.ts";
export {
  type ConnectOptions,
  IncomingConnection,
  Peer,
  PeerConnection,
  type PeerEvent,
  type PeerOptions,
  type PeerPath,
  type RelayServer,
  type Strategy,
} from "./lib/peer/mod.ts";
export type { Logger } from "./lib/base/logger.ts";
export * from "./lib/nat/mod.ts";
export { mapPort, type MapPortOptions } from "./lib/portmap/map_port.ts";
export type { MappingEvent, MappingReport, PortMapping } from "./lib/portmap/mapping.ts";
export { type MappingAttempt, NoMappingError } from "./lib/portmap/mapper.ts";
export type { OuterGateway } from "./lib/portmap/candidate_mappers.ts";
export type { MapperName, MappingGrant } from "./lib/portmap/mapper.ts";
export type { MappingVerdict, MappingVerdictKind } from "./lib/portmap/verdict.ts";
export {
  type BaseSocket,
  preparePunch,
  type PreparePunchOptions,
  punch,
  type PunchedConn,
  type PunchOptions,
  type PunchReport,
  type PunchRole,
} from "./lib/punch/mod.ts";
export type { SignalChannel } from "./lib/signal/channel.ts";
export type { DenoConn, NetAddress } from "./lib/net/deno_conn.ts";
