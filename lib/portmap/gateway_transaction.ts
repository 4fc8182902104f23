/**
 * One question to a gateway: what PCP and NAT-PMP have in common. Only what comes from the gateway's very address and
 * port counts; each question has a port of its own, so that a late answer to another finds nobody.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { exchangeWithServer } from "../net/retransmit.ts";
import { isFrom } from "./gateway.ts";

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

/** RFC 6886 §3.1: 250 ms, doubled each time, nine requests: 127.75 s in all. */
export const RFC6886_WAITS_MS: readonly number[] = doubling(250, 9, Infinity);

/**
 * RFC 6887 §8.1.1: IRT 3 s, doubled up to MRT 1024 s. The RFC goes on for ever; these are fourteen requests in 102
 * minutes, after which whoever still wants a mapping asks anew.
 */
export const RFC6887_WAITS_MS: readonly number[] = doubling(3000, 14, 1_024_000);

/**
 * Ours: the first three of RFC 6886, 1.75 s in all. For PCP they depart from RFC 6887 §8.1.1, by which a request must
 * not be repeated before 3 s (a SHOULD): a person waits for the answer, and gateways are a millisecond away. Go on
 * with the RFC's waits in the background.
 */
export const FAST_WAITS_MS: readonly number[] = RFC6886_WAITS_MS.slice(0, 3);

/** RFC 6887 §8.1.1: each wait made up to a tenth shorter or longer, so that hosts do not ask in step. */
export function withJitter(waitsMs: readonly number[], random: () => number): number[] {
  return waitsMs.map((waitMs) => Math.round(waitMs * (0.9 + 0.2 * random())));
}

function doubling(firstMs: number, count: number, maximumMs: number): number[] {
  return Array.from({ length: count }, (_, index) => Math.min(firstMs * 2 ** index, maximumMs));
}
