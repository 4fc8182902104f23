/**
 * A client and a server in a simulated internet, for tests of the STUN client.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import { requestBinding, type RequestBindingOptions } from "../../lib/stun/client.ts";
import type { Host } from "../simnet/host.ts";
import { Internet } from "../simnet/internet.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

/** The hosts of a test. */
export interface Hosts {
  readonly time: VirtualTime;
  readonly internet: Internet;
  readonly client: Host;
  readonly server: Host;
  ask(
    server: TransportAddress,
    options?: Omit<RequestBindingOptions, "network">,
  ): ReturnType<typeof requestBinding>;
}

/** Runs a test between two hosts that are 20 ms apart. */
export async function withHosts(test: (hosts: Hosts) => Promise<void>): Promise<void> {
  using time = new VirtualTime();
  const internet = new Internet();
  const client = internet.host("client", { link: { delayMs: 10 } });
  const server = internet.host("server", { link: { delayMs: 10 } });
  await time.run(() =>
    test({
      time,
      internet,
      client,
      server,
      ask: (address, options) => requestBinding(address, { ...options, network: client.network }),
    })
  );
}

/** A port of a host, with its first address. */
export function at(host: Host, port: number): TransportAddress {
  return { ip: host.addresses[0]!, port };
}
