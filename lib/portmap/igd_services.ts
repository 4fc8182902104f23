/**
 * The services of an Internet Gateway Device that open ports: WANIPConnection 1 and 2, WANPPPConnection 1 and 2, and
 * WANIPv6FirewallControl 1; under their old names too (Broadband Forum TR-064).
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { type DeviceUrl, resolveDeviceUrl } from "./device_url.ts";
import type { DeviceDescription } from "./upnp/device.ts";

/** A gateway, as far as opening ports goes. */
export interface IgdDevice {
  /** Where its description is. */
  readonly location: DeviceUrl;
  /** What people know it as. */
  readonly name: string;
  /** Those that map IPv4 ports, the most promising first; there may be none. */
  readonly connections: readonly IgdService[];
  /** The IPv6 firewall. */
  readonly firewall: IgdService | undefined;
}

/** A service that can be called. */
export interface IgdService {
  /** As the device spells it. */
  readonly serviceType: string;
  readonly kind: "WANIPConnection" | "WANPPPConnection" | "WANIPv6FirewallControl";
  /** 1 if it does not say. */
  readonly version: number;
  readonly control: DeviceUrl;
}

/**
 * The services that open ports, if there are any.
 *
 * @param location where the description came from
 */
export function igdDevice(description: DeviceDescription, location: DeviceUrl): IgdDevice {
  const { friendlyName, modelName, services, urlBase } = description;
  const known = services.flatMap(({ serviceType, controlUrl }) => {
    const type = parseServiceType(serviceType);
    const control = type && tryResolve(location, controlUrl, urlBase);
    return type && control ? [{ serviceType, ...type, control }] : [];
  });
  return {
    location,
    name: friendlyName || modelName,
    connections: known.filter(({ kind }) => kind !== FIREWALL)
      // Newer ones do more, and where both are, the one of IP is usually the one in use.
      .sort((a, b) => b.version - a.version || a.kind.localeCompare(b.kind)),
    firewall: known.find(({ kind }) => kind === FIREWALL),
  };
}

/** What a service type means, in any of its spellings; `undefined` if it is another service. */
export function parseServiceType(
  text: string,
): Pick<IgdService, "kind" | "version"> | undefined {
  const match = SERVICE_TYPE.exec(text.trim());
  const kind = KINDS.find((name) => name.toLowerCase() === match?.[1]?.toLowerCase());
  return kind && { kind, version: Number(match?.[2] ?? 1) };
}

function tryResolve(
  location: DeviceUrl,
  controlUrl: string,
  urlBase: string,
): DeviceUrl | undefined {
  if (controlUrl === "") return undefined;
  try {
    return resolveDeviceUrl(location, controlUrl, urlBase);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined; // other services may do
    throw error;
  }
}

const SERVICE_TYPE = /^urn:(?:schemas-upnp-org|dslforum-org):service:([a-z0-9]+)(?::(\d{1,2}))?$/i;
const FIREWALL = "WANIPv6FirewallControl";
const KINDS = ["WANIPConnection", "WANPPPConnection", FIREWALL] as const;
