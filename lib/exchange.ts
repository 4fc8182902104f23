/**
 * Asking again until there is an answer: the one retransmission loop of request-and-response protocols over
 * UDP. What they differ in is data: how long to wait after each request, and what counts as an answer.
 *
 * @module
 */

import { NoResponseError } from "./errors.ts";
import { formatTransportAddress, type TransportAddress } from "./net/address.ts";
import type { Datagram, UdpSocket } from "./net/network.ts";

/** What {@linkcode exchange} takes. */
export interface ExchangeOptions<T> {
  readonly to: TransportAddress;
  /** Sent as it is every time, so that an answer to any of them will do. */
  readonly request: Uint8Array;
  /**
   * The answer in a datagram, or `undefined` if there is none for this request in it, wherever it came
   * from. What it throws ends the exchange.
   */
  readonly accept: (datagram: Datagram) => T | undefined;
  /** How long to wait after each request, in the order of sending; as many requests as waits. */
  readonly waitsMs: readonly number[];
  readonly signal?: AbortSignal;
}

/** An answer, and how it came. */
export interface Exchanged<T> {
  readonly answer: T;
  /** How many requests were sent. */
  readonly requests: number;
  /**
   * From the last request to the answer. After more than one request the answer may be to an earlier one, and
   * the round trip longer: Karn's algorithm (RFC 6298 §3) takes no measure from those.
   */
  readonly rttMs: number;
}

/**
 * Sends a request, and again after each wait, until an answer is accepted. Other datagrams do not prolong
 * the wait.
 *
 * @throws {NoResponseError} once every wait has passed without an answer
 * @throws {NetworkError} if the socket fails
 * @throws the signal's reason on abort
 */
export async function exchange<T>(
  socket: Pick<UdpSocket, "send" | "receive">,
  options: ExchangeOptions<T>,
): Promise<Exchanged<T>> {
  const { to, request, accept, waitsMs, signal } = options;
  signal?.throwIfAborted();
  for (const [index, waitMs] of waitsMs.entries()) {
    const sentMs = performance.now();
    await socket.send(request, to);
    const expiry = AbortSignal.timeout(waitMs);
    const turn = signal === undefined ? expiry : AbortSignal.any([signal, expiry]);
    try {
      const answer = await receiveAccepted(socket, accept, turn);
      return { answer, requests: index + 1, rttMs: performance.now() - sentMs };
    } catch (error) {
      if (error !== expiry.reason) throw error;
    }
  }
  const waitedMs = waitsMs.reduce((sum, waitMs) => sum + waitMs, 0);
  throw new NoResponseError(
    `Cannot reach ${formatTransportAddress(to)}: ` +
      `no answer to ${waitsMs.length} requests in ${waitedMs} ms`,
  );
}

async function receiveAccepted<T>(
  socket: Pick<UdpSocket, "receive">,
  accept: ExchangeOptions<T>["accept"],
  signal: AbortSignal,
): Promise<T> {
  while (true) {
    const answer = accept(await socket.receive({ signal }));
    if (answer !== undefined) return answer;
  }
}
