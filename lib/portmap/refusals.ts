/**
 * What PCP servers and NAT-PMP gateways refuse with, and what a person can do about it: RFC 6886 §3.5 and RFC 6887
 * §7.4.
 *
 * @module
 */

import { MappingRefusedError } from "./mapper.ts";

/** RFC 6887 §7.4, by their numbers; 0 is success. */
export const PCP_RESULT = {
  SUCCESS: 0,
  UNSUPP_VERSION: 1,
  NOT_AUTHORIZED: 2,
  MALFORMED_REQUEST: 3,
  UNSUPP_OPCODE: 4,
  UNSUPP_OPTION: 5,
  MALFORMED_OPTION: 6,
  NETWORK_FAILURE: 7,
  NO_RESOURCES: 8,
  UNSUPP_PROTOCOL: 9,
  USER_EX_QUOTA: 10,
  CANNOT_PROVIDE_EXTERNAL: 11,
  ADDRESS_MISMATCH: 12,
  EXCESSIVE_REMOTE_PEERS: 13,
} as const;

/** RFC 6886 §3.5, by their numbers; 0 is success. */
export const NAT_PMP_RESULT = {
  SUCCESS: 0,
  UNSUPPORTED_VERSION: 1,
  NOT_AUTHORIZED: 2,
  NETWORK_FAILURE: 3,
  OUT_OF_RESOURCES: 4,
  UNSUPPORTED_OPCODE: 5,
} as const;

/** What was refused, and by whom. */
export interface Refusal {
  /** Begins the message, as in `Cannot map TCP port 80`. */
  readonly action: string;
  /** The gateway's address. */
  readonly gateway: string;
  /** The protocol's result code. */
  readonly code: number;
  /** For how long asking again is pointless: RFC 6887 §7.2. */
  readonly retryAfterSeconds?: number;
}

/** The error that a PCP result code stands for. */
export function pcpRefusal(refusal: Refusal): MappingRefusedError {
  return refusalError("pcp", refusal, nameOf(PCP_RESULT, refusal.code), PCP_REMEDIES);
}

/** The error that a NAT-PMP result code stands for. */
export function natPmpRefusal(refusal: Refusal): MappingRefusedError {
  return refusalError("nat-pmp", refusal, nameOf(NAT_PMP_RESULT, refusal.code), NAT_PMP_REMEDIES);
}

function refusalError<Name extends string>(
  mapper: "pcp" | "nat-pmp",
  { action, gateway, code, retryAfterSeconds }: Refusal,
  name: Name | undefined,
  remedies: Readonly<Record<Name, string>>,
): MappingRefusedError {
  const reason = name ?? "UNKNOWN";
  const remedy = name === undefined ? UNKNOWN_REMEDY : remedies[name];
  return new MappingRefusedError(`${action}: gateway ${gateway} answered ${reason} (${code})`, {
    mapper,
    code,
    reason,
    remedy,
    retryAfterSeconds,
  });
}

function nameOf<Name extends string>(
  codes: Readonly<Record<Name, number>>,
  code: number,
): Name | undefined {
  return (Object.keys(codes) as Name[]).find((name) => codes[name] === code);
}

/** Of both protocols. Behind a carrier's NAT miniupnpd says the one by NAT-PMP and the other by PCP. */
const NO_CONNECTION =
  "The router has no public address: check its line, or ask the provider for one, then try again";
const NO_RESOURCES =
  "The router's table is full, or it has no public address: close mappings that are not needed, or restart the router";

const PCP_REMEDIES: Readonly<Record<keyof typeof PCP_RESULT, string>> = {
  SUCCESS: "Nothing is wrong",
  UNSUPP_VERSION: "The router speaks an older protocol: use NAT-PMP with it",
  NOT_AUTHORIZED:
    "The router does not let this device open this port: allow it in the router, or take another port",
  MALFORMED_REQUEST:
    "The router cannot read the request: try NAT-PMP or UPnP, or update the router",
  UNSUPP_OPCODE: "The router cannot do this by PCP: try NAT-PMP or UPnP",
  UNSUPP_OPTION: "The router cannot do this: ask again without the option",
  MALFORMED_OPTION: "The router cannot read the option: ask again without it",
  NETWORK_FAILURE: NO_CONNECTION,
  NO_RESOURCES,
  UNSUPP_PROTOCOL: "The router cannot map this transport protocol",
  USER_EX_QUOTA: "This device has too many mappings: close those that are not needed",
  CANNOT_PROVIDE_EXTERNAL: "The external port is taken: ask for another",
  ADDRESS_MISMATCH:
    "A second NAT, or a VPN, sits between this device and the router: open the port on the nearer one first",
  EXCESSIVE_REMOTE_PEERS: "The router takes fewer filters for one mapping: ask for fewer",
};

const NAT_PMP_REMEDIES: Readonly<Record<keyof typeof NAT_PMP_RESULT, string>> = {
  SUCCESS: "Nothing is wrong",
  UNSUPPORTED_VERSION: "The router speaks a newer protocol: use PCP with it",
  NOT_AUTHORIZED: "NAT-PMP is switched off: enable it in the router",
  NETWORK_FAILURE: NO_CONNECTION,
  OUT_OF_RESOURCES: NO_RESOURCES,
  UNSUPPORTED_OPCODE: "The router cannot do this by NAT-PMP: try PCP or UPnP",
};

const UNKNOWN_REMEDY =
  "The router gives a reason that is in no specification: try another protocol";
