/**
 * Serving a listener: accepting connections until it is closed. A file of its own, because servers of several folders
 * share it and `network.ts` holds types alone.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { TcpConnection, TcpListener } from "./network.ts";

/**
 * Hands each connection to `take`, until the listener is closed.
 *
 * @param take may not throw
 * @throws {NetworkError} if the listener fails
 */
export async function acceptUntilClosed(
  listener: Pick<TcpListener, "accept">,
  take: (connection: TcpConnection) => void,
): Promise<void> {
  try {
    for (;;) take(await listener.accept());
  } catch (error) {
    if (!(error instanceof NetworkError && error.reason === "closed")) throw error;
  }
}
