/**
 * A simulated home with a gateway that speaks PCP and NAT-PMP.
 *
 * @module
 */

import type { Network } from "../../lib/net/network.ts";
import type { MappingRequest, PortMapper } from "../../lib/portmap/mapper.ts";
import { natPmpMapper, type NatPmpMapperOptions } from "../../lib/portmap/nat_pmp/client.ts";
import { pcpMapper, type PcpMapperOptions } from "../../lib/portmap/pcp/client.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { simulate } from "../simnet/simulate.ts";
import { FakeGateway, type FakeGatewayOptions } from "./fake_gateway/fake_gateway.ts";

/** A host and its gateway. */
export interface Home {
  readonly gateway: FakeGateway;
  /** The network of the gateway, to send datagrams from there. */
  readonly gatewayNetwork: Network;
  /** The network of the host. */
  readonly network: Network;
  pcp(options?: Partial<PcpMapperOptions>): PortMapper;
  natPmp(options?: Partial<NatPmpMapperOptions>): PortMapper;
}

/** The host. */
export const HOST_IP = "192.168.1.2";
/** Its gateway. */
export const GATEWAY_IP = "192.168.1.1";

/** TCP port 8080 of the host, for an hour. */
export const TCP_8080: MappingRequest = {
  protocol: "tcp",
  internal: { ip: HOST_IP, port: 8080 },
  lifetimeSeconds: 3600,
  description: "test",
};

/** UDP port 8080 of the host, for an hour. */
export const UDP_8080: MappingRequest = { ...TCP_8080, protocol: "udp" };

/** Runs a job at home, in virtual time. The gateway is 1 ms away. */
export function atHome(
  options: FakeGatewayOptions,
  job: (home: Home) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet }) => {
    const router = internet.router("router", {
      behavior: NAT_BEHAVIORS.portRestricted,
      lan: "192.168.1",
    });
    const { network: gatewayNetwork } = internet.host("gateway", {
      behind: router,
      addresses: [GATEWAY_IP, "fd00::1"],
    });
    const { network } = internet.host("host", {
      behind: router,
      addresses: [HOST_IP, "2001:db8::2"],
      link: { delayMs: 1 },
    });
    using gateway = await FakeGateway.start(
      gatewayNetwork,
      { ip: GATEWAY_IP, port: 5351 },
      options,
    );
    await job({
      gateway,
      gatewayNetwork,
      network,
      pcp: (options) => pcpMapper(GATEWAY_IP, { network, localIp: HOST_IP, ...options }),
      natPmp: (options) => natPmpMapper(GATEWAY_IP, { network, ...options }),
    });
  });
}
