/**
 * PCP's PEER: keeps the mapping of an outbound connection alive, and reports its external address. RFC 6887 §12.
 *
 * Such a mapping lets in only the remote peer, cannot be deleted, and is never shortened: hence there is no grant.
 *
 * @module
 */

import { ipFamily, type TransportAddress } from "../../net/address.ts";
import { cannot, type GatewayEpoch } from "../mapper.ts";
import { askPcp, type PcpServer } from "./client.ts";
import { noAddress, PCP_TCP, PCP_UDP, type PcpPeer } from "./message.ts";

/** A connection whose mapping to keep. */
export interface PcpPeerRequest {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** This host's end. */
  readonly internal: TransportAddress;
  /** The other end, as this host knows it. */
  readonly remotePeer: TransportAddress;
  /** The external address and port to ask for; any by default. */
  readonly external?: TransportAddress;
  /** The lifetime to ask for. The server may grant more, or less. */
  readonly lifetimeSeconds: number;
  /** 12 bytes. Use the same ones to renew. */
  readonly nonce: Uint8Array;
  /** Aborts the request. */
  readonly signal?: AbortSignal;
}

/** The mapping that the server created, or found. */
export interface PcpPeerMapping {
  /** This host's end, as the remote peer sees it. */
  readonly external: TransportAddress;
  /** How long it lasts without traffic. */
  readonly lifetimeSeconds: number;
  /** The server's clock at the time of the answer. */
  readonly epoch: GatewayEpoch;
}

/**
 * Creates or extends the mapping of an outbound connection.
 *
 * @throws {MappingRefusedError} if the server refuses; many do not support PEER
 * @throws {NoResponseError} if it does not answer
 */
export async function requestPcpPeer(
  server: PcpServer,
  request: PcpPeerRequest,
): Promise<PcpPeerMapping> {
  const { protocol, internal, remotePeer, lifetimeSeconds, nonce, signal } = request;
  const external = request.external ?? { ip: noAddress(ipFamily(internal.ip)), port: 0 };
  const { response, epoch } = await askPcp(server, {
    action: cannot("keep", request),
    clientIp: internal.ip,
    lifetimeSeconds,
    body: {
      opcode: "PEER",
      nonce,
      protocol: protocol === "tcp" ? PCP_TCP : PCP_UDP,
      internalPort: internal.port,
      externalPort: external.port,
      externalIp: external.ip,
      remotePeerPort: remotePeer.port,
      remotePeerIp: remotePeer.ip,
    },
    options: [],
    signal,
  });
  const { externalIp, externalPort } = response.body as PcpPeer; // askPcp() accepts no other opcode
  return {
    external: { ip: externalIp, port: externalPort },
    lifetimeSeconds: response.lifetimeSeconds,
    epoch,
  };
}
