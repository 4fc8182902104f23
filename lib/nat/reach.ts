/**
 * Whether there is a network at all, and from which address this host leaves: told by dialling servers over TCP,
 * which answers even where UDP does not pass.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import type { DialFault } from "./tcp_dialer.ts";

/** What dialling over TCP has shown. */
export interface Reach {
  /** The address that a connection left from, if one was made. */
  readonly localIp?: string;
  /** Why servers could not be reached. */
  readonly faults: readonly DialFault[];
}

/** Dials servers over TCP and says nothing, until one answers or the signal ends it. */
export async function reachTcp(
  network: Network,
  servers: readonly TransportAddress[],
  signal: AbortSignal,
): Promise<Reach> {
  const faults: DialFault[] = [];
  const dials = servers.map(async (to) => {
    try {
      using connection = await network.connectTcp(to, { signal });
      return connection.local.ip;
    } catch (error) {
      if (error instanceof NetworkError) faults.push({ to, reason: error.reason });
      throw error;
    }
  });
  try {
    return { localIp: await Promise.any(dials), faults };
  } catch (error) {
    if (!(error instanceof AggregateError)) throw error;
    return { faults };
  } finally {
    await Promise.allSettled(dials);
  }
}

/** Whether anything came back: then there is a network. */
export function hasComeBack({ localIp, faults }: Reach): boolean {
  return localIp !== undefined || faults.some(({ reason }) => CAME_BACK.includes(reason));
}

const CAME_BACK: readonly DialFault["reason"][] = ["refused", "reset", "not-stun"];
