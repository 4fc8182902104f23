/**
 * A TCP port on loopback that answers no SYN: a listener whose accept queue is full.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";

/** Holds the port until disposed. Works on Linux, where a full listener drops SYNs; other systems refuse them. */
export class SilentPort implements Disposable {
  readonly address: TransportAddress;
  readonly #listener: Deno.Listener;
  readonly #filling: Deno.Conn[] = [];

  private constructor(listener: Deno.Listener) {
    this.#listener = listener;
    const { hostname, port } = listener.addr as Deno.NetAddr;
    this.address = { ip: hostname, port };
  }

  /** Opens one. */
  static async open(): Promise<SilentPort> {
    const silent = new SilentPort(Deno.listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 1 }));
    const { ip: hostname, port } = silent.address;
    // The queue holds one more than its length.
    for (let i = 0; i < 2; i++) silent.#filling.push(await Deno.connect({ hostname, port }));
    return silent;
  }

  [Symbol.dispose](): void {
    for (const conn of this.#filling) conn.close();
    this.#listener.close();
  }
}
