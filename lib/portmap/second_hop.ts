/**
 * The router above the router: opening a port on both of two NATs in a row.
 *
 * The outer gateway sees this host at the inner one's external address. By PCP and NAT-PMP it can be asked all the
 * same, for that address and the port that the inner gateway granted: what comes there is let in.
 *
 * @module
 */

import { ipFamily, ipScope } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { contendersFor } from "./candidate_mappers.ts";
import { type Gateway, guessGateways } from "./gateway.ts";
import type { MappingGrant, MappingRequest } from "./mapper.ts";
import { PCP_ANYCAST } from "./pcp/client.ts";
import type { Contender } from "./race.ts";
import type { MappingVerdict } from "./verdict.ts";

/** Whom to ask above the gateway: an address, or RFC 7723's, which is the nearest PCP server, whosever it is. */
export type OuterGateway = string | "anycast";

/** What {@linkcode outerContenders} takes. */
export interface OuterContenderOptions {
  readonly network: Network;
  readonly secret: Uint8Array;
  /** Guessed in a private network unless given; in a carrier's and the internet the guesses would be strangers. */
  readonly outerGateway?: OuterGateway;
}

/** Who may open the port above the gateway; nobody if there is nobody to ask. */
export function outerContenders(
  inner: { readonly grant: MappingGrant; readonly gateway: Gateway },
  verdict: MappingVerdict,
  { network, secret, outerGateway }: OuterContenderOptions,
): Contender[] {
  const { grant, gateway } = inner;
  if (ipFamily(grant.external.ip) === 6) return [];
  const seenAs = grant.external.ip;
  const canGuess = verdict.kind === "double-nat" && ipScope(seenAs) === "private";
  const gateways = outerGateway === undefined
    ? canGuess ? guessGateways([seenAs]) : []
    : [{ ip: outerGateway === "anycast" ? PCP_ANYCAST.ipv4 : outerGateway }];
  return contendersFor(
    gateways.map(({ ip }): Gateway => ({ ip, localIp: seenAs, source: "caller" })),
    {
      network: networkSeenAs(network, { outside: seenAs, inside: gateway.localIp }),
      protocols: outerGateway === "anycast" ? ["pcp"] : ["pcp", "nat-pmp"],
      secret,
      strict: false,
    },
  );
}

/** What to ask the outer gateway for, so that the port outside is the same on both if it can be. */
export function outerRequest(grant: MappingGrant, request: MappingRequest): MappingRequest {
  return { ...request, internal: grant.external, externalPort: grant.external.port };
}

/** A network whose host seems to have the inner gateway's address. */
function networkSeenAs(
  network: Network,
  { outside, inside }: { outside: string; inside: string },
): Network {
  return {
    bindUdp: (local, options) =>
      network.bindUdp(local.ip === outside ? { ...local, ip: inside } : local, options),
    connectTcp: (remote, options) => network.connectTcp(remote, options),
    connectTls: (remote, options) => network.connectTls(remote, options),
    listenTcp: (local, options) => network.listenTcp(local, options),
    canReusePort: network.canReusePort,
    resolve: (hostname, family, options) => network.resolve(hostname, family, options),
    localAddresses: () => network.localAddresses(),
    ownsAddress: (ip) => network.ownsAddress(ip),
    defaultGateways: () => network.defaultGateways(),
  };
}
