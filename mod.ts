/**
 * Punchline gets two machines connected to each other, whatever stands between them, and says why where it cannot.
 *
 * This version tells which NAT a host is behind, and opens ports on routers:
 *
 * ```ts ignore
 * import { mapPort, testNat } from "@punchline/punchline";
 *
 * const report = await testNat();
 * console.log(report.verdict.summary);
 *
 * await using mapping = await mapPort({ protocol: "tcp", internalPort: 8080 });
 * console.log(mapping.external, mapping.verdict.evidence);
 * ```
 *
 * @module
 */

export * from "./lib/errors.ts";
export type { Logger } from "./lib/logger.ts";
export * from "./lib/nat/mod.ts";
export { mapPort, type MapPortOptions } from "./lib/portmap/map_port.ts";
export type { MappingEvent, MappingReport, PortMapping } from "./lib/portmap/port_mapping.ts";
export { type MappingAttempt, NoMappingError } from "./lib/portmap/mapping_attempt.ts";
export type { OuterGateway } from "./lib/portmap/second_hop.ts";
export type { MapperName, MappingGrant } from "./lib/portmap/mapper.ts";
export type { MappingVerdict, MappingVerdictKind } from "./lib/portmap/verdict.ts";
