/**
 * IPv6 pinholes by UPnP: WANIPv6FirewallControl:1.
 *
 * Devices let a host open pinholes only to itself, and recognise it by the address that it asks from.
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
import { meansNoAction, meansNoEntry } from "./faults.ts";
import { call, igdRefusal, type IgdSession, tryCall } from "./session.ts";

/** A pinhole that the device granted. */
export interface GrantedPinhole {
  readonly uniqueId: number;
  readonly leaseSeconds: number;
}

/**
 * Opens a pinhole.
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

/** Extends a pinhole; opens another if the device has lost it, or cannot extend it. */
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
  if (meansNoEntry(outcome) || meansNoAction(outcome)) return await openPinhole(session, request);
  throw igdRefusal(outcome, action, session.gateway);
}

/** Closes a pinhole. A pinhole that is not there is not an error. */
export async function closePinhole(
  session: IgdSession,
  uniqueId: number,
  action: string,
): Promise<void> {
  const outcome = await tryCall(session, firewallOf(session, action), deletePinhole(uniqueId));
  if (outcome.kind === "done" || meansNoEntry(outcome)) return;
  throw igdRefusal(outcome, action, session.gateway);
}

/** Whether packets have passed a pinhole; `"unknown"` if the device cannot tell, or no packet has arrived yet. */
export async function isPinholeWorking(
  session: IgdSession,
  uniqueId: number,
): Promise<boolean | "unknown"> {
  const service = firewallOf(session, "Cannot check pinhole");
  const outcome = await tryCall(session, service, checkPinholeWorking(uniqueId));
  if (outcome.kind === "done") return outcome.value;
  return meansNoEntry(outcome) ? false : "unknown";
}

/** The state of the firewall, in words; empty if there is none. */
export async function describeFirewall(session: IgdSession): Promise<string> {
  const { firewall } = session.device;
  if (firewall === undefined) return "";
  const outcome = await tryCall(session, firewall, getFirewallStatus());
  if (outcome.kind !== "done") return "IPv6 firewall state unknown";
  const { firewallEnabled, inboundPinholeAllowed } = outcome.value;
  if (!firewallEnabled) return "IPv6 firewall off";
  return inboundPinholeAllowed ? "IPv6 pinholes allowed" : "IPv6 pinholes not allowed";
}

function firewallOf({ device, gateway }: IgdSession, action: string): IgdService {
  if (device.firewall !== undefined) return device.firewall;
  throw new MappingRefusedError(
    `${action}: gateway ${gateway} offers no control of its IPv6 firewall`,
    {
      mapper: "upnp",
      code: NO_SERVICE,
      reason: "no WANIPv6FirewallControl",
      remedy: "Open the port manually in the router's IPv6 firewall",
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

/** Invalid Action, as if a service without the action had answered. */
const NO_SERVICE = 401;
