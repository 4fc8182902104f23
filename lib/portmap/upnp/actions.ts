/**
 * The actions that open ports, from WANIPConnection:1 and :2 (§2.4), which WANPPPConnection shares, and from
 * WANIPv6FirewallControl:1. Arguments are in the order of the specifications.
 *
 * @module
 */

import { malformed, type MalformedMessageError } from "../../base/errors.ts";
import { isIp, parseIp } from "../../net/address.ts";

/** An action with its arguments, and how to decode its answer. */
export interface IgdAction<T> {
  readonly name: string;
  readonly arguments: readonly (readonly [name: string, value: string])[];
  /** @throws {MalformedMessageError} if the answer lacks a value that is needed */
  readonly decode: (values: SoapValues) => T;
}

/** Out arguments, by name in lower case. */
export type SoapValues = ReadonlyMap<string, string>;

/** The key of an entry in the table of mappings, for any remote host. */
export interface PortMappingKey {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** The external port. */
  readonly externalPort: number;
}

/** Where an entry leads. */
export interface PortMappingTarget {
  /** The internal host's IP address. */
  readonly internalClient: string;
  /** The port of that host. */
  readonly internalPort: number;
  /** The description that the creator of the entry gave it. */
  readonly description: string;
  /** 0 stands for a permanent lease; in answers also for an unknown one. */
  readonly leaseSeconds: number;
}

/** An entry of the table of mappings. */
export interface PortMappingEntry extends PortMappingKey, PortMappingTarget {
  /** Whether it is in effect. */
  readonly enabled: boolean;
  /** The only host that may use it; empty for any. */
  readonly remoteHost: string;
}

/** AddPortMapping. */
export function addPortMapping(entry: PortMappingKey & PortMappingTarget): IgdAction<void> {
  return { name: "AddPortMapping", arguments: newEntry(entry), decode: nothing };
}

/**
 * AddAnyPortMapping, of WANIPConnection:2: maps another port if this one is in use. Returns the port.
 *
 * miniupnpd before 2.3.5 gives the out argument another name, so any name will do.
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

/** GetGenericPortMappingEntry: the entry at an index of the table, from 0. */
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

/** GetExternalIPAddress. `0.0.0.0` if the answer is not an address. */
export function getExternalIpAddress(): IgdAction<string> {
  return {
    name: "GetExternalIPAddress",
    arguments: [],
    decode: (values) => {
      const [only = "", ...more] = values.values();
      return toIp(values.get("newexternalipaddress") ?? (more.length === 0 ? only : ""));
    },
  };
}

/** GetStatusInfo: the state of the connection, such as `Connected`. Some devices answer `Up`. */
export function getStatusInfo(): IgdAction<string> {
  return {
    name: "GetStatusInfo",
    arguments: [],
    decode: (values) => values.get("newconnectionstatus") ?? "",
  };
}

/** A pinhole in the IPv6 firewall, for any remote host. */
export interface PinholeTarget {
  readonly protocol: "tcp" | "udp";
  readonly internalClient: string;
  readonly internalPort: number;
  /** 1 to 86,400. */
  readonly leaseSeconds: number;
}

/** The state of the IPv6 firewall. */
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

/** CheckPinholeWorking: whether packets have passed. FRITZ!Box 7590 lacks it. */
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
    leaseSeconds: toLease(values.get("newleaseduration")),
    enabled: toBoolean(values.get("newenabled") ?? "1"),
  };
}

function nothing(): void {}

/** Some devices pad parts with zeros to three digits, which would be octal to others, or map IPv4 to IPv6. */
function toIp(text: string): string {
  const ipv4 = text.replace(/^::ffff:(?=\d+\.)/i, "");
  const plain = PADDED_IPV4.test(ipv4) ? ipv4.split(".").map(Number).join(".") : ipv4;
  return isIp(plain) ? parseIp(plain) : "0.0.0.0";
}

/** UDA 2.0 §2.5: 1, true, yes; and their opposites. */
function toBoolean(text = ""): boolean {
  return /^(?:1|true|yes)$/i.test(text);
}

/** A lease that cannot be read is unknown, which does not make the entry so. */
function toLease(text = ""): number {
  return /^\d{1,10}$/.test(text) ? Number(text) : 0;
}

function toProtocol(text = ""): "tcp" | "udp" {
  const protocol = text.toLowerCase();
  if (protocol === "tcp" || protocol === "udp") return protocol;
  throw unreadable("NewProtocol", text);
}

function toPort(text: string | undefined, name: string): number {
  const port = toInteger(text, name);
  if (port <= 65_535) return port;
  throw unreadable(name, text);
}

function toInteger(text = "", name: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw unreadable(name, text);
}

function unreadable(name: string, text = ""): MalformedMessageError {
  return malformed("SOAP values", `${name} is ${JSON.stringify(text.slice(0, 40))}`);
}

const PADDED_IPV4 = /^(?:[1-9]\d{0,2}|0|0\d{2})(?:\.(?:[1-9]\d{0,2}|0|0\d{2})){3}$/;

/** WANIPv6FirewallControl:1 §2.3.8: IANA protocol numbers. */
const IANA_PROTOCOL = { tcp: "6", udp: "17" };
