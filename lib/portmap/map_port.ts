/**
 * Opening a port on the router, whichever protocol it speaks, and keeping it open.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
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
import {
  type HeldGrant,
  raceForGrant,
  type RaceOptions,
  type RaceResult,
  routerMutexOf,
} from "./race.ts";
import { isPlausibleExternalIp, type MappingVerdict } from "./verdict.ts";

/** What to open, and how. */
export interface MapPortOptions {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** The port of this host. */
  readonly internalPort: number;
  /** The external port to ask for; the internal port by default. The gateway may grant another. */
  readonly externalPort?: number;
  /** Whether to fail rather than accept another external port; `false` by default. */
  readonly exactExternalPort?: boolean;
  /** The lifetime to ask for; 3600 by default. If the program crashes, the port stays open until the lease expires. */
  readonly lifetimeSeconds?: number;
  /** The protocols to use; all three by default. */
  readonly protocols?: readonly MapperName[];
  /**
   * Whether to use NAT-PMP only with gateways that turn out not to speak PCP, as in RFC 6887 appendix A; `false` by
   * default: both are asked side by side, which is faster.
   */
  readonly strict?: boolean;
  /** The gateway's IP address, a link-local one with its zone; the host's default gateways by default. */
  readonly gateway?: string;
  /** The family of the gateway by default, or 4 without one. An IPv6 pinhole is a mapping of its own: call again for it. */
  readonly family?: IpFamily;
  /** Shown in the router's table of mappings; `punchline` by default. */
  readonly description?: string;
  /**
   * At least 16 bytes that the program keeps; random by default. With the same secret, PCP lets the next run renew and
   * delete what this one left open.
   */
  readonly secret?: Uint8Array;
  /** STUN servers that confirm the external address, `HOST[:PORT]`; none by default. */
  readonly servers?: readonly string[];
  /** The gateway to ask if there is another NAT upstream; guessed by default, in private networks only. */
  readonly outerGateway?: OuterGateway;
  /** How often to check that the mapping is still there; 60 by default, `Infinity` for never. */
  readonly checkSeconds?: number;
  /**
   * How long to wait for the mapping; 30,000 by default. It takes 5000 if no gateway answers, and longer only while one is
   * answering, sending its description or opening the port.
   */
  readonly timeoutMs?: number;
  /** Aborts the call, and later releases the mapping. */
  readonly signal?: AbortSignal;
  /** The system's network by default. */
  readonly network?: Network;
  /** Receives non-fatal diagnostics. */
  readonly logger?: Logger;
}

/**
 * Opens a port on the router and keeps it open: asks all default gateways by PCP, NAT-PMP and UPnP IGD at once, takes
 * the first usable grant, renews it, and gets it back when the router restarts or loses it. Disposal and abort release
 * the mapping.
 *
 * @example
 * ```ts ignore
 * await using mapping = await mapPort({ protocol: "tcp", internalPort: 8080 });
 * console.log(mapping.external, mapping.verdict.kind);
 * for await (const { event, external } of mapping.events) console.log(event, external);
 * ```
 *
 * @throws {TypeError} if an address or server is malformed, or no protocol is left
 * @throws {RangeError} if a port, a time or the secret's length is out of range
 * @throws {NoMappingError} an `UnreachableError`, if no gateway opens the port; `attempts` says how each one failed
 * @throws {NetworkError} if this host's network cannot be used
 * @throws the signal's reason on abort
 */
export async function mapPort(options: MapPortOptions): Promise<PortMapping> {
  const settings = withDefaults(options);
  checkSettings(settings);
  const { network, family, servers, signal } = settings;
  signal.throwIfAborted();

  const check = async (signal: AbortSignal) => {
    if (servers.length === 0) return [];
    const { checkExternalAddress } = await import("./external_address_check.ts"); // all of STUN
    return await checkExternalAddress({ network, family, servers, signal });
  };
  // The external address is checked while the gateways are asked, and no longer.
  const checked = optionalResolvers<readonly string[]>();
  await using checking = new TaskGroup(checked.reject);
  checking.run(async (over) => checked.resolve(await check(AbortSignal.any([signal, over]))));

  const result = await raceGateways(settings, signal);
  return await ManagedMapping.open(result, checked.promise, {
    ...settings,
    mutex: routerMutexOf(network),
    listens: true,
    race: (signal, held) => raceGateways(settings, signal, held),
    raceUpstream: (inner, verdict, signal) => raceUpstream(settings, { inner, verdict, signal }),
    checkExternalAddress: check,
  });
}

/** All gateways and protocols at once, but one caller at a time. */
async function raceGateways(
  settings: Settings,
  signal: AbortSignal,
  held: readonly MappingGrant[] = [],
): Promise<RaceResult> {
  const { network, protocols, secret, strict } = settings;
  const gateways = await gatewaysFor(settings, signal);
  const mutex = routerMutexOf(network);
  const { anycast } = mutex;
  const candidates = candidateMappers(gateways, { network, protocols, secret, strict, anycast });
  if (candidates.length === 0) {
    throw new NoMappingError(
      `map ${settings.protocol.toUpperCase()} port ${settings.internalPort}`,
      [],
    );
  }
  return await mutex.through(async () => {
    const racing = withPreferred(candidates, mutex.preferredProtocol);
    mutex.preferredProtocol = undefined; // until it has granted again
    const request = (gateway: Gateway) => requestFor(settings, gateway, held);
    const result = await raceForGrant(racing, raceOptions(settings, request, signal));
    const { mapper } = result.winner.grant;
    // The others send a packet or two before UPnP, and are faster.
    if (mapper !== "upnp") mutex.preferredProtocol = mapper;
    return result;
  });
}

