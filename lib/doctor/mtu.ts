/**
 * Whether large packets get through to a STUN server and back. A path that swallows them and does not say so (RFC 2923
 * §2.1, RFC 8900 §4) lets connections open and then stall.
 *
 * @module
 */

import { NetworkError, NoResponseError, RefusedError } from "../base/errors.ts";
import { ipFamily, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { requestBinding } from "../stun/client.ts";
import { getAttribute } from "../stun/message.ts";
import type { MtuFacts } from "./facts.ts";

/** Asks a server with requests of several lengths, all at once; each answer is to be as long as its request. */
export async function probeMtu(
  network: Network,
  server: TransportAddress,
  signal: AbortSignal,
): Promise<MtuFacts> {
  const [control, ...long] = await Promise.all(
    [0, ...SIZES].map((bytes) => ask(network, server, bytes, signal)),
  );
  return {
    isAnswered: control !== "no",
    sizes: SIZES.map((bytes, index) => ({ bytes, passes: long[index]! })),
  };
}

async function ask(
  network: Network,
  server: TransportAddress,
  bytes: number,
  signal: AbortSignal,
): Promise<MtuFacts["sizes"][number]["passes"]> {
  const headers = (ipFamily(server.ip) === 4 ? IPV4_HEADERS : IPV6_HEADERS) + STUN_HEADERS;
  const value = new Uint8Array(Math.max(0, bytes - headers));
  const attributes = bytes === 0 ? [] : [{ type: "PADDING", value } as const];
  try {
    const { response } = await requestBinding(server, {
      network,
      attributes,
      waitsMs: WAITS_MS,
      signal,
    });
    const isLong = bytes === 0 || getAttribute(response, "PADDING") !== undefined;
    return isLong ? "both ways" : "up";
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof RefusedError) return "up"; // it does not know the padding, and has read it
    if (error instanceof NoResponseError || error instanceof NetworkError) return "no";
    throw error;
  }
}

/** Of IP packets: the usual Ethernet, and what every link of IPv6 carries (RFC 8200 §5). */
const SIZES: readonly number[] = [1500, 1280];

/** Three requests, as one may be lost. Chosen by us: longer than most round trips, and done in two seconds. */
const WAITS_MS: readonly number[] = [350, 550, 900];

/** IP and UDP (RFC 791 §3.1, RFC 8200 §3, RFC 768). */
const IPV4_HEADERS = 20 + 8;
const IPV6_HEADERS = 40 + 8;

/** The header of the message and of its one attribute (RFC 8489 §5 and §14). */
const STUN_HEADERS = 20 + 4;
