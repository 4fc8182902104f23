/**
 * A PCP transaction: one request to a server and its response. RFC 6887 §8.1, §8.3 and §9.
 *
 * @module
 */

import { equalBytes } from "../../base/bytes.ts";
import type { TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { isSameIp } from "../gateway.ts";
import { askGateway, withJitter } from "../gateway_transaction.ts";
import type { GatewayEpoch } from "../mapper.ts";
import { PCP_RESULT, pcpRefusal } from "../refusals.ts";
import {
  decodePcpResponse,
  encodePcpRequest,
  PCP_VERSION,
  type PcpMap,
  type PcpPeer,
  type PcpRequest,
  type PcpResponse,
} from "./message.ts";

/** A PCP server, and how to ask it. */
export interface PcpServer {
  /** The network of this host. */
  readonly network: Network;
  /** The server's address and port, usually 5351. */
  readonly address: TransportAddress;
  /** How long to wait after each request, before jitter. */
  readonly waitsMs: readonly number[];
}

/** What to ask. */
export interface PcpTransactionRequest extends Omit<PcpRequest, "version"> {
  /** The start of error messages, such as `Cannot map TCP port 80`. */
  readonly action: string;
  /** Aborts the request. */
  readonly signal?: AbortSignal;
}

/** A server's answer. */
export interface PcpAnswer {
  /** Its response, which reports success. */
  readonly response: PcpResponse;
  /** The server's clock at the time of the answer. */
  readonly epoch: GatewayEpoch;
}

/**
 * Sends the request until the server answers.
 *
 * @throws {MappingRefusedError} if it refuses, or speaks another version
 * @throws what {@linkcode askGateway} throws
 */
export async function askPcp(
  server: PcpServer,
  request: PcpTransactionRequest,
): Promise<PcpAnswer> {
  const { network, address, waitsMs } = server;
  const { action, clientIp, signal } = request;
  const { answer: response, receivedAtMs } = await askGateway({
    network,
    gateway: address,
    localIp: clientIp,
    request: encodePcpRequest({ ...request, version: PCP_VERSION }),
    protocol: "PCP",
    waitsMs: withJitter(waitsMs, Math.random),
    signal,
    accept: (data) => {
      const response = decodePcpResponse(data);
      return answers(response, request) ? response : undefined;
    },
  });
  const code = resultCodeOf(response);
  if (code === PCP_RESULT.SUCCESS) {
    return { response, epoch: { seconds: response.epochSeconds, receivedAtMs } };
  }
  throw pcpRefusal({
    action,
    gateway: address.ip,
    code,
    retryAfterSeconds: response.lifetimeSeconds,
  });
}

/** NAT-PMP routers answer with version 0 and codes of their own, which comes to the same: another version. */
function resultCodeOf({ version, resultCode }: PcpResponse): number {
  return version === PCP_VERSION ? resultCode : PCP_RESULT.UNSUPP_VERSION;
}

/** RFC 6887 §8.3 and §11.4: whether a response answers this request, and not another one of this host. */
function answers(response: PcpResponse, request: PcpTransactionRequest): boolean {
  const { version, resultCode, body } = response;
  if (version === 0) return true;
  if (version !== PCP_VERSION) return resultCode === PCP_RESULT.UNSUPP_VERSION;
  const asked = request.body;
  // In a refusal that does not repeat the request there is only the opcode's number to compare.
  if (typeof body.opcode === "number") {
    return resultCode !== PCP_RESULT.SUCCESS && body.opcode === OPCODES[asked.opcode];
  }
  if (body.opcode !== asked.opcode) return false;
  if (!("nonce" in body) || !("nonce" in asked)) return true;
  if (!isSameMapping(body, asked)) return false;
  // A late answer to a deletion grants for 0 s.
  const isDeletion = request.lifetimeSeconds === 0;
  return resultCode !== PCP_RESULT.SUCCESS || (response.lifetimeSeconds === 0) === isDeletion;
}

function isSameMapping(a: PcpMap | PcpPeer, b: PcpMap | PcpPeer): boolean {
  return equalBytes(a.nonce, b.nonce) && a.protocol === b.protocol &&
    a.internalPort === b.internalPort && isSamePeer(a, b);
}

/** RFC 6887 §12.4. */
function isSamePeer(a: PcpMap | PcpPeer, b: PcpMap | PcpPeer): boolean {
  if (a.opcode !== "PEER" || b.opcode !== "PEER") return a.opcode === b.opcode;
  return a.remotePeerPort === b.remotePeerPort && isSameIp(a.remotePeerIp, b.remotePeerIp);
}

/** RFC 6887 §19.2. */
const OPCODES: Readonly<Record<string, number>> = { ANNOUNCE: 0, MAP: 1, PEER: 2 };
