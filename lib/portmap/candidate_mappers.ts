/**
 * Who takes part in the race for a mapping.
 *
 * @module
 */

import { NoResponseError } from "../base/errors.ts";
import { ipFamily } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import type { Gateway } from "./gateway.ts";
import type { MapperName, PortMapper } from "./mapper.ts";
import { natPmpMapper } from "./nat_pmp/client.ts";
import { pcpMapper } from "./pcp/client.ts";
import { pcpFirst } from "./pcp/nat_pmp_fallback.ts";
import type { Contender } from "./race.ts";
import { igdMapper } from "./upnp/client.ts";
import { discoverIgds } from "./upnp/discovery.ts";
import { FAST_WAITS_MS } from "./waits.ts";
import { delay } from "@std/async/delay";

/** What {@linkcode contendersFor} takes. */
export interface ContenderOptions {
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
export function contendersFor(
  gateways: readonly Gateway[],
  options: ContenderOptions,
): Contender[] {
  const { network, protocols, secret, strict } = options;
  const pcp = (gateway: Gateway) =>
    pcpMapper(gateway.ip, { network, localIp: gateway.localIp, secret, waitsMs: FAST_WAITS_MS });
  const natPmp = ({ ip }: Gateway) => natPmpMapper(ip, { network, waitsMs: FAST_WAITS_MS });
  const speaksNatPmp = gateways.filter(({ ip }) => ipFamily(ip) === 4);
  const hasBoth = protocols.includes("pcp") && protocols.includes("nat-pmp");
  return [
    ...!protocols.includes("pcp") ? [] : gateways.map((gateway): Contender => {
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
      : speaksNatPmp.map((gateway): Contender => ({
        protocol: "nat-pmp",
        gateway,
        ready: (signal) => readyBesidePcp(natPmp(gateway), { hasBoth, signal }),
      })),
    ...!protocols.includes("upnp") ? [] : upnpContenders(gateways, network),
  ];
}

/** Lets the protocol that granted last go ahead: the others then have nothing to ask, and the router less to do. */
export function withFavourite(
  contenders: readonly Contender[],
  favourite: MapperName | undefined,
): readonly Contender[] {
  if (!contenders.some(({ protocol }) => protocol === favourite)) return contenders;
  return contenders.map((contender): Contender => {
    if (contender.protocol === favourite) return contender;
    const ready = async (signal: AbortSignal) => {
      await delay(FAVOURITE_HEAD_START_MS, { signal });
      return await contender.ready(signal);
    };
    return { ...contender, ready };
  });
}

/** UPnP gateways tell where they are: where the others' address is a guess, whoever answers will do. */
function upnpContenders(gateways: readonly Gateway[], network: Network): Contender[] {
  const guesses = gateways.filter(({ source }) => source === "guess");
  const links = new Map(guesses.map((gateway) => [gateway.localIp, gateway]));
  return [
    ...gateways.filter((gateway) => !guesses.includes(gateway)).map((gateway): Contender => ({
      protocol: "upnp",
      gateway,
      ready: async (signal) => {
        const mapper = igdMapper(gateway.ip, { network, local: gateway.localIp });
        await mapper.find({ signal });
        return mapper;
      },
    })),
    ...Array.from(links.values(), (gateway): Contender => ({
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
