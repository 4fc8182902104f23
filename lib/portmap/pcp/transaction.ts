/**
 * One question to a PCP server: RFC 6887 §8.1, §8.3 and §9.
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
  /** The network of the host that asks. */
  readonly network: Network;
  /** Where the server is asked: its address and port, 5351 where nobody says otherwise. */
  readonly address: TransportAddress;
  /** How long to wait after each request, before jitter. */
  readonly waitsMs: readonly number[];
}

/** What to ask. */
export interface PcpQuestion extends Omit<PcpRequest, "version"> {
  /** Begins messages of errors, as in `Cannot map TCP port 80`. */
  readonly action: string;
  /** Ends the request. */
  readonly signal?: AbortSignal;
}

/** What a server granted. */
export interface PcpAnswer {
  /** A success. */
  readonly response: PcpResponse;
  /** The server's clock in it. */
  readonly epoch: GatewayEpoch;
}

/**
 * Asks until the server answers.
 *
 * @throws {MappingRefusedError} if it refuses, or speaks another version
 * @throws as {@linkcode askGateway}
 */
export async function askPcp(server: PcpServer, question: PcpQuestion): Promise<PcpAnswer> {
  const { network, address, waitsMs } = server;
  const { action, clientIp, signal } = question;
  const { answer: response, receivedAtMs } = await askGateway({
    network,
    gateway: address,
    localIp: clientIp,
    request: encodePcpRequest({ ...question, version: PCP_VERSION }),
    protocol: "PCP",
    waitsMs: withJitter(waitsMs, Math.random),
    signal,
    accept: (data) => {
      const response = decodePcpResponse(data);
      return answers(response, question) ? response : undefined;
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

/** NAT-PMP routers say version 0, and with their own codes what comes to the same: another version. */
function resultCodeOf({ version, resultCode }: PcpResponse): number {
  return version === PCP_VERSION ? resultCode : PCP_RESULT.UNSUPP_VERSION;
}

/** RFC 6887 §8.3 and §11.4: whether a response is to this question, and not to another of this host's. */
function answers(response: PcpResponse, question: PcpQuestion): boolean {
  const { version, resultCode, body } = response;
  if (version === 0) return true;
  if (version !== PCP_VERSION) return resultCode === PCP_RESULT.UNSUPP_VERSION;
  const asked = question.body;
  // A refusal that does not repeat the request has nothing to compare but the opcode's number.
  if (typeof body.opcode === "number") {
    return resultCode !== PCP_RESULT.SUCCESS && body.opcode === OPCODES[asked.opcode];
  }
  if (body.opcode !== asked.opcode) return false;
  if (!("nonce" in body) || !("nonce" in asked)) return true;
  if (!isSameMapping(body, asked)) return false;
  // A late answer to a deletion grants for 0 s.
  const isDeletion = question.lifetimeSeconds === 0;
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
