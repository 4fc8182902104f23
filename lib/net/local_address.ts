/**
 * This host's own address, without asking for a permission.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import type { Network, UdpSocket } from "./network.ts";

/**
 * The IPv4 address from which this host speaks to its link, or `undefined` if that does not show.
 *
 * A datagram to all hosts of the link (224.0.0.1) comes back to its sender, and tells where it is from. It travels one
 * hop, and carries random bytes by which its sender knows it again.
 *
 * @throws the signal's reason on abort
 */
export async function findLocalIp(
  network: Network,
  options: { readonly signal?: AbortSignal } = {},
): Promise<string | undefined> {
  const expiry = AbortSignal.timeout(WAIT_MS);
  const signal = AbortSignal.any([expiry, ...options.signal ? [options.signal] : []]);
  try {
    using socket = await network.bindUdp({ ip: "0.0.0.0", port: 0 }, {
      multicast: { groups: [{ group: ALL_HOSTS, interfaceIp: "0.0.0.0" }] },
    });
    const ip = await sourceOfEcho(socket, signal);
    return await network.ownsAddress(ip) ? ip : undefined;
  } catch (error) {
    options.signal?.throwIfAborted();
    // No route for multicast, no permission for it, or a system that does not loop it back.
    if (error === expiry.reason || error instanceof NetworkError) return undefined;
    throw error;
  }
}

async function sourceOfEcho(socket: UdpSocket, signal: AbortSignal): Promise<string> {
  const mark = crypto.getRandomValues(new Uint8Array(16));
  await socket.send(mark, { ip: ALL_HOSTS, port: socket.local.port });
  while (true) {
    const { data, from } = await socket.receive({ signal });
    if (equalBytes(data, mark)) return from.ip;
  }
}

/** RFC 1112 §4. */
const ALL_HOSTS = "224.0.0.1";

/** Ours: what comes back by the kernel's own loop does so in a millisecond. */
const WAIT_MS = 200;
