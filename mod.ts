/**
 * Punchline connects two machines directly, through NATs and firewalls, and reports why if it cannot.
 *
 * ```ts
 * import { Peer } from "@punchline/punchline";
 * import { systemNetwork as network } from "@punchline/punchline/net";
 * import { serveRendezvous } from "@punchline/punchline/signal";
 * import { serveStun } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * // Servers of our own; `DEFAULT_SIGNALING` of `./signal`, and the default STUN servers, are public ones.
 * const ip = "127.0.0.1";
 * await using stun = await serveStun({ network, address: ip, port: 0 });
 * await using rendezvous = await serveRendezvous({ network, local: { ip, port: 0 } });
 * const servers = [`${ip}:${stun.addresses[0]!.port}`];
 *
 * // One machine listens, and shows its ticket. The other connects with it.
 * await using alice = await Peer.open({ signaling: [rendezvous.url], servers });
 * // A ticket alone opens no connection to a server on loopback, so bob names it too.
 * await using bob = await Peer.open({ signaling: [rendezvous.url], servers, listen: false });
 * const [here, there] = await Promise.all([
 *   alice.nextIncoming().then((incoming) => incoming.accept()), // nothing is dialled before that
 *   bob.connect(alice.ticket),
 * ]);
 *
 * // Both ends are a Deno.Conn, encrypted, and each knows who the other is.
 * await here.write(new TextEncoder().encode("hello"));
 * await here.closeWrite();
 * assertEquals(await new Response(there.readable).text(), "hello");
 * assertEquals([there.remoteId, there.path.kind], [alice.id, "host"]);
 * here.close();
 * there.close();
 * ```
 *
 * The parts are useful on their own:
 *
 * ```ts ignore
 * import { mapPort, punch, testNat } from "@punchline/punchline";
 *
 * const report = await testNat(); // which NAT is this machine behind?
 * console.log(report.verdict.summary);
 *
 * await using mapping = await mapPort({ protocol: "tcp", internalPort: 8080 }); // renewed until disposed
 * console.log(mapping.external, mapping.verdict.evidence);
 *
 * const conn = await punch({ channel, role: "controlling" }); // TCP through two NATs, over any SignalChannel
 * console.log(conn.punch.plan.reason);
 * ```
 *
 * Other entry points: `./signal`, `./signal/mqtt` and `./signal/nats` (the first messages), `./stun`, `./turn` (relays), `./transfer`
 * (files), `./net` (the network seam), `./cli`. Of `./peer`, `./nat`, `./portmap` and `./punch` this one has what most
 * programs need.
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
} from "./lib/base/errors.ts";
export type { Logger } from "./lib/base/logger.ts";
export {
  PATH_KINDS,
  type PathKind,
  PUNCH_METHODS,
  type PunchMethodName,
} from "./lib/base/path_kind.ts";
export {
  type Behavior,
  type BehaviorVerdict,
  type Difficulty,
  type FamilyDetails,
  type FamilyReport,
  type Finding,
  type FindingKind,
  type NatReport,
  type PortAllocation,
  type PortAllocationDetails,
  testNat,
  type TestNatOptions,
  type UdpProgress,
  type UnsolicitedSyn,
  type VerdictScope,
} from "./lib/nat/mod.ts";
export type { DenoConn, NetAddress } from "./lib/net/deno_conn.ts";
export type { IpFamily, Nat64Prefix, TransportAddress } from "./lib/net/address.ts";
export type * from "./lib/net/network.ts";
export {
  type AllowUrl,
  type CodeEvent,
  type CodeOffer,
  type CodeOptions,
  type ConnectionEvent,
  type ConnectionHandler,
  type ConnectionServer,
  type ConnectOptions,
  IncomingConnection,
  type MultiplexerOptions,
  type PathReport,
  Peer,
  PeerConnection,
  type PeerEvent,
  type PeerOptions,
  type PeerPath,
  type PeerProgress,
  type PeerTimings,
  type ProxyOptions,
  type ReceiveStream,
  type ReceiveStreamOptions,
  type RelayServer,
  type ServeOptions,
  type Session,
  type SessionEvent,
  type SessionLayer,
  type SessionLog,
  type SessionOptions,
  type SessionRole,
  type SessionStream,
  type SessionTimings,
  type Strategy,
  type StreamEvent,
  type StreamOptions,
  type StreamOwner,
  type StreamSession,
  type StreamSessionOptions,
  type TicketOptions,
  type VisitorSource,
  type Window,
  type WindowSource,
} from "./lib/peer/mod.ts";
export {
  type GatewayEpoch,
  type MapperName,
  type MappingAttempt,
  type MappingEvent,
  type MappingGrant,
  type MappingReport,
  type MappingVerdict,
  type MappingVerdictKind,
  mapPort,
  type MapPortOptions,
  NoMappingError,
  type OuterGateway,
  type PortMapping,
} from "./lib/portmap/mod.ts";
export {
  type BaseSocket,
  type Candidate,
  type CheckListEntry,
  DIRECT_PATH_KINDS,
  type DirectPathKind,
  type GatherOptions,
  type NamedHost,
  type NatProfile,
  type OpenBaseSocketOptions,
  type PortPair,
  preparePunch,
  type PreparePunchOptions,
  punch,
  type PunchDescription,
  type PunchedConn,
  type PunchMethod,
  type PunchOptions,
  type PunchPlan,
  type PunchReport,
  type PunchRole,
} from "./lib/punch/mod.ts";
export type { SignalChannel } from "./lib/signal/channel.ts";
export type {
  OpenSignalingOptions,
  SignalingConnection,
  SignalingState,
  SignalTransport,
} from "./lib/signal/transport.ts";
export type { LongTermCredential } from "./lib/stun/credentials.ts";
