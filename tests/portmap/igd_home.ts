/**
 * A simulated home with a gateway that speaks UPnP.
 *
 * @module
 */

import type { Network } from "../../lib/net/network.ts";
import { type IgdMapper, igdMapper } from "../../lib/portmap/upnp/client.ts";
import type { MappingRequest } from "../../lib/portmap/mapper.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import type { Internet } from "../simnet/internet.ts";
import type { Router } from "../simnet/router.ts";
import type { PacketEvent } from "../simnet/subnet.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";
import { FakeIgd, type FakeIgdOptions } from "./fake_gateway/fake_igd.ts";
import { GATEWAY_IP, HOST_IP, TCP_8080 } from "./fixtures.ts";

/** A host and its gateway. */
export interface IgdHome {
  readonly igd: FakeIgd;
  readonly mapper: IgdMapper;
  /** The network of the host. */
  readonly network: Network;
  /** The network of the gateway. */
  readonly gatewayNetwork: Network;
  readonly internet: Internet;
  readonly router: Router;
  readonly time: VirtualTime;
}

/** The host's and the gateway's IPv6 addresses. */
export const HOST_IP6 = "2001:db8::2";
export const GATEWAY_IP6 = "2001:db8::1";

/** TCP port 8080 of the host, over IPv6. */
export const TCP6_8080: MappingRequest = { ...TCP_8080, internal: { ip: HOST_IP6, port: 8080 } };

/** Runs a job at home, in virtual time. The gateway is 1 ms away. */
export function atIgdHome(
  options: FakeIgdOptions & { readonly over?: 4 | 6 },
  job: (home: IgdHome) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet, time }) => {
    const router = internet.router("router", {
      behavior: NAT_BEHAVIORS.portRestricted,
      lan: "192.168.1",
    });
    const { network: gatewayNetwork } = internet.host("gateway", {
      behind: router,
      addresses: [GATEWAY_IP, GATEWAY_IP6],
    });
    const { network } = internet.host("host", {
      behind: router,
      addresses: [HOST_IP, HOST_IP6],
      link: { delayMs: 1 },
    });
    const gateway = options.over === 6 ? GATEWAY_IP6 : GATEWAY_IP;
    using igd = await FakeIgd.start(gatewayNetwork, gateway, options);
    const mapper = igdMapper(gateway, { network });
    await job({ igd, mapper, network, gatewayNetwork, internet, router, time });
  });
}

/** Records the addresses that the host dials from now on, as `IP:PORT`. */
export function recordDials(internet: Internet): string[] {
  const dials: string[] = [];
  internet.onPacket = ({ at, what, packet }: PacketEvent) => {
    if (at !== "host" || what !== "sent" || packet.protocol !== "tcp") return;
    const { syn, ack } = packet.tcpFlags;
    if (syn && !ack) dials.push(`${packet.destination.ip}:${packet.destination.port}`);
  };
  return dials;
}
