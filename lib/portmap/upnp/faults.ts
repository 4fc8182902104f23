/**
 * The fallback table: what to try next when a gateway refuses to map a port. Devices mean different things by the same
 * code, so each rule lists several fallbacks; the first that applies and has not been tried yet is taken.
 *
 * Codes are from UPnP Device Architecture 2.0 §3.2.2, WANIPConnection:2 §2.6 and WANIPv6FirewallControl:1 §2.5.
 *
 * @module
 */

/** How a call failed although the device answered. */
export type IgdFailure =
  | { readonly kind: "fault"; readonly code: number; readonly description: string }
  /** A status without SOAP; whether it only means that the device is busy. */
  | { readonly kind: "http"; readonly status: number; readonly isBusy: boolean }
  /** The device ended the connection instead of answering, as some do for actions that they do not know. */
  | { readonly kind: "reset" }
  /** It answered with success, but nothing that can be read. */
  | { readonly kind: "garbled"; readonly problem: string }
  /** It did not answer in time, or could not be reached. */
  | { readonly kind: "unanswered"; readonly problem: string }
  /** Something else has the port: this host or another, as the table showed before anything was asked. */
  | { readonly kind: "taken"; readonly by: "this-host" | "another-host" };

/** What to change before asking again. */
export type Fallback =
  | "retry" // nothing: the device may have been busy
  | "plain-action" // AddPortMapping instead of AddAnyPortMapping
  | "any-port" // AddAnyPortMapping, if the service has it
  | "other-port" // another external port, several times
  | "same-port" // the internal port as the external one
  | "unprivileged-port" // another external port if this one is below 1024
  | "shorter-lease" // ten minutes, then two
  | "permanent-lease"
  | "finite-lease"
  | "plain-description" // short, of letters only
  | "other-description" // one that no other mapping has
  | "next-service"; // another connection of the same device

/** How to react to a failure. */
export interface FaultRule {
  /** The failure's name in the specification. */
  readonly name: string;
  readonly fallbacks: readonly Fallback[];
  /** What the user can do once no fallback is left. */
  readonly remedy: string;
}

/** The rule for a failure. */
export function faultRule(failure: IgdFailure): FaultRule {
  switch (failure.kind) {
    case "fault":
      return FAULTS[failure.code] ?? UNKNOWN_FAULT;
    case "http":
      return HTTP_FAILURES[failure.status] ?? NO_SOAP;
    case "reset":
      return RESET;
    case "garbled":
      return GARBLED;
    case "unanswered":
      return UNANSWERED;
    case "taken":
      return failure.by === "this-host" ? TAKEN_BY_THIS_HOST : TAKEN_BY_ANOTHER_HOST;
  }
}

/** Whether the device has clearly not done what it was asked; otherwise its table has to show. */
export function isClearRefusal(failure: IgdFailure): boolean {
  return failure.kind === "fault" || failure.kind === "taken" ||
    failure.kind === "http" && failure.status >= 400 && failure.status < 500;
}

/** Whether the failure means that there is no such entry, or that the list has ended. */
export function meansNoEntry(failure: IgdFailure): boolean {
  return failure.kind === "fault" && NO_ENTRY.includes(failure.code);
}

/** Whether the failure means that there is no such action, for which FRITZ!Box answers 403. */
export function meansNoAction(failure: IgdFailure): boolean {
  if (failure.kind === "fault") return NO_ACTION.includes(failure.code);
  return failure.kind === "reset" || failure.kind === "http" && !failure.isBusy;
}

/** The code for a port that another host uses. */
export const CONFLICT_IN_MAPPING_ENTRY = 718;

/** The code for a mapping that was granted but is not there. */
export const NO_SUCH_ENTRY_IN_ARRAY = 714;

const NO_ENTRY = [713, NO_SUCH_ENTRY_IN_ARRAY, 730, 704];
const NO_ACTION = [401, 403, 602];

const NOT_OFFERED = "The router does not offer this; update its firmware or map the port manually";
const REFUSED_ARGUMENTS =
  "The router accepts no form of the request; update its firmware or map the port manually";
