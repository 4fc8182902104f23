/**
 * One request to a gateway and its answer: what PCP and NAT-PMP have in common. Only datagrams from the gateway's own
 * address and port count. Each request has a port of its own, so that a late answer to an earlier one is not mistaken
 * for its own.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { exchangeWithServer } from "../net/retransmit.ts";
import { isFrom } from "./gateway.ts";

/** What to ask, and how. */
export interface GatewayRequest<T> {
  readonly network: Network;
  readonly gateway: TransportAddress;
  /** The address to send from: gateways map ports of the sender. */
  readonly localIp: string;
  readonly request: Uint8Array;
  /** The protocol, for errors. */
  readonly protocol: string;
  /** Reads a datagram of the gateway; `undefined` if it does not answer this request. What it throws ends the request. */
  readonly accept: (data: Uint8Array) => T | undefined;
  readonly waitsMs: readonly number[];
  readonly signal?: AbortSignal;
}

/** An answer, and when it arrived on the clock of `performance.now()`. */
export interface GatewayAnswer<T> {
  readonly answer: T;
  readonly receivedAtMs: number;
}

/**
 * Sends the request until it is answered.
 *
 * @throws {NoResponseError} if no answer arrives in time
 * @throws {MalformedMessageError} if the gateway answered, but nothing that could be read
 * @throws {NetworkError} if the network does not carry the request
 * @throws what `accept` throws, except MalformedMessageError
 * @throws the signal's reason on abort
 */
export async function askGateway<T>(options: GatewayRequest<T>): Promise<GatewayAnswer<T>> {
  const { network, gateway, localIp, request, protocol, accept, waitsMs, signal } = options;
  using socket = await network.bindUdp({ ip: localIp, port: 0 });
  const { answer } = await exchangeWithServer(socket, {
    to: gateway,
    isFromServer: (from) => isFrom(from, gateway),
    request,
    protocol,
    accept,
    waitsMs,
    signal,
  });
  return { answer, receivedAtMs: performance.now() };
}

/** RFC 6887 §8.1.1: makes each wait up to a tenth shorter or longer, so that hosts do not ask in step. */
export function withJitter(waitsMs: readonly number[], random: () => number): number[] {
  return waitsMs.map((waitMs) => Math.round(waitMs * (0.9 + 0.2 * random())));
}

/** RFC 6886 §3.1: 250 ms, doubled each time, nine requests: 127.75 s in all. */
export const RFC6886_WAITS_MS: readonly number[] = [
  250,
  500,
  1000,
  2000,
  4000,
  8000,
  16_000,
  32_000,
  64_000,
];

/**
 * RFC 6887 §8.1.1: IRT 3 s, doubled up to MRT 1024 s. The RFC never stops; these are fourteen requests in 102 minutes,
 * after which a caller that still wants a mapping asks anew.
 */
// deno-fmt-ignore
export const RFC6887_WAITS_MS: readonly number[] = [
  3000, 6000, 12_000, 24_000, 48_000, 96_000, 192_000, 384_000, 768_000,
  1_024_000, 1_024_000, 1_024_000, 1_024_000, 1_024_000,
];

/**
 * For a person who waits for the answer: the first three waits of RFC 6886, 1.75 s in all. With PCP they depart from
 * RFC 6887 §8.1.1, which says that a request SHOULD NOT be repeated within 3 s: gateways are a millisecond away. In the
 * background use the waits of the RFC.
 */
export const INTERACTIVE_WAITS_MS: readonly number[] = RFC6886_WAITS_MS.slice(0, 3);
