/**
 * Whether TCP connections from inside to the own external address come back in: RFC 5382 REQ-8.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";

/**
 * Dials the external address of a local port and listens there. A refusal is the NAT's "no"; silence proves
 * nothing, because a filter may be as silent.
 *
 * @param signal ends the wait
 */
export async function hairpinsTcp(
  network: Network,
  local: TransportAddress,
  external: TransportAddress,
  signal: AbortSignal,
): Promise<boolean | "unknown"> {
  try {
    using listener = await network.listenTcp(local);
    using dialled = await network.connectTcp(external, { signal });
    // Something else may answer at the external address, such as the router's own pages.
    using accepted = await listener.accept({ signal });
    const isOurs = await closedOnAbort(accepted, signal, async () => {
      await dialled.write(GREETING);
      const received = new Uint8Array(1);
      return await accepted.read(received) === 1 && received[0] === GREETING[0];
    });
    return isOurs ? true : "unknown";
  } catch (error) {
    if (signal.aborted) return "unknown";
    if (error instanceof NetworkError) return error.reason === "refused" ? false : "unknown";
    throw error;
  }
}

/** Whoever dialled may say nothing for ever; nothing but its end wakes who reads from a connection. */
async function closedOnAbort<T>(
  connection: TcpConnection,
  signal: AbortSignal,
  job: () => Promise<T>,
): Promise<T> {
  const close = () => connection.close();
  signal.addEventListener("abort", close, { once: true });
  try {
    signal.throwIfAborted();
    return await job();
  } finally {
    signal.removeEventListener("abort", close);
  }
}

const GREETING = new Uint8Array([0x50]);
