/**
 * Where a pair of the relay meets if a rendezvous has several nodes behind one name, and its two connections came to
 * different ones: the nodes tell each other of connections that wait, and the one whose name comes first keeps its own. The
 * other one tells its client to come there. No relayed byte goes from node to node.
 *
 * @module
 */

import { type RendezvousBus, subjectOf } from "./bus.ts";

/** The relay of one node, as the others see it. */
export class RelayNodes {
  readonly #bus: RendezvousBus;
  readonly #host: string;

  /**
   * @param host where clients reach this node alone: `HOST` or `HOST:PORT`
   * @throws {TypeError} if it is neither
   */
  constructor(bus: RendezvousBus, host: string) {
    if (!isNodeHost(host)) throw new TypeError(`Cannot use ${host}: a node is HOST or HOST:PORT`);
    this.#bus = bus;
    this.#host = host;
  }

  /**
   * A connection waits here for its other half.
   *
   * @param move tells the client to come to another node
   */
  wait(token: string, move: (host: string) => void): void {
    const subject = subjectOf("relay", token);
    const own = new TextEncoder().encode(this.#host);
    this.#bus.subscribe(subject, (message) => {
      const host = new TextDecoder().decode(message);
      if (!isNodeHost(host) || host === this.#host) return;
      if (host < this.#host) move(host);
      else this.#bus.publish(subject, own);
    });
    this.#bus.publish(subject, own);
  }

  /** It waits no longer. */
  forget(token: string): void {
    this.#bus.unsubscribe(subjectOf("relay", token));
  }
}

/**
 * The URL of a node that the rendezvous at `url` has named; `undefined` if that may not send clients there: a node is on
 * the same host, or its name is below that of the rendezvous.
 */
export function urlOfNode(url: string, host: string): URL | undefined {
  if (!isNodeHost(host)) return undefined;
  const original = new URL(url);
  const target = URL.parse(`${original.protocol}//${host}${original.pathname}`);
  if (target === null) return undefined;
  const isBelow = /[a-z]$/.test(original.hostname) &&
    target.hostname.endsWith(`.${original.hostname}`);
  return isBelow || target.hostname === original.hostname ? target : undefined;
}

/** The reason of a close frame has 123 bytes. */
function isNodeHost(host: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9.-]{0,99}(?::\d{1,5})?$/.test(host);
}
