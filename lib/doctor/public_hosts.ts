/**
 * The hosts that `doctor --public` asks beside those that the user has named: pages that operating systems ask to find
 * out whether there is a captive portal. Nothing else of this program contacts them.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { Network } from "../net/network.ts";
import { resolveHost } from "../net/resolve.ts";
import type { PublicFacts } from "./facts.ts";
import { askHttp, clockOf } from "./http_head.ts";

/** A page that always has the same answer. */
export interface PublicPage {
  readonly host: string;
  readonly path: string;
  /** The status of its answer, by plain HTTP. */
  readonly status: number;
}

/** All of them. By three operators: one may be down, or blocked by name. */
export const PUBLIC_PAGES: readonly PublicPage[] = [
  { host: "connectivitycheck.gstatic.com", path: "/generate_204", status: 204 },
  { host: "www.msftconnecttest.com", path: "/connecttest.txt", status: 200 },
  { host: "detectportal.firefox.com", path: "/success.txt", status: 200 },
];

/**
 * Asks for a page, once.
 *
 * @throws the signal's reason on abort
 */
export async function probePage(
  network: Network,
  { host, path, status }: PublicPage,
  signal: AbortSignal,
): Promise<PublicFacts> {
  try {
    const ip = await resolveHost(network, host, { signal });
    const lines = [`GET ${path} HTTP/1.1`, `Host: ${host}`, "Connection: close"];
    const answer = await askHttp(network, { ip, port: 80 }, lines, signal);
    const clockMs = clockOf(answer, Date.now());
    if (answer === undefined) return { name: host, answer: "silence", clockMs };
    return {
      name: host,
      answer: answer.status === status ? "as expected" : "another page",
      clockMs,
    };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof NetworkError)) throw error;
    return { name: host, answer: "silence", clockMs: null };
  }
}
