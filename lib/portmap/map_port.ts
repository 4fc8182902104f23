/**
 * Opening a port on the router, whatever it speaks, and keeping it open.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { type IpFamily, ipFamily, parseHostPort, parseIp } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import {
  candidateMappers,
  type OuterGateway,
  outerRequest,
  upstreamMappers,
  withPreferred,
} from "./candidate_mappers.ts";
import { findGateways, type Gateway } from "./gateway.ts";
import {
  checkRequest,
  type MapperName,
  type MappingGrant,
  type MappingRequest,
  NoMappingError,
} from "./mapper.ts";
import { ManagedMapping, type PortMapping } from "./mapping.ts";
import { askOutside } from "./outside_view.ts";
import { raceForGrant, type RaceResult, turnsOf } from "./race.ts";
import { isPlausibleExternalIp } from "./verdict.ts";

/** What to open, and how. */
export interface MapPortOptions {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** The port of this host. */
  readonly internalPort: number;
  /** What to ask for; the internal port unless given. The gateway may grant another. */
  readonly externalPort?: number;
  /** Take no other external port; `false` unless told. */
  readonly exactExternalPort?: boolean;
  /** What to ask for; 3600 unless given. What a program leaves that dies is open for as long. */
  readonly lifetimeSeconds?: number;
  /** How to ask; all three unless given. */
  readonly protocols?: readonly MapperName[];
  /** NAT-PMP only where PCP is not known, as RFC 6887 appendix A has it; both are asked side by side otherwise. */
  readonly strict?: boolean;
  /** Whom to ask; the host's default gateways unless given. A link-local address takes its zone. */
  readonly gateway?: string;
  /** The gateway's unless given, and else 4: an IPv6 pinhole is another mapping, for another call. */
  readonly family?: IpFamily;
  /** For people who read the router's table; `punchline` unless given. */
  readonly description?: string;
  /**
   * At least 16 bytes that a program keeps: with them PCP lets its next run renew and delete what this one left. Random
   * unless given.
   */
  readonly secret?: Uint8Array;
  /** STUN servers that tell whether the address outside is the internet's, `HOST[:PORT]`; none is asked unless given. */
  readonly servers?: readonly string[];
  /** Whom to ask above the gateway if another NAT is there; guessed in private networks unless given. */
  readonly outerGateway?: OuterGateway;
  /** How often to look whether the mapping still is there, one question each; 60 unless given, `Infinity` for never. */
  readonly checkSeconds?: number;
  /** For the mapping to come about; 15 000 unless given. Where nobody answers it takes 2000. */
  readonly timeoutMs?: number;
  /** Gives up, or releases the mapping. */
  readonly signal?: AbortSignal;
  /** The system's own unless given. */
  readonly network?: Network;
  /** Hears what goes wrong without consequences. */
  readonly logger?: Logger;
}

/**
 * Opens a port on the router and keeps it open: asks all default gateways by PCP, NAT-PMP and UPnP IGD at once, takes
 * the first that grants, renews it, and gets it again when the router restarts or has forgotten it. Disposal releases
 * it, and so does an abort.
 *
 * @example
 * ```ts ignore
 * await using mapping = await mapPort({ protocol: "tcp", internalPort: 8080 });
 * console.log(mapping.external, mapping.verdict.kind);
 * for await (const { event, external } of mapping.events) console.log(event, external);
 * ```
 *
 * @throws {TypeError} if an address or server is none, or no protocol is left
 * @throws {RangeError} if a port, a time or the secret's length is out of range
 * @throws {NoMappingError} an `UnreachableError`, if no gateway opens the port; `attempts` has what each one said
 * @throws {NetworkError} if this host's network cannot be used
 * @throws the signal's reason on abort
 */
