/**
 * Opens ports on routers: PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP IGD 1 and 2 behind one call.
 *
 * ```ts ignore
 * import { mapPort } from "@punchline/punchline/portmap";
 *
 * await using mapping = await mapPort({ protocol: "tcp", internalPort: 8080 });
 * console.log(mapping.external, mapping.verdict.evidence);
 * ```
 *
 * The mapping renews itself, is restored when the router restarts, and is released when it is disposed. The protocols
 * can be used one by one, too: {@linkcode pcpMapper}, {@linkcode natPmpMapper}, {@linkcode igdMapper}.
 *
 * @module
 */

export { mapPort, type MapPortOptions } from "./map_port.ts";
export type { MappingEvent, MappingReport, PortMapping } from "./mapping.ts";
export {
  type GatewayEpoch,
  type MapperCallOptions,
  type MapperName,
  type MappingAttempt,
  type MappingGrant,
  MappingRefusedError,
  type MappingRequest,
  NoMappingError,
  type PortMapper,
  type ProbeAnswer,
  type ProbeResult,
} from "./mapper.ts";
export type { OuterGateway } from "./candidate_mappers.ts";
export type { MappingVerdict, MappingVerdictKind } from "./verdict.ts";
export {
  type DeletedMapping,
  deleteMappings,
  type DeleteMappingsOptions,
  type GatewayMappings,
  type GatewayReport,
  type ListedMapping,
  listMappings,
  type MappingTableOptions,
  probeGateways,
  type ProbeGatewaysOptions,
  type ProtocolReport,
} from "./admin.ts";
export { findGateways, type FindGatewaysOptions, type Gateway } from "./gateway.ts";
export { PCP_ANYCAST, pcpMapper, type PcpMapperOptions } from "./pcp/client.ts";
export { type PcpPeerMapping, type PcpPeerRequest, requestPcpPeer } from "./pcp/peer.ts";
export type { PcpServer } from "./pcp/client.ts";
export type { PcpFilter } from "./pcp/message.ts";
export { natPmpMapper, type NatPmpMapperOptions } from "./nat_pmp/client.ts";
export { type IgdMapper, igdMapper, type IgdMapperOptions } from "./upnp/client.ts";
export type { ShownMapping } from "./upnp/mapping_table.ts";
export type { PortMappingEntry, PortMappingKey, PortMappingTarget } from "./upnp/actions.ts";
export { INTERACTIVE_WAITS_MS, RFC6886_WAITS_MS, RFC6887_WAITS_MS } from "./gateway.ts";
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
export {
  PATH_KINDS,
  type PathKind,
  PUNCH_METHODS,
  type PunchMethodName,
} from "../base/path_kind.ts";
export type * from "../net/network.ts";
export type { IpFamily, TransportAddress } from "../net/address.ts";
export type { Logger } from "../base/logger.ts";
