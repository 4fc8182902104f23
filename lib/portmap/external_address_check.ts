/**
 * The external-address check: at which addresses STUN servers see this host. Only they can confirm that a gateway's
 * external address is the one that the internet sees.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";
import { type IpFamily, parseHostPort } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { resolveHost } from "../net/resolve.ts";
import { requestBinding } from "../stun/client.ts";

/** What {@linkcode checkExternalAddress} takes. */
export interface ExternalAddressCheckOptions {
  readonly network: Network;
  /** Which of the host's addresses to check. */
  readonly family: IpFamily;
  /** STUN servers, `HOST[:PORT]`. */
  readonly servers: readonly string[];
  readonly signal?: AbortSignal;
}

/**
 * The addresses at which STUN servers see this host. Servers that do not answer within 1.5 s, or before the signal
 * aborts, are left out: a verdict without them says so.
 */
export async function checkExternalAddress(
  options: ExternalAddressCheckOptions,
): Promise<string[]> {
  const { network, family, servers, signal } = options;
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const either = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
  const answers = await Promise.all(servers.map(async (server) => {
    try {
      const { host, port } = parseHostPort(server, STUN_PORT);
      const ip = await resolveHost(network, host, { family, signal: either });
      const binding = await requestBinding({ ip, port }, {
        network,
        waitsMs: WAITS_MS,
        signal: either,
      });
      return [binding.mapped.ip];
    } catch (error) {
      if (!either.aborted && !(error instanceof PunchlineError)) throw error;
      return [];
    }
  }));
  return answers.flat();
}

/** RFC 8489 §8.1. */
const STUN_PORT = 3478;

/** Chosen by us: the check runs alongside the race for a mapping, which takes as long if no gateway answers. */
const TIMEOUT_MS = 1500;

/** Chosen by us: a lost packet must not cost half a second. The timeout ends the last wait. */
const WAITS_MS = [100, 200, 400, 800, 1600];
