/**
 * The actions that open ports: WANIPConnection:1 and :2 (§2.4 of their specifications), which WANPPPConnection
 * shares, and WANIPv6FirewallControl:1. Arguments are in the order of the specifications.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";
import { isIp, parseIp } from "../../net/address.ts";

/** An action, and how to read its answer. */
export interface IgdAction<T> {
  readonly name: string;
  readonly arguments: readonly (readonly [name: string, value: string])[];
  /** @throws {MalformedMessageError} if the answer lacks what it is for */
  readonly decode: (values: SoapValues) => T;
}

/** Out arguments, by name in lower case. */
export type SoapValues = ReadonlyMap<string, string>;

/** Which entry of the table of mappings: its key there, for any remote host. */
export interface PortMappingKey {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** The port outside. */
  readonly externalPort: number;
}

/** What an entry says. */
export interface PortMappingTarget {
  /** The internal host. */
  readonly internalClient: string;
  /** Its port. */
  readonly internalPort: number;
  /** What who made it wrote there. */
  readonly description: string;
  /** 0 stands for ever, and in answers also for not telling. */
  readonly leaseSeconds: number;
}

/** An entry of the table of mappings. */
export interface PortMappingEntry extends PortMappingKey, PortMappingTarget {
  /** Whether it is in effect. */
  readonly enabled: boolean;
  /** Empty stands for any. */
  readonly remoteHost: string;
}

/** AddPortMapping. */
export function addPortMapping(entry: PortMappingKey & PortMappingTarget): IgdAction<void> {
  return { name: "AddPortMapping", arguments: newEntry(entry), decode: nothing };
}

/**
 * AddAnyPortMapping, of WANIPConnection:2: another port if this one is taken. Returns the port.
 *
 * miniupnpd before 2.3.5 described the out argument under another name, so that any will do.
 */
export function addAnyPortMapping(entry: PortMappingKey & PortMappingTarget): IgdAction<number> {
  return {
    name: "AddAnyPortMapping",
    arguments: newEntry(entry),
    decode: (values) => {
      const [only] = values.values();
      return toPort(values.get("newreservedport") ?? only, "NewReservedPort");
    },
  };
}

/** DeletePortMapping. */
export function deletePortMapping(key: PortMappingKey): IgdAction<void> {
  return { name: "DeletePortMapping", arguments: entryKey(key), decode: nothing };
}

/** GetSpecificPortMappingEntry. */
export function getSpecificPortMappingEntry(key: PortMappingKey): IgdAction<PortMappingEntry> {
  return {
    name: "GetSpecificPortMappingEntry",
    arguments: entryKey(key),
    decode: (values) => ({ ...key, remoteHost: "", ...target(values) }),
  };
}

/** GetGenericPortMappingEntry: the entry at a place in the table, from 0. */
export function getGenericPortMappingEntry(index: number): IgdAction<PortMappingEntry> {
  return {
    name: "GetGenericPortMappingEntry",
    arguments: [["NewPortMappingIndex", `${index}`]],
    decode: (values) => ({
      protocol: toProtocol(values.get("newprotocol")),
      externalPort: toPort(values.get("newexternalport"), "NewExternalPort"),
      remoteHost: values.get("newremotehost") ?? "",
      ...target(values),
    }),
  };
}

/** GetExternalIPAddress. `0.0.0.0` if there is none, or what is said is no address. */
export function getExternalIpAddress(): IgdAction<string> {
  return {
    name: "GetExternalIPAddress",
    arguments: [],
    decode: (values) => toIp(values.get("newexternalipaddress") ?? ""),
  };
}

/** GetStatusInfo: the state of the connection, such as `Connected`. Some devices say `Up`. */
export function getStatusInfo(): IgdAction<string> {
  return {
    name: "GetStatusInfo",
    arguments: [],
    decode: (values) => values.get("newconnectionstatus") ?? "",
  };
}

/** A hole in the IPv6 firewall, for any remote host. */
export interface PinholeTarget {
  readonly protocol: "tcp" | "udp";
  readonly internalClient: string;
  readonly internalPort: number;
  /** 1 to 86,400. */
  readonly leaseSeconds: number;
}

/** What the IPv6 firewall does. */
export interface FirewallStatus {
  readonly firewallEnabled: boolean;
  readonly inboundPinholeAllowed: boolean;
}

