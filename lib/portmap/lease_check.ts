/**
 * Looking whether a mapping still is what was granted, before its lease says so: gateways restart, wipe their tables
 * every few minutes (tailscale #10597), and get other addresses.
 *
 * @module
 */

import { ipFamily } from "../net/address.ts";
import type { GatewayAnnouncement } from "./announcements.ts";
import type { GatewayEpoch, MappingGrant, PortMapper } from "./mapper.ts";
import type { HeldGrant } from "./race.ts";
import type { IgdMapper } from "./upnp/client.ts";
import { isPlausibleExternalIp } from "./verdict.ts";

/** Whether a PCP server's clock went on as ours did; if not, its mappings are to be made anew. RFC 6887 §8.5. */
export function isPcpEpochConsistent(previous: GatewayEpoch, current: GatewayEpoch): boolean {
  if (current.seconds + 1 < previous.seconds) return false; // a second of grace for reordering
  const clientDelta = secondsBetween(previous, current);
  const serverDelta = current.seconds - previous.seconds;
  return clientDelta + 2 >= serverDelta - serverDelta / 16 &&
    serverDelta + 2 >= clientDelta - clientDelta / 16;
}

/** Whether a NAT-PMP gateway's clock went on at 7/8 of the speed of ours at least, but for 2 s. RFC 6886 §3.6. */
export function isNatPmpEpochConsistent(previous: GatewayEpoch, current: GatewayEpoch): boolean {
  const expected = previous.seconds + secondsBetween(previous, current) * 7 / 8;
  return current.seconds >= expected - 2;
}

function secondsBetween(previous: GatewayEpoch, current: GatewayEpoch): number {
  return (current.receivedAtMs - previous.receivedAtMs) / 1000;
}

/** What a look at a mapping showed. */
export type LeaseFinding =
  /** It is there. `grant` has the latest that the gateway said. */
  | { readonly kind: "fine"; readonly grant: MappingGrant }
  /** It has another address or port outside. */
  | { readonly kind: "changed"; readonly grant: MappingGrant }
  /** It is gone. */
  | { readonly kind: "lost"; readonly reason: string; readonly restarted: boolean }
  /** It was gone, and to look was to make it anew. */
  | { readonly kind: "remade"; readonly reason: string; readonly grant: MappingGrant };

/**
 * Asks the gateway about a mapping. PCP and NAT-PMP cannot be asked but by asking for the same again, for what is
 * left of the lifetime: where it is there that changes nothing. IPv6 pinholes are let alone, because miniupnpd 2.3.1
 * does not close those that were asked for twice; the gateway's clock has to do there.
 *
 * @throws what the mapper throws if it gets no answer
 */
export async function checkLease(
  { mapper, grant }: HeldGrant,
  signal: AbortSignal,
): Promise<LeaseFinding> {
  if (isIgd(mapper)) return await checkUpnp(mapper, grant, signal);
  if (ipFamily(grant.internal.ip) === 6) {
    const probe = await mapper.probe({ signal });
    if (probe.kind === "refused") throw probe.error;
    return probe.kind === "supported" ? compareEpoch(grant, probe.epoch) : { kind: "fine", grant };
  }
  const lifetimeSeconds = Math.max(1, Math.round(secondsLeft(grant)));
  const asked = await mapper.renew(grant, { lifetimeSeconds, signal });
  if (!isEpochConsistent(grant, asked.epoch)) {
    return { kind: "remade", reason: RESTARTED, grant: asked };
  }
  return isSameOutside(grant, asked)
    ? { kind: "fine", grant: { ...grant, epoch: asked.epoch } }
    : { kind: "changed", grant: asked };
}

/**
 * What an announcement of the gateway means for a mapping. Gateways have a reason to announce, and one that has
 * started a moment before the last question has no clock to show it.
 */
export function hearAnnouncement(
  grant: MappingGrant,
  { mapper, epoch }: GatewayAnnouncement,
): "restarted" | "look" {
  return mapper === grant.mapper && !isEpochConsistent(grant, epoch) ? "restarted" : "look";
}

/** Whether the gateway's table is as old as it should be; UPnP does not tell. */
export function isEpochConsistent(grant: MappingGrant, epoch: GatewayEpoch | undefined): boolean {
  if (grant.epoch === undefined || epoch === undefined) return true;
  const isConsistent = grant.mapper === "pcp" ? isPcpEpochConsistent : isNatPmpEpochConsistent;
  return isConsistent(grant.epoch, epoch);
}

/** Whether two grants look the same from outside. An address that the gateway keeps to itself is no other. */
export function isSameOutside(before: MappingGrant, after: MappingGrant): boolean {
  return before.external.port === after.external.port &&
    (before.external.ip === after.external.ip || !isPlausibleExternalIp(after.external.ip));
}

/** Why a mapping is gone. */
export const RESTARTED = "the gateway has restarted";

async function checkUpnp(
  mapper: IgdMapper,
  grant: MappingGrant,
  signal: AbortSignal,
): Promise<LeaseFinding> {
  if (ipFamily(grant.internal.ip) === 6) {
    // CheckPinholeWorking says no of a pinhole that nobody has used yet, too; to prolong it tells more.
    const asked = await mapper.renew(grant, { signal });
    return asked.handle === grant.handle
      ? { kind: "fine", grant: asked }
      : { kind: "remade", reason: "the gateway knew no such pinhole any more", grant: asked };
  }
  const { protocol, internal, external } = grant;
  const entry = await mapper.readMapping({ protocol, externalPort: external.port }, { signal });
  if (entry === undefined) {
    return { kind: "lost", reason: "it is not in the gateway's table any more", restarted: false };
  }
  const isOthers = entry !== "unknown" && entry.internalClient !== "0.0.0.0" &&
    entry.internalClient !== internal.ip;
  if (isOthers) {
    const reason = `the gateway has given the port to ${entry.internalClient}`;
    return { kind: "lost", reason, restarted: false };
  }
  const ip = await mapper.externalIp({ signal });
  const now = { ...grant, external: { ...external, ip } };
  return isSameOutside(grant, now) ? { kind: "fine", grant } : { kind: "changed", grant: now };
}

function isIgd(mapper: PortMapper): mapper is IgdMapper {
  return mapper.name === "upnp";
}

function compareEpoch(grant: MappingGrant, epoch: GatewayEpoch | undefined): LeaseFinding {
  if (!isEpochConsistent(grant, epoch)) return { kind: "lost", reason: RESTARTED, restarted: true };
  return { kind: "fine", grant: { ...grant, epoch } };
}

function secondsLeft({ grantedAtMs, lifetimeSeconds }: MappingGrant): number {
  return lifetimeSeconds === Infinity
    ? PERMANENT_SECONDS
    : (grantedAtMs + lifetimeSeconds * 1000 - performance.now()) / 1000;
}

/** NAT-PMP and PCP know no lease that never ends; 2^32 - 1 is the longest. */
const PERMANENT_SECONDS = 0xffff_ffff;
