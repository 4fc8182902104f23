/**
 * Checks, before the lease expires, that a mapping is still what was granted: gateways restart, wipe their tables
 * every few minutes (tailscale #10597), and get other addresses.
 *
 * @module
 */

import { formatTransportAddress, ipFamily } from "../net/address.ts";
import { isEpochConsistent } from "./epoch.ts";
import { isSameOutside, type LeaseFinding, RESTARTED } from "./lease_engine.ts";
import type { MappingGrant, PortMapper } from "./mapper.ts";
import type { IgdMapper } from "./upnp/client.ts";

/**
 * Asks the gateway about a mapping. PCP and NAT-PMP have no question for that but a renewal for what is left of the
 * lifetime, which changes nothing if the mapping is there. IPv6 pinholes of PCP are not renewed, because miniupnpd
 * 2.3.1 does not close those that were requested twice; there the gateway's clock has to do.
 *
 * @throws what the mapper throws if it gets no answer
 */
export async function checkLease(
  mapper: PortMapper,
  grant: MappingGrant,
  signal: AbortSignal,
): Promise<LeaseFinding> {
  const isPinhole = ipFamily(grant.internal.ip) === 6;
  if (isIgd(mapper)) {
    return isPinhole
      ? await checkIgdPinhole(mapper, grant, signal)
      : await checkIgdEntry(mapper, grant, signal);
  }
  return isPinhole
    ? await checkClock(mapper, grant, signal)
    : await askAgain(mapper, grant, signal);
}

async function askAgain(
  mapper: PortMapper,
  grant: MappingGrant,
  signal: AbortSignal,
): Promise<LeaseFinding> {
  const lifetimeSeconds = Math.max(1, Math.round(secondsLeft(grant)));
  const renewed = await mapper.renew(grant, { lifetimeSeconds, signal });
  if (!isEpochConsistent(grant, renewed.epoch)) {
    return { kind: "remade", reason: RESTARTED, grant: renewed };
  }
  return isSameOutside(grant, renewed)
    ? { kind: "fine", grant: { ...grant, epoch: renewed.epoch } }
    : { kind: "changed", grant: renewed };
}

async function checkClock(
  mapper: PortMapper,
  grant: MappingGrant,
  signal: AbortSignal,
): Promise<LeaseFinding> {
  const probe = await mapper.probe({ signal });
  if (probe.kind === "refused") throw probe.error;
  if (probe.kind !== "supported") return { kind: "fine", grant };
  if (!isEpochConsistent(grant, probe.epoch)) {
    return { kind: "lost", reason: RESTARTED, hasRestarted: true };
  }
  return { kind: "fine", grant: { ...grant, epoch: probe.epoch } };
}

/** CheckPinholeWorking also denies a pinhole that no packet has used yet, so extending it is the better test. */
async function checkIgdPinhole(
  mapper: IgdMapper,
  grant: MappingGrant,
  signal: AbortSignal,
): Promise<LeaseFinding> {
  const renewed = await mapper.renew(grant, { signal });
  return renewed.handle === grant.handle
    ? { kind: "fine", grant: renewed }
    : { kind: "remade", reason: "the gateway had lost the pinhole", grant: renewed };
}

async function checkIgdEntry(
  mapper: IgdMapper,
  grant: MappingGrant,
  signal: AbortSignal,
): Promise<LeaseFinding> {
  const { internal, external } = grant;
  const { entry, externalIp: ip } = await mapper.checkMapping(grant, { signal });
  if (entry === undefined) {
    return { kind: "lost", reason: "it is no longer in the gateway's table", hasRestarted: false };
  }
  // Its description does not matter: some gateways write their own.
  const isTaken = entry !== "unknown" && entry.internalClient !== "0.0.0.0" &&
    (entry.internalClient !== internal.ip || entry.internalPort !== internal.port);
  if (isTaken) {
    const owner = formatTransportAddress({ ip: entry.internalClient, port: entry.internalPort });
    const reason = `the gateway has given the port to ${owner}`;
    return { kind: "lost", reason, hasRestarted: false };
  }
  const now = { ...grant, external: { ...external, ip } };
  return isSameOutside(grant, now) ? { kind: "fine", grant } : { kind: "changed", grant: now };
}

function isIgd(mapper: PortMapper): mapper is IgdMapper {
  return mapper.name === "upnp";
}

function secondsLeft({ grantedAtMs, lifetimeSeconds }: MappingGrant): number {
  return lifetimeSeconds === Infinity
    ? PERMANENT_SECONDS
    : (grantedAtMs + lifetimeSeconds * 1000 - performance.now()) / 1000;
}

/** NAT-PMP and PCP have no lease that never ends; 2^32 - 1 is the longest. */
const PERMANENT_SECONDS = 0xffff_ffff;
