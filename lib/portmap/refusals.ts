/**
 * The result codes of PCP and NAT-PMP, and what the user can do about each: RFC 6887 §7.4 and RFC 6886 §3.5.
 *
 * @module
 */

import { MappingRefusedError } from "./mapper.ts";

/** RFC 6887 §7.4. */
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

/** RFC 6886 §3.5. */
export const NAT_PMP_RESULT = {
  SUCCESS: 0,
  UNSUPPORTED_VERSION: 1,
  NOT_AUTHORIZED: 2,
  NETWORK_FAILURE: 3,
  OUT_OF_RESOURCES: 4,
  UNSUPPORTED_OPCODE: 5,
} as const;

/** What to do if a gateway grants a port for no time, which both protocols use to close it. */
export const LIFETIME_0_REMEDY =
  "Restart the router, or use UPnP: it grants the port for no time at all";

/** A request that was refused. */
export interface GatewayRefusal {
  /** The start of the message, such as `Cannot map TCP port 80`. */
  readonly action: string;
  /** The gateway's address. */
  readonly gateway: string;
  /** The protocol's result code. */
  readonly code: number;
  /** For how long it is pointless to ask again: RFC 6887 §7.2. */
  readonly retryAfterSeconds?: number;
}

/** The error for a PCP result code. */
export function pcpRefusal(refusal: GatewayRefusal): MappingRefusedError {
  return refusalError("pcp", refusal, nameOf(PCP_RESULT, refusal.code), PCP_REMEDIES);
}

/** The error for a NAT-PMP result code. */
export function natPmpRefusal(refusal: GatewayRefusal): MappingRefusedError {
  return refusalError("nat-pmp", refusal, nameOf(NAT_PMP_RESULT, refusal.code), NAT_PMP_REMEDIES);
}

function refusalError<Name extends string>(
  mapper: "pcp" | "nat-pmp",
  { action, gateway, code, retryAfterSeconds }: GatewayRefusal,
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

/** Behind a carrier's NAT, miniupnpd answers the one by NAT-PMP and the other by PCP. */
const NO_CONNECTION =
  "The router has no public address: check its connection, or ask the provider for one, then try again";
const NO_RESOURCES =
  "The router's table is full, or it has no public address: close unused mappings, or restart the router";

const PCP_REMEDIES: Readonly<Record<keyof typeof PCP_RESULT, string>> = {
  SUCCESS: "Nothing is wrong",
  UNSUPP_VERSION: "The router speaks an older protocol: use NAT-PMP",
  NOT_AUTHORIZED:
    "The router does not let this device open this port: allow it in the router, or use another port",
  MALFORMED_REQUEST:
    "The router cannot read the request: try NAT-PMP or UPnP, or update the router",
  UNSUPP_OPCODE: "The router does not support this by PCP: try NAT-PMP or UPnP",
  UNSUPP_OPTION: "The router does not support this option: ask again without it",
  MALFORMED_OPTION: "The router cannot read the option: ask again without it",
  NETWORK_FAILURE: NO_CONNECTION,
  NO_RESOURCES,
  UNSUPP_PROTOCOL: "The router cannot map this transport protocol",
  USER_EX_QUOTA: "This device has too many mappings: close unused ones",
  CANNOT_PROVIDE_EXTERNAL: "The external port is in use: ask for another",
  ADDRESS_MISMATCH:
    "A second NAT, or a VPN, sits between this device and the router: open the port on the nearer one first",
  EXCESSIVE_REMOTE_PEERS: "The router allows fewer filters for one mapping: use fewer",
};

const NAT_PMP_REMEDIES: Readonly<Record<keyof typeof NAT_PMP_RESULT, string>> = {
  SUCCESS: "Nothing is wrong",
  UNSUPPORTED_VERSION: "The router speaks a newer protocol: use PCP",
  NOT_AUTHORIZED: "NAT-PMP is switched off: enable it in the router",
  NETWORK_FAILURE: NO_CONNECTION,
  OUT_OF_RESOURCES: NO_RESOURCES,
  UNSUPPORTED_OPCODE: "The router does not support this by NAT-PMP: try PCP or UPnP",
};

const UNKNOWN_REMEDY = "The router gave a reason that no specification lists: try another protocol";
