/**
 * Mapping an IPv4 port by UPnP: one fallback after another until the device grants it, and confirming that the mapping is
 * there.
 *
 * @module
 */

import { MalformedMessageError, PunchlineError } from "../../base/errors.ts";
import { cannot, type MappingRequest } from "../mapper.ts";
import {
  addAnyPortMapping,
  addPortMapping,
  deletePortMapping,
  getSpecificPortMappingEntry,
  type PortMappingEntry,
  type PortMappingKey,
} from "./actions.ts";
import type { IgdService } from "./device.ts";
import {
  type AddMappingAttempt,
  type FallbackContext,
  firstAttempt,
  nextAttempt,
} from "./fallbacks.ts";
import {
  CONFLICT_IN_MAPPING_ENTRY,
  type IgdFailure,
  meansNoEntry,
  NO_SUCH_ENTRY_IN_ARRAY,
} from "./faults.ts";
import { call, igdRefusal, type IgdSession, listEntries, tryCall } from "./session.ts";
import type { SoapOutcome } from "./soap.ts";

/** A mapping that the device granted. */
export interface GrantedPort {
  readonly service: IgdService;
  readonly externalPort: number;
  /** `Infinity` if it never expires. */
  readonly leaseSeconds: number;
  /** The mapping's description in the router's table. */
  readonly description: string;
}

/**
 * Maps a port.
 *
 * @param services the device's connections, in the order in which to use them; at least one
 * @throws {MappingRefusedError} if the device refuses every attempt
 */
export async function mapIgdPort(
  session: IgdSession,
  services: readonly IgdService[],
  request: MappingRequest,
): Promise<GrantedPort> {
  const context: FallbackContext = {
    request,
    serviceVersions: services.map(({ version }) => version),
    otherPorts: drawPorts(),
  };
  let attempt = firstAttempt(request);
  while (true) {
    const service = services[attempt.service]!;
    const result = await tryAttempt(session, service, { attempt, request });
    if (result.kind === "granted") return result.granted;
    attempt = await fallBack(session, services, { attempt, failure: result.failure, context });
  }
}

/** Deletes a mapping. A mapping that is not there is not an error. */
export async function unmapIgdPort(
  session: IgdSession,
  service: IgdService,
  { key, action }: { key: PortMappingKey; action: string },
): Promise<void> {
  const outcome = await tryCall(session, service, deletePortMapping(key));
  if (outcome.kind === "done" || meansNoEntry(outcome)) return;
  throw igdRefusal(outcome, action, session.gateway);
}

/**
 * The entry in the device's table; `undefined` if there is none, `"unknown"` if the device does not say.
 *
 * @throws {NoResponseError} if the device does not answer in time
 * @throws {NetworkError} if it cannot be reached
 */
export async function readEntry(
  session: IgdSession,
  service: IgdService,
  key: PortMappingKey,
): Promise<PortMappingEntry | undefined | "unknown"> {
  try {
    const outcome = await tryCall(session, service, getSpecificPortMappingEntry(key));
    if (outcome.kind === "done") return outcome.value;
    return meansNoEntry(outcome) ? undefined : "unknown";
  } catch (error) {
    if (error instanceof MalformedMessageError) return "unknown";
    throw error;
  }
}

/** Whether the router has given the port to another host, as it may once the lease has expired. */
export async function isTakenByOthers(
  session: IgdSession,
  service: IgdService,
  { key, request }: { key: PortMappingKey; request: MappingRequest },
): Promise<boolean> {
  const entry = await tryReadEntry(session, service, key);
  return entry !== undefined && entry !== "unknown" && !leadsHere(entry, request);
}

type AttemptResult =
  | { readonly kind: "granted"; readonly granted: GrantedPort }
  | { readonly kind: "failed"; readonly failure: IgdFailure };

interface AskedMapping {
  readonly attempt: AddMappingAttempt;
  readonly request: MappingRequest;
}

async function tryAttempt(
  session: IgdSession,
  service: IgdService,
  { attempt, request }: AskedMapping,
): Promise<AttemptResult> {
  const { action, externalPort, leaseSeconds, description } = attempt;
  const { protocol, internal } = request;
  const entry = {
    protocol,
    externalPort,
    internalClient: internal.ip,
    internalPort: internal.port,
    description,
    leaseSeconds,
  };
  const outcome: SoapOutcome<number | void> = action === "AddPortMapping"
    ? await tryCall(session, service, addPortMapping(entry))
    : await tryCall(session, service, addAnyPortMapping(entry));
  if (outcome.kind !== "done") return { kind: "failed", failure: outcome };
  return await confirm(session, service, {
    request,
    attempt: { ...attempt, externalPort: outcome.value ?? externalPort },
  });
}

/**
 * Confirms that the mapping is there. Some devices report success with a full table, or silently use another port
 * (geth). A device that does not show its table is trusted.
 */
