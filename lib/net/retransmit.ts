/**
 * Retransmission of requests over UDP until there is an answer. All request-response protocols use this one loop; they
 * differ in how long they wait after each request, and in what they accept as an answer.
 *
 * @module
 */

import { MalformedMessageError, NoResponseError } from "../base/errors.ts";
import { formatTransportAddress, sameTransportAddress, type TransportAddress } from "./address.ts";
import type { Datagram, UdpSocket } from "./network.ts";

/** Options of {@linkcode exchange}. */
export interface ExchangeOptions<T> {
  /** Where to send the request. */
  readonly to: TransportAddress;
  /** Sent unchanged each time, so that an answer to any transmission counts. */
  readonly request: Uint8Array;
  /**
   * Returns the answer in a datagram, or `undefined` if it does not answer this request. Sees datagrams of any source.
   * An error that it throws ends the exchange.
   */
  readonly accept: (datagram: Datagram) => T | undefined;
  /** How long to wait after each transmission. There are as many transmissions as waits. */
  readonly waitsMs: readonly number[];
  readonly signal?: AbortSignal;
}

/** An answer, and what it took to get it. */
export interface Exchanged<T> {
  readonly answer: T;
  /** How many times the request was sent. */
  readonly requests: number;
  /**
   * The time from the last transmission to the answer. After a retransmission, the answer may be to an earlier one, and
   * the round trip longer: Karn's algorithm (RFC 6298 §3) ignores such samples.
   */
  readonly rttMs: number;
}

/**
 * Sends a request, and sends it again after each wait, until an answer is accepted. Other datagrams do not extend a
 * wait.
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
    const ended = signal === undefined ? expiry : AbortSignal.any([signal, expiry]);
    try {
      const answer = await receiveAccepted(socket, accept, ended);
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

/** Options of {@linkcode exchangeWithServer}. */
export interface ServerExchangeOptions<T> extends Omit<ExchangeOptions<T>, "accept"> {
  /** Whether a source is the server. Default: whether it is exactly `to`. */
  readonly isFromServer?: (from: TransportAddress) => boolean;
  /** Returns the answer in a message of the server, or `undefined` if it does not answer this request. */
  readonly accept: (message: Uint8Array) => T | undefined;
  /** The name of the protocol, for errors. */
  readonly protocol: string;
}

/**
 * As {@linkcode exchange}, but accepts messages from the server only. A malformed message does not end the exchange: an
 * attacker may have forged its source to suppress the true answer.
 *
 * @throws {NoResponseError} if there is no answer in time
 * @throws {MalformedMessageError} if there is no answer in time, but a malformed message from the server
 */
export async function exchangeWithServer<T>(
  socket: Pick<UdpSocket, "send" | "receive">,
  options: ServerExchangeOptions<T>,
): Promise<Exchanged<T>> {
  const { to, protocol, isFromServer = (from) => sameTransportAddress(from, to) } = options;
  let malformed: MalformedMessageError | undefined;
  try {
    return await exchange(socket, {
      ...options,
      accept: ({ data, from }) => {
        if (!isFromServer(from)) return undefined;
        try {
          return options.accept(data);
        } catch (error) {
          if (!(error instanceof MalformedMessageError)) throw error;
          malformed = error;
          return undefined;
        }
      },
    });
  } catch (error) {
    if (!(error instanceof NoResponseError) || malformed === undefined) throw error;
    throw new MalformedMessageError(
      `Cannot understand ${formatTransportAddress(to)}: it answers, but not with ${protocol}`,
      { cause: malformed },
    );
  }
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
