/**
 * The fault ladder: what a gateway answers to a request for a port, and what to try next. Devices mean different
 * things by the same code, so each rung is a list; what applies and was not tried yet is taken.
 *
 * Codes are those of UPnP Device Architecture 2.0 §3.2.2, WANIPConnection:2 §2.6 and WANIPv6FirewallControl:1 §2.5.
 *
 * @module
 */

/** How a call can fail although the device answered. */
export type IgdFailure =
  | { readonly kind: "fault"; readonly code: number; readonly description: string }
  /** A status without SOAP. */
  | { readonly kind: "http"; readonly status: number }
  /** It closed the connection instead of answering; some do at actions that they do not know. */
  | { readonly kind: "reset" };

/** What to change before asking again. */
export type Fallback =
  | "retry" // nothing: it may have been busy
  | "plain-action" // AddPortMapping instead of AddAnyPortMapping
  | "any-port" // AddAnyPortMapping, where it is
  | "other-port" // another external port, several times
  | "same-port" // the internal port as the external
  | "unprivileged-port" // another external port if this one is below 1024
  | "permanent-lease"
  | "finite-lease"
  | "plain-description" // short, of letters only
  | "delete-leftover" // an older mapping to the same internal port and by the same name
  | "next-service"; // another connection of the same device

/** One rung. */
export interface FaultRule {
  /** The specification's name. */
  readonly name: string;
  readonly steps: readonly Fallback[];
  /** What a person can do when no step is left. */
  readonly remedy: string;
}

/** The rung of a failure. */
export function faultRule(failure: IgdFailure): FaultRule {
  switch (failure.kind) {
    case "fault":
      return FAULTS[failure.code] ?? UNKNOWN_FAULT;
    case "http":
      return HTTP_FAILURES[failure.status] ?? NO_SOAP;
    case "reset":
      return RESET;
  }
}

/** Whether it says that there is no such entry, or no more of them. */
export function saysNoEntry(failure: IgdFailure): boolean {
  return failure.kind === "fault" && NO_ENTRY.includes(failure.code);
}

/** Whether it says that there is no such action. FRITZ!Box says 403. */
export function saysNoAction(failure: IgdFailure): boolean {
  if (failure.kind === "fault") return NO_ACTION.includes(failure.code);
  return failure.kind === "reset" || failure.status !== 503;
}

/** Another host or mechanism has the port. */
export const CONFLICT_IN_MAPPING_ENTRY = 718;
export const CONFLICT_WITH_OTHER_MECHANISMS = 729;
/** The code for a mapping that was granted and is not there. */
export const NO_SUCH_ENTRY_IN_ARRAY = 714;

const NO_ENTRY = [713, NO_SUCH_ENTRY_IN_ARRAY, 730, 704];
const NO_ACTION = [401, 403, 602];

const NOT_OFFERED = "The router does not offer this; update its firmware or map the port by hand";
const REFUSED_ARGUMENTS =
  "The router's UPnP takes none of our ways to ask; update its firmware or map the port by hand";
const TABLE_FULL = "Delete mappings that nobody needs in the router, or restart it";
const FULL_OR_UNREACHABLE =
  "Delete mappings that nobody needs in the router, or restart it; if it has no public address, ask the provider for one";
const TAKEN = "Choose another external port: other hosts or the router itself use those tried";
const ALLOW =
  "Allow devices to open ports by UPnP in the router, for this device if it asks for which";
const RESTART = "Restart the router; if that does not help, map the port by hand";
const FIXED = "Map the port by hand in the router";

