/**
 * Reports when a process runs out of file descriptors, and recognizes errors with that cause. A file of its own, because
 * servers and listeners share it and `network.ts` holds types alone.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { formatTransportAddress, type TransportAddress } from "./address.ts";
import type { Network, Shortage } from "./network.ts";

/** For `onShortage` of a listener: logs it. */
export function shortageLogger(
  local: TransportAddress,
  logger: Pick<Logger, "warn">,
): (event: Shortage) => void {
  const name = formatTransportAddress(local);
  return (event) =>
    logger.warn(
      event === "begins"
        ? `Cannot accept TCP connections on ${name}: this process has too many open files`
        : `Accepting TCP connections on ${name} again`,
    );
}

/** Whether this process may open so many more sockets now. */
export async function mayOpenSockets(network: Network, count: number): Promise<boolean> {
  const opening = Array.from({ length: count }, () => network.bindUdp({ ip: LOOPBACK, port: 0 }));
  const opened = await Promise.allSettled(opening);
  for (const each of opened) if (each.status === "fulfilled") each.value.close();
  return !opened.some((each) => each.status === "rejected" && isShortage(each.reason));
}

/** Whether something failed because this process, or this host, has too many open files. */
export function isShortage(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause) {
    if ("code" in each && (each.code === "EMFILE" || each.code === "ENFILE")) return true;
  }
  return false;
}

const LOOPBACK = "127.0.0.1";