const TABLE_FULL = "Delete unused mappings in the router, or restart it";
const FULL_OR_UNREACHABLE =
  "Delete unused mappings in the router, or restart it; if it has no public address, ask the provider for one";
const TAKEN =
  "Choose another external port: other hosts or the router itself use the ones that were tried";
const ALLOW =
  "Allow devices to open ports by UPnP in the router; if it asks which ones, allow this device";
const RESTART = "Restart the router; if that does not help, map the port manually";
const FIXED = "Map the port manually in the router";

const FAULTS: Readonly<Record<number, FaultRule>> = {
  401: {
    name: "Invalid Action",
    fallbacks: ["plain-action", "any-port", "next-service"],
    remedy: NOT_OFFERED,
  },
  402: {
    name: "Invalid Args",
    fallbacks: [
      "plain-action",
      "shorter-lease",
      "permanent-lease",
      "finite-lease",
      "plain-description",
      "same-port",
    ],
    remedy: REFUSED_ARGUMENTS,
  },
  403: {
    name: "Not Available Action",
    fallbacks: ["plain-action", "next-service"],
    remedy: ALLOW,
  },
  404: {
    name: "Invalid Var",
    fallbacks: ["plain-action", "permanent-lease", "next-service"],
    remedy: REFUSED_ARGUMENTS,
  },
  // Full tables, unsupported leases, a busy device and the lack of a public address all look like this: go-libp2p,
  // miniupnp.
  501: {
    name: "Action Failed",
    fallbacks: ["plain-action", "retry", "permanent-lease", "other-port"],
    remedy: FULL_OR_UNREACHABLE,
  },
  600: {
    name: "Argument Value Invalid",
    fallbacks: [
      "plain-action",
      "shorter-lease",
      "permanent-lease",
      "finite-lease",
      "plain-description",
      "same-port",
    ],
    remedy: REFUSED_ARGUMENTS,
  },
  601: {
    name: "Argument Value Out of Range",
    fallbacks: ["shorter-lease", "permanent-lease", "finite-lease", "unprivileged-port"],
    remedy: REFUSED_ARGUMENTS,
  },
  602: {
    name: "Optional Action Not Implemented",
    fallbacks: ["plain-action", "any-port", "next-service"],
    remedy: NOT_OFFERED,
  },
  603: { name: "Out of Memory", fallbacks: [], remedy: TABLE_FULL },
  604: { name: "Human Intervention Required", fallbacks: [], remedy: ALLOW },
  605: {
    name: "String Argument Too Long",
    fallbacks: ["plain-description"],
    remedy: REFUSED_ARGUMENTS,
  },
  606: {
    name: "Action not authorized",
    fallbacks: ["unprivileged-port", "next-service"],
    remedy: ALLOW,
  },
  701: { name: "PinholeSpaceExhausted", fallbacks: [], remedy: TABLE_FULL },
  702: {
    name: "FirewallDisabled",
    fallbacks: [],
    remedy: "Nothing: the router's IPv6 firewall is off, so the port is open already",
  },
  703: { name: "InboundPinholeNotAllowed", fallbacks: [], remedy: ALLOW },
  704: { name: "NoSuchEntry", fallbacks: ["retry"], remedy: RESTART },
  705: { name: "ProtocolNotSupported", fallbacks: [], remedy: NOT_OFFERED },
  706: { name: "InternalPortWildcardingNotAllowed", fallbacks: [], remedy: NOT_OFFERED },
  707: { name: "ProtocolWildcardingNotAllowed", fallbacks: [], remedy: NOT_OFFERED },
  708: { name: "WildCardNotPermittedInSrcIP", fallbacks: [], remedy: FIXED },
  709: { name: "NoPacketSent", fallbacks: [], remedy: RESTART },
  713: {
    name: "SpecifiedArrayIndexInvalid",
    fallbacks: ["retry", "next-service"],
    remedy: RESTART,
  },
  714: {
    name: "NoSuchEntryInArray",
    fallbacks: ["next-service", "other-port"],
    remedy: RESTART,
  },
  715: { name: "WildCardNotPermittedInSrcIP", fallbacks: ["next-service"], remedy: FIXED },
  716: {
    name: "WildCardNotPermittedInExtPort",
    fallbacks: ["plain-action", "same-port", "other-port"],
    remedy: REFUSED_ARGUMENTS,
  },
  718: {
    name: "ConflictInMappingEntry",
    fallbacks: ["other-description", "any-port", "other-port"],
    remedy: TAKEN,
  },
  724: {
    name: "SamePortValuesRequired",
    fallbacks: ["same-port"],
    remedy:
      "Listen on the port that should be open outside: this router cannot translate port numbers",
  },
  725: {
    name: "OnlyPermanentLeasesSupported",
    fallbacks: ["permanent-lease"],
    remedy: REFUSED_ARGUMENTS,
  },
  726: {
    name: "RemoteHostOnlySupportsWildcard",
    fallbacks: ["next-service"],
    remedy: REFUSED_ARGUMENTS,
  },
  // Mapping all ports would expose this host like a DMZ, which is not what the caller asked for.
  727: { name: "ExternalPortOnlySupportsWildcard", fallbacks: ["next-service"], remedy: FIXED },
  728: { name: "NoPortMapsAvailable", fallbacks: [], remedy: TABLE_FULL },
  729: {
    name: "ConflictWithOtherMechanisms",
    fallbacks: ["any-port", "other-port"],
    remedy: TAKEN,
  },
  730: { name: "PortMappingNotFound", fallbacks: ["retry", "next-service"], remedy: RESTART },
  731: { name: "ReadOnly", fallbacks: ["any-port", "other-port"], remedy: FIXED },
  732: {
    name: "WildCardNotPermittedInIntPort",
    fallbacks: ["plain-action", "same-port", "next-service"],
    remedy: REFUSED_ARGUMENTS,
  },
  733: {
    name: "InconsistentParameters",
    fallbacks: ["plain-action", "same-port", "permanent-lease"],
    remedy: REFUSED_ARGUMENTS,
  },
};

