/**
 * A simulated home for `mapPort()`, whose gateway speaks the protocols that a test chooses.
 *
 * @module
 */

import { mapPort, type MapPortOptions } from "../../lib/portmap/map_port.ts";
import type { MappingEvent, PortMapping } from "../../lib/portmap/mapping.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import { FakeGateway, type FakeGatewayOptions } from "./fake_gateway/fake_gateway.ts";
import { FakeIgd, type FakeIgdOptions } from "./fake_gateway/fake_igd.ts";
import { GATEWAY_IP, HOST_IP } from "./fixtures.ts";

/** The protocols that the gateway speaks: PCP and NAT-PMP by default, not UPnP. */
export interface MapPortHomeOptions {
  /** How it speaks PCP and NAT-PMP. */
  readonly udp?: FakeGatewayOptions;
  /** How it speaks UPnP, if it does. */
  readonly igd?: FakeIgdOptions;
}

/** A host and its gateway. */
export interface MapPortHome {
  readonly internet: Internet;
  readonly gateway: FakeGateway;
  /** The UPnP device, if there is one. */
  readonly igd: FakeIgd | undefined;
  /** Maps TCP port 8080 for an hour. */
  map(options?: Partial<MapPortOptions>): Promise<PortMapping>;
  /** The external ports that are mapped, by any protocol. */
  open(): number[];
  /** Makes the gateway announce that it has started. */
  announce(): Promise<void>;
}

/** Runs a job at home, in virtual time. The gateway is 1 ms away. */
export function atMapPortHome(
  options: MapPortHomeOptions,
  job: (home: MapPortHome) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet }) => {
    const behavior = NAT_BEHAVIORS.portRestricted;
    const router = internet.router("router", { behavior, lan: "192.168.1" });
    const { network: gatewayNetwork } = internet.host("gateway", {
      behind: router,
      addresses: [GATEWAY_IP],
    });
    const { network } = internet.host("host", {
      behind: router,
      addresses: [HOST_IP],
      link: { delayMs: 1 },
    });
    using stack = new DisposableStack();
    const address = { ip: GATEWAY_IP, port: 5351 };
    const gateway = stack.use(await FakeGateway.start(gatewayNetwork, address, options.udp));
    const igd = options.igd && stack.use(
      await FakeIgd.start(gatewayNetwork, GATEWAY_IP, options.igd),
    );
    await job({
      internet,
      gateway,
      igd,
      map: (options) => mapPort({ protocol: "tcp", internalPort: 8080, network, ...options }),
      open: () =>
        [...gateway.table.entries, ...igd?.table.entries ?? []].map((entry) => entry.externalPort),
      announce: () => gateway.announce({ ip: "224.0.0.1", port: 5350 }),
    });
  });
}

/** Reads events up to the first of this kind. */
export async function nextEvent(
  mapping: PortMapping,
  kind: MappingEvent["event"],
): Promise<MappingEvent & { readonly atMs: number }> {
  for await (const event of mapping.events) {
    if (event.event === kind) return { ...event, atMs: performance.now() };
  }
  throw new Error(`Cannot read event ${kind}: the mapping has been released`);
}

/** A gateway that speaks only UPnP. */
export const UPNP_ALONE: MapPortHomeOptions = { udp: { speaks: [] }, igd: {} };
