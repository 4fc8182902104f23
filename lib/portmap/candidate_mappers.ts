/**
 * The candidates in the race for a mapping: each protocol with each gateway.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { WakeableDelay } from "../base/timers.ts";
import { ipFamily, ipScope } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import {
  type Gateway,
  guessGateways,
  INTERACTIVE_WAITS_MS,
  isSameIp,
  PATIENT_WAITS_MS,
} from "./gateway.ts";
import {
  type MapperName,
  type MappingGrant,
  MappingRefusedError,
  type MappingRequest,
  type PortMapper,
} from "./mapper.ts";
import { natPmpMapper } from "./nat_pmp/client.ts";
import { PCP_ANYCAST, pcpMapper } from "./pcp/client.ts";
import { pcpFirst } from "./pcp/nat_pmp_fallback.ts";
import type { CandidateMapper } from "./race.ts";
import { igdMapper } from "./upnp/client.ts";
import { discoverIgds, igdNotFound } from "./upnp/discovery.ts";
import type { MappingVerdict } from "./verdict.ts";
import { delay } from "@std/async/delay";

/** What {@linkcode candidateMappers} takes. */
export interface CandidateMapperOptions {
  readonly network: Network;
  readonly protocols: readonly MapperName[];
  /** The source of PCP's nonces; see `PcpMapperOptions`. */
  readonly secret: Uint8Array;
  /** Whether to use NAT-PMP only with gateways that turn out not to speak PCP: RFC 6887 appendix A. */
  readonly strict: boolean;
  /** Whether PCP by anycast has worked on this network; each address is tried only once. Without it, none is tried. */
  readonly anycast?: AnycastMemory;
}

/** Whether the PCP server behind an anycast address has granted a port, by this host's address. */
export type AnycastMemory = Map<string, boolean>;

/**
 * All protocols with all gateways, in the order of asking.
 *
 * PCP asks at once, since its request is its probe. NAT-PMP beside it asks for the external address first: with a
 * gateway that speaks both, PCP has won by then, and there are no two mappings of one port.
 */
export function candidateMappers(
  gateways: readonly Gateway[],
  options: CandidateMapperOptions,
): CandidateMapper[] {
  const { network, protocols } = options;
  const candidates: CandidateMapper[] = [];
  if (protocols.includes("pcp")) candidates.push(...pcpCandidates(gateways, options));
  if (protocols.includes("nat-pmp")) candidates.push(...natPmpCandidates(gateways, options));
  if (protocols.includes("upnp")) candidates.push(...upnpCandidates(gateways, network));
  return candidates;
}

/** Gives the protocol that granted last a head start: the others then have nothing to ask, and the router less to do. */
export function withPreferred(
  candidates: readonly CandidateMapper[],
  preferred: MapperName | undefined,
): readonly CandidateMapper[] {
  if (!candidates.some(({ protocol }) => protocol === preferred)) return candidates;
  return candidates.map((candidate): CandidateMapper => {
    if (candidate.protocol === preferred) return candidate;
    const ready = async (signal: AbortSignal) => {
      await delay(PREFERRED_HEAD_START_MS, { signal });
      return await candidate.ready(signal);
    };
    return { ...candidate, ready };
  });
}

function pcpCandidates(
  gateways: readonly Gateway[],
  options: CandidateMapperOptions,
): CandidateMapper[] {
  const { network, secret, strict } = options;
  const patience = new Map(gateways.map(({ localIp }) => [localIp, new GatewayPatience()]));
  const candidates = gateways.map((gateway): CandidateMapper => {
    const { ip, localIp } = gateway;
    const pcp = pcpMapper(ip, { network, localIp, secret, waitsMs: PATIENT_WAITS_MS });
    const fallsBack = strict && asksBoth(options) && ipFamily(ip) === 4;
    const mapper = fallsBack ? pcpFirst(pcp, interactiveNatPmp(ip, network)) : pcp;
    const noting = noticing(mapper, () => patience.get(localIp)!.end());
    return { protocol: "pcp", gateway, ready: () => Promise.resolve(noting) };
  });
  return [...candidates, ...anycastCandidates(patience, options)];
}

/** How long a gateway has to answer before others are asked. */
class GatewayPatience {
  readonly #delay = new WakeableDelay();
  #hasAnswered = false;