export async function mapPort(options: MapPortOptions): Promise<PortMapping> {
  const { network = systemNetwork, lifetimeSeconds = DEFAULT_LIFETIME_SECONDS } = options;
  const { checkSeconds = DEFAULT_CHECK_SECONDS, timeoutMs = DEFAULT_TIMEOUT_MS, logger } = options;
  const { servers = [], outerGateway, signal = new AbortController().signal } = options;
  const secret = options.secret ?? crypto.getRandomValues(new Uint8Array(32));
  check(options);
  signal.throwIfAborted();

  const family = options.family ?? familyOf(options.gateway);
  const asked = new AbortController(); // the witnesses are asked meanwhile, and let go with the race
  const both = AbortSignal.any([signal, asked.signal]);
  let firstView: Promise<string[]> | undefined = askOutside({
    network,
    family,
    servers,
    signal: both,
  });
  firstView.catch(() => {});

  const turns = turnsOf(network);
  const request = requestFor(options, lifetimeSeconds);
  const onProblem = (problem: unknown) => logger?.warn(`Cannot release: ${problem}`);
  const race = async (signal: AbortSignal): Promise<RaceResult> => {
    const gateways = await gatewaysFor(network, { ...options, family, signal });
    const candidates = candidateMappers(gateways, {
      network,
      protocols: options.protocols ?? ALL,
      secret,
      strict: options.strict ?? false,
    });
    if (candidates.length === 0) throw new NoMappingError(options, []);
    const isUsable = ({ external }: MappingGrant) => isPlausibleExternalIp(external.ip);
    return await turns.take(async () => {
      const racing = withPreferred(candidates, turns.preferred);
      turns.preferred = undefined; // until it has granted again
      const options = { request, isUsable, timeoutMs, onProblem, signal };
      const result = await raceForGrant(racing, options);
      const { mapper } = result.winner.grant;
      // What is asked before UPnP is a packet or two, and faster.
      if (mapper !== "upnp") turns.preferred = mapper;
      return result;
    });
  };

  try {
    const result = await race(signal);
    return await ManagedMapping.open(result, {
      network,
      turns,
      lifetimeSeconds,
      checkSeconds,
      listens: true,
      race,
      askOutside: (signal) => {
        const view = firstView ?? askOutside({ network, family, servers, signal });
        firstView = undefined;
        return view;
      },
      raceAbove: ({ grant, gateway }, verdict, signal) => {
        const above = { network, secret, outerGateway };
        const candidates = upstreamMappers({ grant, gateway }, verdict, above);
        if (candidates.length === 0) return undefined;
        return raceForGrant(candidates, {
          request: () => outerRequest(grant, request(gateway)),
          isUsable: ({ external }) => isPlausibleExternalIp(external.ip),
          timeoutMs,
          onProblem,
          signal,
        });
      },
      signal,
      logger,
    });
  } finally {
    asked.abort(new DOMException("The race is over", "AbortError"));
    await firstView?.catch(() => {});
  }
}

function requestFor(
  options: MapPortOptions,
  lifetimeSeconds: number,
): (gateway: Gateway) => MappingRequest {
  const { protocol, internalPort, externalPort, exactExternalPort, description } = options;
  return ({ localIp }) => ({
    protocol,
    internal: { ip: localIp, port: internalPort },
    externalPort,
    exactExternalPort,
    lifetimeSeconds,
    description: description ?? DEFAULT_DESCRIPTION,
  });
}

/** Of one family; those of the routing table, or what the host's own address lets guess. */
async function gatewaysFor(
  network: Network,
  { gateway, family, signal }: { gateway?: string; family: IpFamily; signal: AbortSignal },
): Promise<Gateway[]> {
  const known = gateway === undefined ? [] : [parseIp(gateway)];
  const found = await findGateways({ network, known, signal });
  return found.filter(({ ip }) => ipFamily(ip) === family);
}

function familyOf(gateway: string | undefined): IpFamily {
  return gateway === undefined ? 4 : ipFamily(parseIp(gateway));
}

function check(options: MapPortOptions): void {
  const { protocols = ALL, servers = [], outerGateway, secret } = options;
  const { lifetimeSeconds = DEFAULT_LIFETIME_SECONDS } = options;
  checkRequest(requestFor(options, lifetimeSeconds)(ANY_GATEWAY));
  if (protocols.length === 0) throw new TypeError("Cannot map: it takes at least one protocol");
  for (const server of servers) parseHostPort(server, 0);
  if (outerGateway !== undefined && outerGateway !== "anycast") parseIp(outerGateway);
  if (secret !== undefined && secret.length < MIN_SECRET_LENGTH) {
    throw new RangeError(
      `Cannot map: a secret has at least ${MIN_SECRET_LENGTH} bytes, not ${secret.length}`,
    );
  }
  for (const name of ["timeoutMs", "checkSeconds"] as const) {
    const value = options[name];
    if (value !== undefined && !(value > 0)) {
      throw new RangeError(`Cannot map: ${name} is positive, not ${value}`);
    }
  }
}

const ALL: readonly MapperName[] = ["pcp", "nat-pmp", "upnp"];
const ANY_GATEWAY: Gateway = { ip: "0.0.0.0", localIp: "0.0.0.0", source: "guess" };
const DEFAULT_DESCRIPTION = "punchline";

/** As {@linkcode derivePcpNonce} has it. */
const MIN_SECRET_LENGTH = 16;

/** Ours: RFC 6886 §3.3 recommends 7200, and half of that is what a crash leaves open. */
const DEFAULT_LIFETIME_SECONDS = 3600;

/** Ours: a packet or two a minute, and a mapping that a router has forgotten is back within one. */
const DEFAULT_CHECK_SECONDS = 60;

/** Ours: UPnP devices that rewrite their firewall for each mapping take seconds for each of several calls. */
const DEFAULT_TIMEOUT_MS = 15_000;
