/**
 * Performs one action with a gateway, and prints the result as JSON: `map_ports.ts PROTOCOL ACTION [JSON]`. Grants pass
 * from one run to the next as they were printed.
 *
 * @module
 */

import { systemNetwork as network } from "../../../lib/net/system.ts";
import { listenForAnnouncements } from "../../../lib/portmap/announcements.ts";
import { findGateways, type Gateway } from "../../../lib/portmap/gateway.ts";
import type { MappingGrant, MappingRequest, PortMapper } from "../../../lib/portmap/mapper.ts";
import { natPmpMapper } from "../../../lib/portmap/nat_pmp/client.ts";
import { pcpMapper } from "../../../lib/portmap/pcp/client.ts";
import { requestPcpPeer } from "../../../lib/portmap/pcp/peer.ts";
import { INTERACTIVE_WAITS_MS } from "../../../lib/portmap/gateway.ts";
import { HOME_ROUTER } from "../miniupnpd.ts";

const [protocol = "", action = "", json = "null"] = Deno.args;
const result = await run(action, JSON.parse(json));
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify(result ?? null));

async function run(action: string, argument: unknown): Promise<unknown> {
  const mapper = mapperOf(protocol);
  switch (action) {
    case "map":
      return await mapper.map(argument as MappingRequest);
    case "renew":
      return await mapper.renew(argument as MappingGrant, { lifetimeSeconds: 7200 });
    case "release":
      return await mapper.release(argument as MappingGrant);
    case "probe":
      return await mapper.probe();
    case "external-ip":
      return await mapper.externalIp();
    case "gateways":
      return await findGateways({ network });
    case "peer":
      return await peer();
    case "listen":
      return await firstAnnouncement(argument as Pick<Gateway, "ip" | "localIp">);
    case "time":
      return await time(mapper, argument as MappingRequest);
    default:
      throw new TypeError(`Cannot do ${action}`);
  }
}

function mapperOf(protocol: string): PortMapper {
  const common = { network, waitsMs: INTERACTIVE_WAITS_MS, secret: new Uint8Array(16) };
  switch (protocol) {
    case "pcp":
      return pcpMapper(HOME_ROUTER.gateway, { ...common, localIp: HOME_ROUTER.host });
    case "pcp6":
      return pcpMapper(HOME_ROUTER.gateway6, { ...common, localIp: HOME_ROUTER.host6 });
    case "nat-pmp":
      return natPmpMapper(HOME_ROUTER.gateway, common);
    default:
      throw new TypeError(`Cannot speak ${protocol}`);
  }
}

/** The first announcement of a gateway. */
async function firstAnnouncement(gateway: Pick<Gateway, "ip" | "localIp">) {
  using listener = await listenForAnnouncements(network, gateway);
  // deno-lint-ignore no-console -- a program
  console.error("listening");
  return await listener.next({ signal: AbortSignal.timeout(10_000) });
}

function peer() {
  return requestPcpPeer({
    network,
    address: { ip: HOME_ROUTER.gateway, port: 5351 },
    waitsMs: INTERACTIVE_WAITS_MS,
  }, {
    protocol: "tcp",
    internal: { ip: HOME_ROUTER.host, port: 50_000 },
    remotePeer: { ip: HOME_ROUTER.outside, port: 80 },
    lifetimeSeconds: 600,
    nonce: new Uint8Array(12).fill(1),
  });
}

/** How long it takes to map, the first time of this process and later. */
async function time(mapper: PortMapper, request: MappingRequest) {
  const timesMs: number[] = [];
  for (let port = 20_000; port < 20_050; port++) {
    const internal = { ...request.internal, port };
    const startMs = performance.now();
    const grant = await mapper.map({ ...request, internal });
    timesMs.push(performance.now() - startMs);
    await mapper.release(grant);
  }
  const sorted = timesMs.toSorted((a, b) => a - b);
  return { firstMs: timesMs[0], medianMs: sorted[25], slowestMs: sorted[49] };
}
