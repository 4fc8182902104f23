/**
 * The NAT-PMP server of a fake gateway: RFC 6886.
 *
 * @module
 */

import type { TransportAddress } from "../../../lib/net/address.ts";
import {
  decodeNatPmpRequest,
  encodeNatPmpResponse,
  type NatPmpRequest,
} from "../../../lib/portmap/nat_pmp/message.ts";
import type { MappingTable } from "./mapping_table.ts";

/** What the server reports. */
export interface NatPmpServiceOptions {
  readonly externalIp: string;
}

/** Answers one request. */
export function answerNatPmp(
  data: Uint8Array,
  from: TransportAddress,
  table: MappingTable,
  options: NatPmpServiceOptions,
): Uint8Array<ArrayBuffer> {
  const request = decodeNatPmpRequest(data);
  if (request.opcode === "external-address") return announceNatPmp(table, options);
  const header = {
    version: 0,
    opcode: request.opcode,
    epochSeconds: table.epochSeconds,
  } as const;
  const mapped = answerMapping(request, from.ip, table);
  if (mapped === undefined) return encodeNatPmpResponse({ ...header, resultCode: NOT_AUTHORIZED });
  return encodeNatPmpResponse({
    ...header,
    resultCode: 0,
    internalPort: request.internalPort,
    mappedExternalPort: mapped.externalPort,
    lifetimeSeconds: mapped.lifetimeSeconds,
  });
}

/** Its external address, as an answer or an announcement: RFC 6886 §3.2.1. */
export function announceNatPmp(
  table: MappingTable,
  { externalIp }: NatPmpServiceOptions,
): Uint8Array<ArrayBuffer> {
  const { epochSeconds } = table;
  return encodeNatPmpResponse({
    version: 0,
    opcode: "external-address",
    resultCode: 0,
    epochSeconds,
    externalIp,
  });
}

/** The refusal of a request whose version the router does not know: RFC 6886 §3.5. */
export function refuseVersion(data: Uint8Array, table: MappingTable): Uint8Array<ArrayBuffer> {
  return encodeNatPmpResponse({
    version: 0,
    opcode: data[1]!,
    resultCode: UNSUPPORTED_VERSION,
    epochSeconds: table.epochSeconds,
  });
}

function answerMapping(
  request: Exclude<NatPmpRequest, { opcode: "external-address" }>,
  ip: string,
  table: MappingTable,
): { externalPort: number; lifetimeSeconds: number } | undefined {
  const protocol = request.opcode === "map-tcp" ? "tcp" : "udp";
  const internal = { ip, port: request.internalPort };
  // A mapping made by PCP has a nonce, and NAT-PMP cannot change it.
  if ((table.get(protocol, internal)?.nonce ?? "") !== "") return undefined;
  if (request.lifetimeSeconds === 0) {
    table.remove(protocol, internal);
    return { externalPort: 0, lifetimeSeconds: 0 };
  }
  return table.put({
    protocol,
    internal,
    externalPort: request.suggestedExternalPort || request.internalPort,
    lifetimeSeconds: request.lifetimeSeconds,
    nonce: "",
  });
}

/** RFC 6886 §3.5. */
const UNSUPPORTED_VERSION = 1;
const NOT_AUTHORIZED = 2;
