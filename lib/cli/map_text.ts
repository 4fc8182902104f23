/**
 * What `map` says to people.
 *
 * @module
 */

import type { GatewayMappings } from "../portmap/admin.ts";
import type { MappingEvent } from "../portmap/mapping.ts";
import { type MappingAttempt, PROTOCOL_NAMES } from "../portmap/mapping_attempt.ts";
import type { GatewayReport, ProtocolReport } from "../portmap/probe_gateways.ts";
import type { MappingVerdict } from "../portmap/verdict.ts";

/** One line for what became of a mapping. */
export function eventText(event: MappingEvent, verdict?: MappingVerdict): string {
  const { external, internal, transport, lifetimeSeconds, gateway, reason } = event;
  const route = `${transport.toUpperCase()} ${external} to ${internal}`;
  const because = reason === undefined ? "" : `: ${reason}`;
  const life = lifetimeSeconds === null ? "for good" : `for ${lifetimeSeconds} s`;
  switch (event.event) {
    case "mapped": {
      const by = `by ${PROTOCOL_NAMES[event.protocol]} on ${gateway}`;
      const worth = verdict === undefined ? event.verdict : `${verdict.kind}: ${verdict.evidence}`;
      const remedy = verdict?.remedy === undefined ? "" : `\n  ${verdict.remedy}`;
      return `Mapped ${route} ${by}, ${life}\n  ${worth}${remedy}`;
    }
    case "renewed":
      return `Renewed ${route}, ${life}`;
    case "changed":
      return `Changed to ${route}${because}`;
    case "lost":
      return `Lost ${route}${because}; getting it again`;
    case "released":
      return `Released ${route}${because}`;
  }
}

/** One line for one way that failed. */
export function attemptText({ strategy, remote, reason, remedy }: MappingAttempt): string {
  return `  ${PROTOCOL_NAMES[strategy]} at ${remote}: ${reason}. ${remedy}`;
}

/** A table for each gateway that has one. */
export function tableText(gateways: readonly GatewayMappings[]): string[] {
  return gateways.flatMap(({ address, mappings, problem }) => {
    if (problem !== null) return [`${address} lists no mappings: ${problem}`];
    if (mappings.length === 0) return [`${address} has no mappings`];
    const rows = mappings.map((mapping) => [
      mapping.transport.toUpperCase(),
      `${mapping.externalPort}`,
      mapping.internal,
      mapping.leaseSeconds === 0 ? "for good" : `${mapping.leaseSeconds} s`,
      mapping.description,
    ]);
    return [`${address}:`, ...columns([HEADINGS, ...rows])];
  });
}

/** What every gateway said. */
export function probeText(gateways: readonly GatewayReport[]): string[] {
  if (gateways.length === 0) return ["No gateway answers: name one by --gateway"];
  return gateways.flatMap(({ address, pcp, natPmp, upnp, external, verdict, detail }) => [
    `${address}${external === null ? "" : `, outside ${external}`}`,
    protocolText("PCP", pcp),
    ...natPmp === null ? [] : [protocolText("NAT-PMP", natPmp)],
    protocolText("UPnP", upnp),
    `  ${verdict ?? "no mappings"}: ${detail}`,
  ]);
}

function protocolText(name: string, { answer, detail }: ProtocolReport): string {
  return `  ${name.padEnd(8)} ${answer.padEnd(10)} ${detail}`;
}

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = HEADINGS.map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0))
  );
  return rows.map((row) =>
    `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ")}`.trimEnd()
  );
}

const HEADINGS = ["PROTO", "EXTERNAL", "INTERNAL", "LEASE", "DESCRIPTION"];