/** The same port on the upstream NAT; `undefined` if there is no gateway to ask. */
function raceUpstream(
  settings: Settings,
  { inner, verdict, signal }: {
    readonly inner: HeldGrant;
    readonly verdict: MappingVerdict;
    readonly signal: AbortSignal;
  },
): Promise<RaceResult> | undefined {
  const candidates = upstreamMappers(inner, verdict, settings);
  if (candidates.length === 0) return undefined;
  const request = () => outerRequest(inner.grant, requestFor(settings, inner.gateway));
  return raceForGrant(candidates, raceOptions(settings, request, signal));
}

function raceOptions(
  { timeoutMs, logger }: Settings,
  request: (gateway: Gateway) => MappingRequest,
  signal: AbortSignal,
): RaceOptions {
  return {
    request,
    isUsable: ({ external }: MappingGrant) => isPlausibleExternalIp(external.ip),
    timeoutMs,
    onProblem: (problem) => logger?.warn(`Cannot release: ${problem}`),
    signal,
  };
}

/** @param held what this mapping was granted before, the latest grant first: it keeps its external port */
function requestFor(
  settings: Settings,
  { localIp }: Gateway,
  held: readonly MappingGrant[] = [],
): MappingRequest {
  const { protocol, internalPort, exactExternalPort, lifetimeSeconds, description } = settings;
  return {
    protocol,
    internal: { ip: localIp, port: internalPort },
    externalPort: held[0]?.external.port ?? settings.externalPort,
    exactExternalPort,
    lifetimeSeconds,
    description,
    held,
  };
}

/** The gateways of one family: the one that was named, those of the routing table, or guesses. */
async function gatewaysFor(
  { network, gateway, family }: Settings,
  signal: AbortSignal,
): Promise<Gateway[]> {
  const known = gateway === undefined ? [] : [parseIp(gateway)];
  const found = await findGateways({ network, known, signal });
  return found.filter(({ ip }) => ipFamily(ip) === family);
}

/** The options with their defaults. */
type Settings = ReturnType<typeof withDefaults>;

function withDefaults(options: MapPortOptions) {
  const { gateway } = options;
  return {
    ...options,
    lifetimeSeconds: options.lifetimeSeconds ?? DEFAULT_LIFETIME_SECONDS,
    protocols: options.protocols ?? ALL_PROTOCOLS,
    strict: options.strict ?? false,
    family: options.family ?? (gateway === undefined ? 4 : ipFamily(parseIp(gateway))),
    description: options.description ?? DEFAULT_DESCRIPTION,
    secret: options.secret ?? crypto.getRandomValues(new Uint8Array(32)),
    servers: options.servers ?? [],
    checkSeconds: options.checkSeconds ?? DEFAULT_CHECK_SECONDS,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    signal: options.signal ?? AbortSignal.any([]), // never aborts
    network: options.network ?? systemNetwork,
  };
}

function checkSettings(settings: Settings): void {
  const { protocols, servers, outerGateway, secret } = settings;
  checkRequest(requestFor(settings, ANY_GATEWAY));
  if (protocols.length === 0) throw new TypeError("Cannot map: name at least one protocol");
  for (const server of servers) parseHostPort(server, 0);
  if (outerGateway !== undefined && outerGateway !== "anycast") parseIp(outerGateway);
  if (secret.length < MIN_SECRET_LENGTH) {
    throw new RangeError(
      `Cannot map: the secret needs at least ${MIN_SECRET_LENGTH} bytes, not ${secret.length}`,
    );
  }
  for (const name of ["timeoutMs", "checkSeconds"] as const) {
    if (!(settings[name] > 0)) {
      throw new RangeError(`Cannot map: ${name} must be positive, not ${settings[name]}`);
    }
  }
}

const ALL_PROTOCOLS: readonly MapperName[] = ["pcp", "nat-pmp", "upnp"];
const ANY_GATEWAY: Gateway = { ip: "0.0.0.0", localIp: "0.0.0.0", source: "guess" };
const DEFAULT_DESCRIPTION = "punchline";

/** As `derivePcpNonce()` requires. */
const MIN_SECRET_LENGTH = 16;

/** Chosen by us: RFC 6886 §3.3 recommends 7200; half of that is how long a port stays open after a crash. */
const DEFAULT_LIFETIME_SECONDS = 3600;

/** Chosen by us: a packet or two a minute, and a mapping that the router has lost is back within one. */
const DEFAULT_CHECK_SECONDS = 60;

/** Chosen by us: UPnP devices that rewrite their firewall for each mapping take up to ten seconds for each of two calls. */
const DEFAULT_TIMEOUT_MS = 30_000;
