/**
 * Mapping an IPv4 port by UPnP: climbing the ladder of faults, and looking whether what was granted is there.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";
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
  type FallbackContext,
  firstAttempt,
  type MappingAttempt,
  nextAttempt,
} from "./fallbacks.ts";
import {
  CONFLICT_IN_MAPPING_ENTRY,
  type IgdFailure,
  NO_SUCH_ENTRY_IN_ARRAY,
  saysNoEntry,
} from "./faults.ts";
import { call, type IgdSession, isOfDevice, listEntries, refusal, tryCall } from "./session.ts";
import type { SoapOutcome } from "./soap.ts";

/** What was granted. */
export interface GrantedPort {
  readonly service: IgdService;
  readonly externalPort: number;
  /** `Infinity` if it never expires. */
  readonly leaseSeconds: number;
  /** Under which name the mapping stands in the router. */
  readonly description: string;
}

/**
 * Maps a port.
 *
 * @param services the device's connections, in the order of their use; at least one
 * @throws {MappingRefusedError} if the device refuses whatever was tried
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
    attempt = await climb(session, services, { attempt, failure: result.failure, context });
  }
}

/** Deletes a mapping. That it is not there is no error. */
export async function unmapIgdPort(
  session: IgdSession,
  service: IgdService,
  { key, action }: { key: PortMappingKey; action: string },
): Promise<void> {
  const outcome = await tryCall(session, service, deletePortMapping(key));
  if (outcome.kind === "done" || saysNoEntry(outcome)) return;
  throw refusal(outcome, action, session.gateway);
}

/**
 * The entry as the device reads it; `undefined` if there is none, `"unknown"` if it does not let itself be read.
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
    return saysNoEntry(outcome) ? undefined : "unknown";
  } catch (error) {
    if (error instanceof MalformedMessageError) return "unknown";
    throw error;
  }
}

/** Whether the router has given the port to somebody else, as it may when the lease is over. */
export async function isTakenByOthers(
  session: IgdSession,
  service: IgdService,
  { key, request }: { key: PortMappingKey; request: MappingRequest },
): Promise<boolean> {
  const entry = await look(session, service, key);
  return entry !== undefined && entry !== "unknown" && !leadsToUs(entry, request);
}

type AttemptResult =
  | { readonly kind: "granted"; readonly granted: GrantedPort }
  | { readonly kind: "failed"; readonly failure: IgdFailure };

interface Asked {
  readonly attempt: MappingAttempt;
  readonly request: MappingRequest;
}

async function tryAttempt(
  session: IgdSession,
  service: IgdService,
  { attempt, request }: Asked,
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
 * Looks whether the mapping is there. Some devices say yes to a full table, or silently take another port (geth); what
 * does not let itself be looked at is believed.
 */
async function confirm(
  session: IgdSession,
  service: IgdService,
  asked: Asked,
): Promise<AttemptResult> {
  const { attempt, request } = asked;
  const key = { protocol: request.protocol, externalPort: attempt.externalPort };
  const outcome = await look(session, service, key);
  if (outcome === "unknown") return granted(service, attempt);
  if (outcome !== undefined) {
    const isTaken = outcome.internalClient !== "0.0.0.0" && !leadsToUs(outcome, request);
    return isTaken ? failed(CONFLICT_IN_MAPPING_ENTRY) : granted(service, attempt, outcome);
  }
  const entries = await tryList(session, service);
  if (entries === undefined) return granted(service, attempt);
  const entry = entries.find((entry) => isOurs(entry, asked));
  if (entry === undefined) return failed(NO_SUCH_ENTRY_IN_ARRAY);
  if (!request.exactExternalPort || entry.externalPort === attempt.externalPort) {
    return granted(service, { ...attempt, externalPort: entry.externalPort }, entry);
  }
  await tryCall(session, service, deletePortMapping(entry));
  return failed(CONFLICT_IN_MAPPING_ENTRY);
}

async function look(
  session: IgdSession,
  service: IgdService,
  key: PortMappingKey,
): Promise<PortMappingEntry | undefined | "unknown"> {
  try {
    return await readEntry(session, service, key);
  } catch (error) {
    if (isOfDevice(error)) return "unknown";
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
    if (isOfDevice(error)) return undefined;
    throw error;
  }
}

/**
 * The next attempt.
 *
 * @throws {MappingRefusedError} if there is none
 */
async function climb(
  session: IgdSession,
  services: readonly IgdService[],
  { attempt, failure, context }: {
    attempt: MappingAttempt;
    failure: IgdFailure;
    context: FallbackContext;
  },
): Promise<MappingAttempt> {
  const { request } = context;
  let next = nextAttempt(attempt, failure, context);
  while (next?.taken.at(-1) === "delete-leftover") {
    const service = services[next.service]!;
    const asked = { attempt: next, request };
    if (await deleteLeftover(session, service, { ...asked, failure })) return next;
    next = nextAttempt(next, failure, context); // there was none: the same again would fail again
  }
  if (next !== undefined) return next;
  throw refusal(failure, cannot("map", request), session.gateway);
}

/** Deletes a mapping that an earlier run of this program left; where the port is taken, only on this port. */
async function deleteLeftover(
  session: IgdSession,
  service: IgdService,
  asked: Asked & { failure: IgdFailure },
): Promise<boolean> {
  const { attempt, request, failure } = asked;
  const key = { protocol: request.protocol, externalPort: attempt.externalPort };
  const isConflict = failure.kind === "fault" && failure.code === CONFLICT_IN_MAPPING_ENTRY;
  const known = isConflict
    ? await look(session, service, key)
    : (await tryList(session, service))?.find((entry) => isOurs(entry, asked));
  if (known === undefined || known === "unknown" || !isOurs(known, asked)) return false;
  await call(session, service, deletePortMapping(known), cannot("map", request));
  return true;
}

function leadsToUs(entry: PortMappingEntry, { internal, protocol }: MappingRequest): boolean {
  return entry.internalClient === internal.ip && entry.internalPort === internal.port &&
    entry.protocol === protocol;
}

/** The name counts: PCP's and NAT-PMP's mappings to the same port stand in the same table. Devices cut names. */
function isOurs(entry: PortMappingEntry, { attempt, request }: Asked): boolean {
  return leadsToUs(entry, request) && entry.description !== "" &&
    attempt.description.startsWith(entry.description);
}

function granted(
  service: IgdService,
  { externalPort, leaseSeconds, description }: MappingAttempt,
  entry?: PortMappingEntry,
): AttemptResult {
  // What is read back as 0 need not be for ever: some devices never tell (miniupnp #466). IGD 2 makes a week of ever.
  const told = entry?.leaseSeconds || leaseSeconds;
  return {
    kind: "granted",
    granted: { service, externalPort, description, leaseSeconds: told === 0 ? Infinity : told },
  };
}

function failed(code: number): AttemptResult {
  return { kind: "failed", failure: { kind: "fault", code, description: "" } };
}

/** At random, so that hosts behind one router do not run after each other. */
function drawPorts(): number[] {
  const drawn = crypto.getRandomValues(new Uint16Array(OTHER_PORTS));
  return Array.from(drawn, (number) => FIRST_DYNAMIC_PORT + number % DYNAMIC_PORTS);
}

/** RFC 6335 §6: the dynamic ports. */
const FIRST_DYNAMIC_PORT = 49_152;
const DYNAMIC_PORTS = 16_384;

/** Ours: how many other ports to try. */
const OTHER_PORTS = 4;
