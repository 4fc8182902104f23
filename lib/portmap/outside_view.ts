/**
 * How servers see this host: the only witnesses of whether a gateway's address is the internet's.
 *
 * @module
 */

import { type IpFamily, parseHostPort } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { resolveHost } from "../net/resolve.ts";
import { FAST_BINDING_WAITS_MS, requestBinding } from "../stun/client.ts";
import { isOfGateway } from "./mapper.ts";

/** What {@linkcode askOutside} takes. */
export interface AskOutsideOptions {
  readonly network: Network;
  /** Which of the host's addresses. */
  readonly family: IpFamily;
  /** STUN servers, `HOST[:PORT]`. */
  readonly servers: readonly string[];
  readonly signal?: AbortSignal;
}

/**
 * The addresses at which STUN servers see this host; those that do not answer within a second or two are left out.
 *
 * @throws the signal's reason on abort
 */
export async function askOutside(options: AskOutsideOptions): Promise<string[]> {
  const { network, family, servers, signal } = options;
  const expiry = AbortSignal.timeout(TIMEOUT_MS);
  const either = AbortSignal.any([expiry, ...signal === undefined ? [] : [signal]]);
  const answers = await Promise.all(servers.map(async (server) => {
    try {
      const { host, port } = parseHostPort(server, STUN_PORT);
      const ip = await resolveHost(network, host, { family, signal: either });
      const binding = await requestBinding({ ip, port }, {
        network,
        waitsMs: FAST_BINDING_WAITS_MS,
        signal: either,
      });
      return [binding.mapped.ip];
    } catch (error) {
      signal?.throwIfAborted();
      // A verdict without witnesses says so; none is worth an error.
      if (error !== expiry.reason && !isOfGateway(error) && !isRefusal(error)) throw error;
      return [];
    }
  }));
  return answers.flat();
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.name === "RefusedError";
}

/** RFC 8489 §8.1. */
const STUN_PORT = 3478;

/** Ours: it runs beside the race, which takes as long where nobody answers. */
const TIMEOUT_MS = 1500;