const FAULTS: Readonly<Record<number, FaultRule>> = {
  401: {
    name: "Invalid Action",
    steps: ["plain-action", "next-service"],
    remedy: NOT_OFFERED,
  },
  402: {
    name: "Invalid Args",
    steps: ["plain-action", "permanent-lease", "finite-lease", "plain-description", "same-port"],
    remedy: REFUSED_ARGUMENTS,
  },
  403: {
    name: "Not Available Action",
    steps: ["plain-action", "next-service"],
    remedy: ALLOW,
  },
  404: {
    name: "Invalid Var",
    steps: ["plain-action", "permanent-lease", "next-service"],
    remedy: REFUSED_ARGUMENTS,
  },
  // Full tables, leases that it cannot do, being busy and having no public address all look like this: go-libp2p,
  // miniupnp.
  501: {
    name: "Action Failed",
    steps: ["plain-action", "retry", "delete-leftover", "permanent-lease", "other-port"],
    remedy: FULL_OR_UNREACHABLE,
  },
  600: {
    name: "Argument Value Invalid",
    steps: ["plain-action", "permanent-lease", "finite-lease", "plain-description", "same-port"],
    remedy: REFUSED_ARGUMENTS,
  },
  601: {
    name: "Argument Value Out of Range",
    steps: ["permanent-lease", "finite-lease", "unprivileged-port"],
    remedy: REFUSED_ARGUMENTS,
  },
  602: {
    name: "Optional Action Not Implemented",
    steps: ["plain-action", "next-service"],
    remedy: NOT_OFFERED,
  },
  603: { name: "Out of Memory", steps: ["delete-leftover"], remedy: TABLE_FULL },
  604: { name: "Human Intervention Required", steps: [], remedy: ALLOW },
  605: {
    name: "String Argument Too Long",
    steps: ["plain-description"],
    remedy: REFUSED_ARGUMENTS,
  },
  606: {
    name: "Action not authorized",
    steps: ["unprivileged-port", "next-service"],
    remedy: ALLOW,
  },
  701: { name: "PinholeSpaceExhausted", steps: [], remedy: TABLE_FULL },
  702: {
    name: "FirewallDisabled",
    steps: [],
    remedy: "Nothing: the router's IPv6 firewall is off, so that the port is open already",
  },
  703: { name: "InboundPinholeNotAllowed", steps: [], remedy: ALLOW },
  704: { name: "NoSuchEntry", steps: ["retry"], remedy: RESTART },
  705: { name: "ProtocolNotSupported", steps: [], remedy: NOT_OFFERED },
  706: { name: "InternalPortWildcardingNotAllowed", steps: [], remedy: NOT_OFFERED },
  707: { name: "ProtocolWildcardingNotAllowed", steps: [], remedy: NOT_OFFERED },
  708: { name: "WildCardNotPermittedInSrcIP", steps: [], remedy: FIXED },
  709: { name: "NoPacketSent", steps: [], remedy: RESTART },
  713: { name: "SpecifiedArrayIndexInvalid", steps: ["retry", "next-service"], remedy: RESTART },
  714: {
    name: "NoSuchEntryInArray",
    steps: ["delete-leftover", "next-service", "other-port"],
    remedy: RESTART,
  },
  715: { name: "WildCardNotPermittedInSrcIP", steps: ["next-service"], remedy: FIXED },
  716: {
    name: "WildCardNotPermittedInExtPort",
    steps: ["plain-action", "same-port", "other-port"],
    remedy: REFUSED_ARGUMENTS,
  },
  718: {
    name: "ConflictInMappingEntry",
    steps: ["delete-leftover", "any-port", "other-port"],
    remedy: TAKEN,
  },
  724: {
    name: "SamePortValuesRequired",
    steps: ["same-port"],
    remedy: "Listen on the port that is to be open outside: this router changes no port numbers",
  },
  725: {
    name: "OnlyPermanentLeasesSupported",
    steps: ["permanent-lease"],
    remedy: REFUSED_ARGUMENTS,
  },
  726: {
    name: "RemoteHostOnlySupportsWildcard",
    steps: ["next-service"],
    remedy: REFUSED_ARGUMENTS,
  },
  // To ask for all ports would make this host the DMZ: nobody who asks for one port wants that.
  727: { name: "ExternalPortOnlySupportsWildcard", steps: ["next-service"], remedy: FIXED },
  728: { name: "NoPortMapsAvailable", steps: ["delete-leftover"], remedy: TABLE_FULL },
  729: {
    name: "ConflictWithOtherMechanisms",
    steps: ["any-port", "other-port"],
    remedy: TAKEN,
  },
  730: { name: "PortMappingNotFound", steps: ["retry", "next-service"], remedy: RESTART },
  731: { name: "ReadOnly", steps: ["any-port", "other-port"], remedy: FIXED },
  732: {
    name: "WildCardNotPermittedInIntPort",
    steps: ["plain-action", "same-port", "next-service"],
    remedy: REFUSED_ARGUMENTS,
  },
  733: {
    name: "InconsistentParameters",
    steps: ["plain-action", "same-port", "permanent-lease"],
    remedy: REFUSED_ARGUMENTS,
  },
};

const UNKNOWN_FAULT: FaultRule = {
  name: "unknown error",
  steps: ["plain-action", "retry", "permanent-lease", "next-service"],
  remedy: RESTART,
};

const HTTP_FAILURES: Readonly<Record<number, FaultRule>> = {
  401: { name: "Unauthorized", steps: ["next-service"], remedy: ALLOW },
  403: { name: "Forbidden", steps: ["next-service"], remedy: ALLOW },
  503: { name: "Service Unavailable", steps: ["retry", "plain-action"], remedy: RESTART },
};

const NO_SOAP: FaultRule = {
  name: "no SOAP",
  steps: ["plain-action", "retry", "next-service"],
  remedy: RESTART,
};

/** AddAnyPortMapping makes some devices hang up: miniupnp. */
const RESET: FaultRule = {
  name: "connection reset",
  steps: ["plain-action", "retry", "next-service"],
  remedy: RESTART,
};