  /** The gateway has answered. */
  end(): void {
    this.#hasAnswered = true;
    this.#delay.wake();
  }

  /** Whether the gateway has answered, as soon as it has, or is late. */
  async hasAnswered(signal: AbortSignal): Promise<boolean> {
    await this.#delay.wait(ANYCAST_DELAY_MS, signal);
    return this.#hasAnswered;
  }
}

/** Calls back as soon as the gateway answers a request for a mapping, whatever it answers. */
function noticing(mapper: PortMapper, onAnswer: () => void): PortMapper {
  return {
    ...mapper,
    map: async (request, options) => {
      try {
        const grant = await mapper.map(request, options);
        onAnswer();
        return grant;
      } catch (error) {
        if (error instanceof MappingRefusedError || error instanceof MalformedMessageError) {
          onAnswer();
        }
        throw error;
      }
    },
  };
}

/** The nearest PCP server on the path, such as a carrier's: RFC 7723. Asked once, after the gateway's own was silent. */
function anycastCandidates(
  patience: ReadonlyMap<string, GatewayPatience>,
  { network, secret, anycast }: CandidateMapperOptions,
): CandidateMapper[] {
  if (anycast === undefined) return [];
  const untried = [...patience].filter(([localIp]) => anycast.get(localIp) !== false);
  return untried.map(([localIp, gateway]): CandidateMapper => {
    const ip = ipFamily(localIp) === 4 ? PCP_ANYCAST.ipv4 : PCP_ANYCAST.ipv6;
    const pcp = pcpMapper(ip, { network, localIp, secret, waitsMs: INTERACTIVE_WAITS_MS });
    return {
      protocol: "pcp",
      gateway: { ip, localIp, source: "guess" },
      silenceRemedy: ANYCAST_REMEDY,
      ready: async (signal) => {
        if (await gateway.hasAnswered(signal)) return undefined;
        anycast.set(localIp, false);
        return {
          ...pcp,
          map: async (request, options) => {
            const grant = await pcp.map(request, options);
            anycast.set(localIp, true);
            return grant;
          },
        };
      },
    };
  });
}

function natPmpCandidates(
  gateways: readonly Gateway[],
  options: CandidateMapperOptions,
): CandidateMapper[] {
  const hasPcp = asksBoth(options);
  if (options.strict && hasPcp) return []; // PCP falls back to it
  return gateways.filter(({ ip }) => ipFamily(ip) === 4).map((gateway): CandidateMapper => {
    const mapper = interactiveNatPmp(gateway.ip, options.network);
    return {
      protocol: "nat-pmp",
      gateway,
      ready: (signal) => hasPcp ? afterPcp(mapper, signal) : Promise.resolve(mapper),
    };
  });
}

function asksBoth({ protocols }: CandidateMapperOptions): boolean {
  return protocols.includes("pcp") && protocols.includes("nat-pmp");
}

function interactiveNatPmp(ip: string, network: Network): PortMapper {
  return natPmpMapper(ip, { network, waitsMs: PATIENT_WAITS_MS });
}

/** Gives PCP the time to answer, if the gateway speaks it. */
async function afterPcp(mapper: PortMapper, signal: AbortSignal): Promise<PortMapper> {
  const headStart = AbortSignal.timeout(PCP_HEAD_START_MS);
  try {
    await mapper.externalIp({ signal: AbortSignal.any([signal, headStart]) });
  } catch (error) {
    // Some gateways do not report their address, but map.
    if (error !== headStart.reason) throw error;
  }
  await delay(PCP_GRACE_MS, { signal });
  return mapper;
}

/** UPnP finds gateways by itself: where their addresses are guesses, any gateway that answers will do. */
function upnpCandidates(gateways: readonly Gateway[], network: Network): CandidateMapper[] {
  const guesses = gateways.filter(({ source }) => source === "guess");
  const known = gateways.filter(({ source }) => source !== "guess");
  const links = new Map(guesses.map((gateway) => [gateway.localIp, gateway]));
  return [
    ...known.map((gateway): CandidateMapper => ({
      protocol: "upnp",
      gateway,
      ready: (signal) => foundIgd(gateway.ip, { network, local: gateway.localIp, signal }),
    })),
    ...Array.from(links.values(), (gateway): CandidateMapper => ({
      protocol: "upnp",
      gateway,
      ready: (signal) => firstIgd(guesses, { network, local: gateway.localIp, signal }),
    })),
  ];
}