const UNKNOWN_FAULT: FaultRule = {
  name: "unknown error",
  fallbacks: ["plain-action", "retry", "permanent-lease", "next-service"],
  remedy: RESTART,
};

const HTTP_FAILURES: Readonly<Record<number, FaultRule>> = {
  401: { name: "Unauthorized", fallbacks: ["next-service"], remedy: ALLOW },
  403: { name: "Forbidden", fallbacks: ["next-service"], remedy: ALLOW },
  503: { name: "Service Unavailable", fallbacks: ["retry", "plain-action"], remedy: RESTART },
};

const NO_SOAP: FaultRule = {
  name: "no SOAP",
  fallbacks: ["plain-action", "retry", "next-service"],
  remedy: RESTART,
};

/** AddAnyPortMapping makes some devices hang up: miniupnp. */
const RESET: FaultRule = {
  name: "connection reset",
  fallbacks: ["plain-action", "retry", "next-service"],
  remedy: RESTART,
};

const GARBLED: FaultRule = {
  name: "unreadable answer",
  fallbacks: ["plain-action", "retry", "next-service"],
  remedy: "Update the router's firmware, or restart it",
};

/** Asking once more would only keep a device busy that is too slow already. */
const UNANSWERED: FaultRule = { name: "no answer", fallbacks: [], remedy: RESTART };

/** AddAnyPortMapping extends what this host has on the port, instead of choosing another. */
const TAKEN_BY_THIS_HOST: FaultRule = {
  name: "ConflictInMappingEntry",
  fallbacks: ["other-port"],
  remedy: "Close the mapping of this device that has the port already, or choose another port",
};

const TAKEN_BY_ANOTHER_HOST: FaultRule = {
  name: "ConflictInMappingEntry",
  fallbacks: ["any-port", "other-port"],
  remedy: TAKEN,
};
