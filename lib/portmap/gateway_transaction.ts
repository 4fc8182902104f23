/**
 * One question to a gateway: what PCP and NAT-PMP have in common. Only what comes from the gateway's very address and
 * port counts; each question has a port of its own, so that a late answer to another finds nobody.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { exchangeWithServer } from "../net/retransmit.ts";
import { isFrom } from "./gateway_source.ts";

/** What to ask, and how. */
export interface GatewayQuestion<T> {
  readonly network: Network;
  readonly gateway: TransportAddress;
  /** The address to ask from: gateways map to where the question comes from. */
  readonly localIp: string;
  readonly request: Uint8Array;
  /** The protocol, for errors. */
  readonly protocol: string;
  /** Reads a datagram of the gateway; `undefined` if it does not answer this question. What it throws ends it. */
  readonly accept: (data: Uint8Array) => T | undefined;
  readonly waitsMs: readonly number[];
  readonly signal?: AbortSignal;
}

/** An answer, and when it came on the clock of `performance.now()`. */
export interface GatewayAnswer<T> {
  readonly answer: T;
  readonly receivedAtMs: number;
}

/**
 * Asks until there is an answer.
 *
 * @throws {NoResponseError} if none came in time
 * @throws {MalformedMessageError} if something came from the gateway, and none of it could be read
 * @throws {NetworkError} if the network does not carry the question
 * @throws what `accept` throws, but for MalformedMessageError
 * @throws the signal's reason on abort
 */
export async function askGateway<T>(question: GatewayQuestion<T>): Promise<GatewayAnswer<T>> {
  const { network, gateway, localIp, request, protocol, accept, waitsMs, signal } = question;
  using socket = await network.bindUdp({ ip: localIp, port: 0 });
  const { answer } = await exchangeWithServer(socket, {
    to: gateway,
    isFromServer: (from) => isFrom(from, gateway),
    request,
    protocol,
    accept,
    waitsMs,
    ...signal && { signal },
  });
  return { answer, receivedAtMs: performance.now() };
}
