/**
 * PCP's PEER: keeping an outbound connection's mapping alive, and learning what it looks like from outside. RFC 6887
 * §12.
 *
 * It lets nobody in but the remote peer, cannot be deleted, and never shortens a mapping: hence no grant.
 *
 * @module
 */

import { ipFamily, type TransportAddress } from "../../net/address.ts";
import { cannot, type GatewayEpoch } from "../mapper.ts";
import { noAddress, PCP_TCP, PCP_UDP, type PcpPeer } from "./message.ts";
import { askPcp, type PcpServer } from "./transaction.ts";

/** Which connection. */
export interface PcpPeerRequest {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** This host's end. */
  readonly internal: TransportAddress;
  /** The other end, as this host knows it. */
  readonly remotePeer: TransportAddress;
  /** What to ask for; anything unless given. */
  readonly external?: TransportAddress;
  /** What to ask for; the server may grant more, or less. */
  readonly lifetimeSeconds: number;
  /** 12 bytes; the same again to renew. */
  readonly nonce: Uint8Array;
  /** Ends the request. */
  readonly signal?: AbortSignal;
}

/** What the server made, or found. */
export interface PcpPeerMapping {
  /** This host's end, as the remote peer sees it. */
  readonly external: TransportAddress;
  /** How long it lives without traffic. */
  readonly lifetimeSeconds: number;
  /** The server's clock. */
  readonly epoch: GatewayEpoch;
}

/**
 * Makes or extends the mapping of an outbound connection.
 *
 * @throws {MappingRefusedError} if the server refuses; many do not know PEER
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
  const { externalIp, externalPort } = response.body as PcpPeer; // askPcp() lets no other opcode through
  return {
    external: { ip: externalIp, port: externalPort },
    lifetimeSeconds: response.lifetimeSeconds,
    epoch,
  };
}
