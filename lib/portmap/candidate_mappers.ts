/**
 * Who takes part in the race for a mapping.
 *
 * @module
 */

import { NoResponseError } from "../base/errors.ts";
import { ipFamily, ipScope } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { type Gateway, guessGateways } from "./gateway.ts";
import { FAST_WAITS_MS } from "./gateway_transaction.ts";
import type { MapperName, MappingGrant, MappingRequest, PortMapper } from "./mapper.ts";
import { natPmpMapper } from "./nat_pmp/client.ts";
import { PCP_ANYCAST, pcpMapper } from "./pcp/client.ts";
import { pcpFirst } from "./pcp/nat_pmp_fallback.ts";
import type { CandidateMapper } from "./race.ts";
import { igdMapper } from "./upnp/client.ts";
import { discoverIgds } from "./upnp/discovery.ts";
import type { MappingVerdict } from "./verdict.ts";
import { delay } from "@std/async/delay";

/** What {@linkcode candidateMappers} takes. */
export interface CandidateMapperOptions {
  readonly network: Network;
  readonly protocols: readonly MapperName[];
  /** What PCP's nonces derive from; see `PcpMapperOptions`. */
  readonly secret: Uint8Array;
  /** NAT-PMP only with gateways that have shown to know no PCP: RFC 6887 appendix A. */
  readonly strict: boolean;
}

/**
 * All protocols with all gateways, in the order of asking.
 *
 * PCP asks at once, since its request is its probe. NAT-PMP beside it asks for the external address first, so that
 * with a gateway of both PCP has won by then, and there are no two mappings of one port.
 */
export function candidateMappers(
  gateways: readonly Gateway[],
  options: CandidateMapperOptions,
): CandidateMapper[] {
  const { network, protocols, secret, strict } = options;
  const pcp = (gateway: Gateway) =>
    pcpMapper(gateway.ip, { network, localIp: gateway.localIp, secret, waitsMs: FAST_WAITS_MS });
  const natPmp = ({ ip }: Gateway) => natPmpMapper(ip, { network, waitsMs: FAST_WAITS_MS });
  const speaksNatPmp = gateways.filter(({ ip }) => ipFamily(ip) === 4);
  const hasBoth = protocols.includes("pcp") && protocols.includes("nat-pmp");
  return [
    ...!protocols.includes("pcp") ? [] : gateways.map((gateway): CandidateMapper => {
      const isBoth = strict && hasBoth && ipFamily(gateway.ip) === 4;
      return {
        protocol: "pcp",
        gateway,
        ready: () =>
          Promise.resolve(isBoth ? pcpFirst(pcp(gateway), natPmp(gateway)) : pcp(gateway)),
      };
    }),
    ...!protocols.includes("nat-pmp") || strict && hasBoth
      ? []
      : speaksNatPmp.map((gateway): CandidateMapper => ({
        protocol: "nat-pmp",
        gateway,
        ready: (signal) => readyBesidePcp(natPmp(gateway), { hasBoth, signal }),
      })),
    ...!protocols.includes("upnp") ? [] : upnpContenders(gateways, network),
  ];
}

/** Lets the protocol that granted last go ahead: the others then have nothing to ask, and the router less to do. */
export function withPreferred(
  candidates: readonly CandidateMapper[],
  preferred: MapperName | undefined,
): readonly CandidateMapper[] {
  if (!candidates.some(({ protocol }) => protocol === preferred)) return candidates;
  return candidates.map((candidate): CandidateMapper => {
    if (candidate.protocol === preferred) return candidate;
    const ready = async (signal: AbortSignal) => {
      await delay(FAVOURITE_HEAD_START_MS, { signal });
      return await candidate.ready(signal);
    };
    return { ...candidate, ready };
  });
}

/** UPnP gateways tell where they are: where the others' address is a guess, whoever answers will do. */
function upnpContenders(gateways: readonly Gateway[], network: Network): CandidateMapper[] {
  const guesses = gateways.filter(({ source }) => source === "guess");
  const links = new Map(guesses.map((gateway) => [gateway.localIp, gateway]));
  return [
    ...gateways.filter((gateway) => !guesses.includes(gateway)).map((gateway): CandidateMapper => ({
      protocol: "upnp",
      gateway,
      ready: async (signal) => {
        const mapper = igdMapper(gateway.ip, { network, local: gateway.localIp });
        await mapper.find({ signal });
        return mapper;
      },
    })),
    ...Array.from(links.values(), (gateway): CandidateMapper => ({
      protocol: "upnp",
      gateway,
      ready: (signal) => anyIgd(network, gateway.localIp, signal),
    })),
  ];
}

/** The gateway that answers first. */
async function anyIgd(network: Network, local: string, signal: AbortSignal): Promise<PortMapper> {
  for await (const { device } of discoverIgds(network, { links: [{ local }], signal })) {
    const mapper = igdMapper(device.location.address.ip, { network, local });
    await mapper.find({ signal });
    return mapper;
  }
  throw new NoResponseError(`Cannot find UPnP on the link of ${local}: no gateway answers`);
}

async function readyBesidePcp(
  mapper: PortMapper,
  { hasBoth, signal }: { hasBoth: boolean; signal: AbortSignal },
): Promise<PortMapper> {
  if (!hasBoth) return mapper;
  const headStart = AbortSignal.timeout(PCP_HEAD_START_MS);
  try {
    await mapper.externalIp({ signal: AbortSignal.any([signal, headStart]) });
  } catch (error) {
    // Some gateways keep their address to themselves, and map.
    if (error !== headStart.reason) throw error;
  }
  await delay(PCP_GRACE_MS, { signal });
  return mapper;
}

/** Ours: a router that still speaks the protocol answers before, and one that does not costs no more. */
const FAVOURITE_HEAD_START_MS = 500;

/** Ours: with 1.75 s of asking after it a silent gateway has cost less than 2 s. */
const PCP_HEAD_START_MS = 200;

/** Ours: both answers of a gateway come within a millisecond or two of each other. */
const PCP_GRACE_MS = 5;

/** Whom to ask above the gateway: an address, or RFC 7723's, which is the nearest PCP server, whosever it is. */
export type OuterGateway = string | "anycast";

/** What {@linkcode upstreamMappers} takes. */
export interface UpstreamMapperOptions {
  readonly network: Network;
  readonly secret: Uint8Array;
  /** Guessed in a private network unless given; in a carrier's and the internet the guesses would be strangers. */
  readonly outerGateway?: OuterGateway;
}

/** Who may open the port above the gateway; nobody if there is nobody to ask. */
export function upstreamMappers(
  inner: { readonly grant: MappingGrant; readonly gateway: Gateway },
  verdict: MappingVerdict,
  { network, secret, outerGateway }: UpstreamMapperOptions,
): CandidateMapper[] {
  const { grant, gateway } = inner;
  if (ipFamily(grant.external.ip) === 6) return [];
  const seenAs = grant.external.ip;
  const canGuess = verdict.kind === "double-nat" && ipScope(seenAs) === "private";
  const gateways = outerGateway === undefined
    ? canGuess ? guessGateways([seenAs]) : []
    : [{ ip: outerGateway === "anycast" ? PCP_ANYCAST.ipv4 : outerGateway }];
  return candidateMappers(
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