async function foundIgd(
  ip: string,
  { network, local, signal }: { network: Network; local: string; signal: AbortSignal },
): Promise<PortMapper> {
  const mapper = igdMapper(ip, { network, local });
  await mapper.find({ signal });
  return mapper;
}

/** The guessed gateway of the link, or else the first device that answers: a neighbour cannot come before a router. */
async function firstIgd(
  guesses: readonly Gateway[],
  { network, local, signal }: { network: Network; local: string; signal: AbortSignal },
): Promise<PortMapper> {
  const isGuess = (ip: string) => guesses.some((guess) => isSameIp(guess.ip, ip));
  const problems: Error[] = [];
  const onProblem = (problem: Error, responder: string) => {
    if (isGuess(responder)) problems.push(problem);
  };
  let first: string | undefined;
  for await (const found of discoverIgds(network, { links: [{ local }], onProblem, signal })) {
    const { ip } = found.device.location.address;
    if (isGuess(ip)) return await foundIgd(ip, { network, local, signal });
    first ??= ip;
  }
  if (first !== undefined) return await foundIgd(first, { network, local, signal });
  throw igdNotFound(`on the link of ${local}`, "no gateway answered", problems);
}

/** The gateway to ask upstream of the nearest one: an address, or the nearest PCP server's anycast address (RFC 7723). */
export type OuterGateway = string | "anycast";

/** What {@linkcode upstreamMappers} takes. */
export interface UpstreamMapperOptions {
  readonly network: Network;
  readonly secret: Uint8Array;
  /** Guessed by default, but only in private networks: elsewhere a guess would reach another customer's device. */
  readonly outerGateway?: OuterGateway;
}

/** The candidates that may open the port on the upstream NAT; none if there is no gateway to ask. */
export function upstreamMappers(
  inner: { readonly grant: MappingGrant; readonly gateway: Gateway },
  verdict: MappingVerdict,
  { network, secret, outerGateway }: UpstreamMapperOptions,
): CandidateMapper[] {
  const { grant, gateway } = inner;
  const seenAs = grant.external.ip;
  if (ipFamily(seenAs) === 6) return [];
  const gateways = outerIps(seenAs, verdict, outerGateway)
    .filter((ip) => outerGateway !== undefined || !isNear(ip, [gateway.ip, gateway.localIp]))
    .map((ip): Gateway => ({ ip, localIp: seenAs, source: "caller" }));
  return candidateMappers(gateways, {
    network: networkSeenAs(network, { outside: seenAs, inside: gateway.localIp }),
    protocols: outerGateway === "anycast" ? ["pcp"] : ["pcp", "nat-pmp"],
    secret,
    strict: false,
  });
}

/** What to ask the outer gateway for: the same external port as on the inner one. */
export function outerRequest(grant: MappingGrant, request: MappingRequest): MappingRequest {
  return { ...request, internal: grant.external, externalPort: grant.external.port };
}

function outerIps(
  seenAs: string,
  verdict: MappingVerdict,
  outerGateway: OuterGateway | undefined,
): string[] {
  if (outerGateway === "anycast") return [PCP_ANYCAST.ipv4];
  if (outerGateway !== undefined) return [outerGateway];
  const canGuess = verdict.kind === "double-nat" && ipScope(seenAs) === "private";
  return canGuess ? guessGateways([seenAs]).map(({ ip }) => ip) : [];
}

/** Whether a guess is on this host's own side of the gateway: a gateway that says so would send us to its neighbours. */
function isNear(ip: string, known: readonly string[]): boolean {
  const network = (each: string) => each.slice(0, each.lastIndexOf("."));
  return known.some((each) => network(each) === network(ip));
}

/** The network as if this host had the inner gateway's external address. */
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

/** Chosen by us: a router that still speaks the preferred protocol answers earlier, and one that does not costs no more. */
const PREFERRED_HEAD_START_MS = 500;

/** Chosen by us: gateways answer within a millisecond or two. */
const PCP_HEAD_START_MS = 200;

const ANYCAST_REMEDY = "Nothing: only some providers answer PCP at this address";

/** Chosen by us: the gateway has been asked four times by then. */
const ANYCAST_DELAY_MS = 2000;

/** Chosen by us: both answers of a gateway arrive within a millisecond or two of each other. */
const PCP_GRACE_MS = 5;