async function confirm(
  session: IgdSession,
  service: IgdService,
  asked: AskedMapping,
): Promise<AttemptResult> {
  const { attempt, request } = asked;
  const key = { protocol: request.protocol, externalPort: attempt.externalPort };
  const outcome = await tryReadEntry(session, service, key);
  if (outcome === "unknown") return granted(service, attempt);
  if (outcome !== undefined) {
    const isTaken = outcome.internalClient !== "0.0.0.0" && !leadsHere(outcome, request);
    return isTaken ? failed(CONFLICT_IN_MAPPING_ENTRY) : granted(service, attempt, outcome);
  }
  const entries = await tryList(session, service);
  if (entries === undefined) return granted(service, attempt);
  const entry = entries.find((entry) => isOwn(entry, asked));
  if (entry === undefined) return failed(NO_SUCH_ENTRY_IN_ARRAY);
  if (!request.exactExternalPort || entry.externalPort === attempt.externalPort) {
    return granted(service, { ...attempt, externalPort: entry.externalPort }, entry);
  }
  await tryCall(session, service, deletePortMapping(entry));
  return failed(CONFLICT_IN_MAPPING_ENTRY);
}

async function tryReadEntry(
  session: IgdSession,
  service: IgdService,
  key: PortMappingKey,
): Promise<PortMappingEntry | undefined | "unknown"> {
  try {
    return await readEntry(session, service, key);
  } catch (error) {
    if (error instanceof PunchlineError) return "unknown";
    throw error;
  }
}

async function tryList(
  session: IgdSession,
  service: IgdService,
): Promise<PortMappingEntry[] | undefined> {
  try {
    return await listEntries(session, service);
  } catch (error) {
    if (error instanceof PunchlineError) return undefined;
    throw error;
  }
}

/**
 * The next attempt.
 *
 * @throws {MappingRefusedError} if there is none
 */
async function fallBack(
  session: IgdSession,
  services: readonly IgdService[],
  { attempt, failure, context }: {
    attempt: AddMappingAttempt;
    failure: IgdFailure;
    context: FallbackContext;
  },
): Promise<AddMappingAttempt> {
  const { request } = context;
  let next = nextAttempt(attempt, failure, context);
  while (next?.taken.at(-1) === "delete-leftover") {
    const service = services[next.service]!;
    const asked = { attempt: next, request };
    if (await deleteLeftover(session, service, { ...asked, failure })) return next;
    next = nextAttempt(next, failure, context); // there was none, so the same attempt would fail again
  }
  if (next !== undefined) return next;
  throw igdRefusal(failure, cannot("map", request), session.gateway);
}

/** Deletes a mapping that an earlier run of this program left; if the port is in use, only one on this port. */
async function deleteLeftover(
  session: IgdSession,
  service: IgdService,
  asked: AskedMapping & { failure: IgdFailure },
): Promise<boolean> {
  const { attempt, request, failure } = asked;
  const key = { protocol: request.protocol, externalPort: attempt.externalPort };
  const isConflict = failure.kind === "fault" && failure.code === CONFLICT_IN_MAPPING_ENTRY;
  const known = isConflict
    ? await tryReadEntry(session, service, key)
    : (await tryList(session, service))?.find((entry) => isOwn(entry, asked));
  if (known === undefined || known === "unknown" || !isOwn(known, asked)) return false;
  await call(session, service, deletePortMapping(known), cannot("map", request));
  return true;
}

function leadsHere(entry: PortMappingEntry, { internal, protocol }: MappingRequest): boolean {
  return entry.internalClient === internal.ip && entry.internalPort === internal.port &&
    entry.protocol === protocol;
}

/**
 * Whether this program made the entry. The description counts, because mappings of the same port by PCP and NAT-PMP are
 * in the same table. Devices truncate descriptions.
 */
function isOwn(entry: PortMappingEntry, { attempt, request }: AskedMapping): boolean {
  return leadsHere(entry, request) && entry.description !== "" &&
    attempt.description.startsWith(entry.description);
}

function granted(
  service: IgdService,
  { externalPort, leaseSeconds, description }: AddMappingAttempt,
  entry?: PortMappingEntry,
): AttemptResult {
  // An entry with a lease of 0 may expire: some devices never report leases (miniupnp #466). IGD 2 makes 0 a week.
  const known = entry?.leaseSeconds || leaseSeconds;
  return {
    kind: "granted",
    granted: { service, externalPort, description, leaseSeconds: known === 0 ? Infinity : known },
  };
}

function failed(code: number): AttemptResult {
  return { kind: "failed", failure: { kind: "fault", code, description: "" } };
}

/** At random, so that hosts behind one router do not try the same ports. */
function drawPorts(): number[] {
  const drawn = crypto.getRandomValues(new Uint16Array(OTHER_PORTS));
  return Array.from(drawn, (number) => FIRST_DYNAMIC_PORT + number % DYNAMIC_PORTS);
}

/** RFC 6335 §6: the dynamic ports. */
const FIRST_DYNAMIC_PORT = 49_152;
const DYNAMIC_PORTS = 16_384;

/** Chosen by us: how many other ports to try. */
const OTHER_PORTS = 4;
