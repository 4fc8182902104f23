/**
 * Asking again until there is an answer: the one retransmission loop of request-and-response protocols over
 * UDP. What they differ in is data: how long to wait after each request, and what counts as an answer.
 *
 * @module
 */

import { MalformedMessageError, NoResponseError } from "../base/errors.ts";
import { formatTransportAddress, sameTransportAddress, type TransportAddress } from "./address.ts";
import type { Datagram, UdpSocket } from "./network.ts";

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

/** What {@linkcode exchangeWithServer} takes. */
export interface ServerExchangeOptions<T> extends Omit<ExchangeOptions<T>, "accept"> {
  /** Whether a datagram is from whom was asked; by default, whether it is from `to` exactly. */
  readonly isFromServer?: (from: TransportAddress) => boolean;
  /** The answer in a message of the server, or `undefined` if it does not answer this request. */
  readonly accept: (message: Uint8Array) => T | undefined;
  /** The protocol, for errors. */
  readonly protocol: string;
}

/**
 * As {@linkcode exchange}, with messages that are taken from nobody but the server. What cannot be read does not end
 * the exchange: somebody who forged the server's address may have sent it to keep the true answer out.
 *
 * @throws {NoResponseError} if no answer came in time
 * @throws {MalformedMessageError} if something came in that time, and none of it was the protocol
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
