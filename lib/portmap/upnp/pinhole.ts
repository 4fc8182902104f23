/**
 * Opening the IPv6 firewall by UPnP: WANIPv6FirewallControl:1.
 *
 * Devices let a host open holes to itself only, and know it by the address that it asks from.
 *
 * @module
 */

import { cannot, MappingRefusedError, type MappingRequest } from "../mapper.ts";
import {
  addPinhole,
  checkPinholeWorking,
  deletePinhole,
  getFirewallStatus,
  type PinholeTarget,
  updatePinhole,
} from "./actions.ts";
import type { IgdService } from "./device.ts";
import { saysNoAction, saysNoEntry } from "./faults.ts";
import { call, type IgdSession, refusal, tryCall } from "./session.ts";

/** What was granted. */
export interface GrantedPinhole {
  readonly uniqueId: number;
  readonly leaseSeconds: number;
}

/**
 * Opens a hole.
 *
 * @throws {MappingRefusedError} if the device refuses, or has no IPv6 firewall to control
 */
export async function openPinhole(
  session: IgdSession,
  request: MappingRequest,
): Promise<GrantedPinhole> {
  const action = cannot("map", request);
  const service = firewallOf(session, action);
  const pinhole = pinholeFor(request);
  const uniqueId = await call(session, service, addPinhole(pinhole), action);
  return { uniqueId, leaseSeconds: pinhole.leaseSeconds };
}

/** Keeps a hole open; opens another where the device has forgotten it, or cannot prolong. */
export async function renewPinhole(
  session: IgdSession,
  uniqueId: number,
  request: MappingRequest,
): Promise<GrantedPinhole> {
  const action = cannot("renew", request);
  const service = firewallOf(session, action);
  const { leaseSeconds } = pinholeFor(request);
  const outcome = await tryCall(session, service, updatePinhole(uniqueId, leaseSeconds));
  if (outcome.kind === "done") return { uniqueId, leaseSeconds };
  if (saysNoEntry(outcome) || saysNoAction(outcome)) return await openPinhole(session, request);
  throw refusal(outcome, action, session.gateway);
}

/** Closes a hole. That it is not there is no error. */
export async function closePinhole(
  session: IgdSession,
  uniqueId: number,
  action: string,
): Promise<void> {
  const outcome = await tryCall(session, firewallOf(session, action), deletePinhole(uniqueId));
  if (outcome.kind === "done" || saysNoEntry(outcome)) return;
  throw refusal(outcome, action, session.gateway);
}

/** Whether packets have come through a hole; `"unknown"` where the device cannot tell, or nobody has sent any. */
export async function isPinholeWorking(
  session: IgdSession,
  uniqueId: number,
): Promise<boolean | "unknown"> {
  const service = firewallOf(session, "Cannot check pinhole");
  const outcome = await tryCall(session, service, checkPinholeWorking(uniqueId));
  if (outcome.kind === "done") return outcome.value;
  return saysNoEntry(outcome) ? false : "unknown";
}

/** What the firewall does, in words; empty if there is none. */
export async function describeFirewall(session: IgdSession): Promise<string> {
  const { firewall } = session.device;
  if (firewall === undefined) return "";
  const outcome = await tryCall(session, firewall, getFirewallStatus());
  if (outcome.kind !== "done") return "IPv6 firewall says nothing of itself";
  const { firewallEnabled, inboundPinholeAllowed } = outcome.value;
  if (!firewallEnabled) return "IPv6 firewall off";
  return inboundPinholeAllowed ? "IPv6 pinholes allowed" : "IPv6 pinholes not allowed";
}

function firewallOf({ device, gateway }: IgdSession, action: string): IgdService {
  if (device.firewall !== undefined) return device.firewall;
  throw new MappingRefusedError(
    `${action}: gateway ${gateway} lets nobody open its IPv6 firewall`,
    {
      mapper: "upnp",
      code: NO_SERVICE,
      reason: "no WANIPv6FirewallControl",
      remedy: "Open the port in the router's IPv6 firewall by hand",
    },
  );
}

function pinholeFor({ protocol, internal, lifetimeSeconds }: MappingRequest): PinholeTarget {
  return {
    protocol,
    internalClient: internal.ip,
    internalPort: internal.port,
    leaseSeconds: Math.min(Math.max(1, Math.ceil(lifetimeSeconds)), MAX_LEASE_SECONDS),
  };
}

/** WANIPv6FirewallControl:1 §2.3.6: a day. */
const MAX_LEASE_SECONDS = 86_400;

/** Invalid Action: nobody is there to take it. */
const NO_SERVICE = 401;