/** GetFirewallStatus. */
export function getFirewallStatus(): IgdAction<FirewallStatus> {
  return {
    name: "GetFirewallStatus",
    arguments: [],
    decode: (values) => ({
      firewallEnabled: toBoolean(values.get("firewallenabled")),
      inboundPinholeAllowed: toBoolean(values.get("inboundpinholeallowed")),
    }),
  };
}

/** AddPinhole. Returns the UniqueID. */
export function addPinhole(pinhole: PinholeTarget): IgdAction<number> {
  return {
    name: "AddPinhole",
    arguments: [
      ["RemoteHost", ""],
      ["RemotePort", "0"],
      ["InternalClient", pinhole.internalClient],
      ["InternalPort", `${pinhole.internalPort}`],
      ["Protocol", IANA_PROTOCOL[pinhole.protocol]],
      ["LeaseTime", `${pinhole.leaseSeconds}`],
    ],
    decode: (values) => toInteger(values.get("uniqueid"), "UniqueID"),
  };
}

/** UpdatePinhole. */
export function updatePinhole(uniqueId: number, leaseSeconds: number): IgdAction<void> {
  return {
    name: "UpdatePinhole",
    arguments: [["UniqueID", `${uniqueId}`], ["NewLeaseTime", `${leaseSeconds}`]],
    decode: nothing,
  };
}

/** DeletePinhole. */
export function deletePinhole(uniqueId: number): IgdAction<void> {
  return { name: "DeletePinhole", arguments: [["UniqueID", `${uniqueId}`]], decode: nothing };
}

/** CheckPinholeWorking: whether packets have come through. FRITZ!Box 7590 lacks it. */
export function checkPinholeWorking(uniqueId: number): IgdAction<boolean> {
  return {
    name: "CheckPinholeWorking",
    arguments: [["UniqueID", `${uniqueId}`]],
    decode: (values) => toBoolean(values.get("isworking")),
  };
}

function newEntry(entry: PortMappingKey & PortMappingTarget): [string, string][] {
  return [
    ...entryKey(entry),
    ["NewInternalPort", `${entry.internalPort}`],
    ["NewInternalClient", entry.internalClient],
    ["NewEnabled", "1"],
    ["NewPortMappingDescription", entry.description],
    ["NewLeaseDuration", `${entry.leaseSeconds}`],
  ];
}

function entryKey({ protocol, externalPort }: PortMappingKey): [string, string][] {
  return [
    ["NewRemoteHost", ""],
    ["NewExternalPort", `${externalPort}`],
    ["NewProtocol", protocol.toUpperCase()],
  ];
}

function target(values: SoapValues): PortMappingTarget & { enabled: boolean } {
  return {
    internalClient: toIp(values.get("newinternalclient") ?? ""),
    internalPort: toPort(values.get("newinternalport"), "NewInternalPort"),
    description: values.get("newportmappingdescription") ?? "",
    leaseSeconds: toInteger(values.get("newleaseduration") || "0", "NewLeaseDuration"),
    enabled: toBoolean(values.get("newenabled") ?? "1"),
  };
}

function nothing(): void {}

function toIp(text: string): string {
  return isIp(text) ? parseIp(text) : "0.0.0.0";
}

/** UDA 2.0 §2.5: 1, true, yes; and their opposites. */
function toBoolean(text = ""): boolean {
  return /^(?:1|true|yes)$/i.test(text);
}

function toProtocol(text = ""): "tcp" | "udp" {
  const protocol = text.toLowerCase();
  if (protocol === "tcp" || protocol === "udp") return protocol;
  throw malformed("NewProtocol", text);
}

function toPort(text: string | undefined, name: string): number {
  const port = toInteger(text, name);
  if (port <= 65_535) return port;
  throw malformed(name, text);
}

function toInteger(text = "", name: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw malformed(name, text);
}

function malformed(name: string, text = ""): MalformedMessageError {
  const value = JSON.stringify(text.slice(0, 40));
  return new MalformedMessageError(`Cannot read SOAP values: ${name} is ${value}`);
}

/** WANIPv6FirewallControl:1 §2.3.8: numbers of the IANA registry. */
const IANA_PROTOCOL = { tcp: "6", udp: "17" };
