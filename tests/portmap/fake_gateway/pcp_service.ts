/**
 * The PCP server of a fake gateway, by RFC 6887, except for what a test makes it refuse.
 *
 * @module
 */

import { toHex } from "../../../lib/base/bytes.ts";
import { ipFamily, type TransportAddress } from "../../../lib/net/address.ts";
import {
  decodePcpRequest,
  encodePcpResponse,
  type PcpBody,
  type PcpMapping,
  type PcpRequest,
} from "../../../lib/portmap/pcp/message.ts";
import type { MappingTable } from "./mapping_table.ts";

/** How the server differs from the RFC. */
export interface PcpServiceOptions {
  /** The external IPv4 address. An IPv6 host's external address is its own. */
  readonly externalIp: string;
  /** Whether to allow THIRD_PARTY. */
  readonly thirdParty?: boolean;
  /** Whether to refuse to choose an external port, as MikroTik does. */
  readonly refusesPortZero?: boolean;
}

/** Answers one request. */
export function answerPcp(
  data: Uint8Array,
  from: TransportAddress,
  table: MappingTable,
  options: PcpServiceOptions,
): Uint8Array<ArrayBuffer> {
  const request = decodePcpRequest(data);
  const respond = (
    resultCode: number,
    body: PcpBody = request.body,
    lifetimeSeconds = resultCode === 0 ? request.lifetimeSeconds : 30,
  ) =>
    encodePcpResponse({
      version: 2,
      resultCode,
      lifetimeSeconds,
      epochSeconds: table.epochSeconds,
      body,
      options: request.options,
    });

  if (request.version !== 2) return respond(UNSUPP_VERSION);
  if (request.clientIp !== from.ip) return respond(ADDRESS_MISMATCH);
  const { body } = request;
  if (!("nonce" in body)) return respond(body.opcode === "ANNOUNCE" ? 0 : UNSUPP_OPCODE);
  const protocol = PROTOCOLS[body.protocol];
  if (protocol === undefined) return respond(UNSUPP_PROTOCOL);
  const internal = internalOf(request, body, options);
  if (internal === undefined) return respond(UNSUPP_OPTION);

  const nonce = toHex(body.nonce);
  const present = table.get(protocol, internal);
  if (present !== undefined && present.nonce !== nonce) return respond(NOT_AUTHORIZED);
  if (request.lifetimeSeconds === 0) {
    table.remove(protocol, internal);
    return respond(0);
  }
  if (body.externalPort === 0 && options.refusesPortZero) return respond(MALFORMED_REQUEST);
  const entry = table.put({
    protocol,
    internal,
    externalPort: body.externalPort || body.internalPort,
    lifetimeSeconds: request.lifetimeSeconds,
    nonce,
    exact: request.options.some(({ type }) => type === "PREFER_FAILURE"),
  });
  if (entry === undefined) return respond(CANNOT_PROVIDE_EXTERNAL);
  const externalIp = ipFamily(internal.ip) === 4 ? options.externalIp : internal.ip;
  const assigned = { ...body, externalPort: entry.externalPort, externalIp };
  return respond(0, assigned, entry.lifetimeSeconds);
}

/** An unsolicited ANNOUNCE: RFC 6887 §14.1.3. */
export function announcePcp(table: MappingTable): Uint8Array<ArrayBuffer> {
  return encodePcpResponse({
    version: 2,
    resultCode: 0,
    lifetimeSeconds: 0,
    epochSeconds: table.epochSeconds,
    body: { opcode: "ANNOUNCE" },
    options: [],
  });
}

function internalOf(
  request: PcpRequest,
  { internalPort }: PcpMapping,
  { thirdParty = false }: PcpServiceOptions,
): TransportAddress | undefined {
  for (const option of request.options) {
    if (option.type !== "THIRD_PARTY") continue;
    return thirdParty ? { ip: option.internalIp, port: internalPort } : undefined;
  }
  return { ip: request.clientIp, port: internalPort };
}

const PROTOCOLS: Readonly<Record<number, "tcp" | "udp">> = { 6: "tcp", 17: "udp" };

/** RFC 6887 §7.4. */
const UNSUPP_VERSION = 1;
const NOT_AUTHORIZED = 2;
const MALFORMED_REQUEST = 3;
const UNSUPP_OPCODE = 4;
const UNSUPP_OPTION = 5;
const UNSUPP_PROTOCOL = 9;
const CANNOT_PROVIDE_EXTERNAL = 11;
const ADDRESS_MISMATCH = 12;
