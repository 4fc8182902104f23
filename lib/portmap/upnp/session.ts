/**
 * Calling one device on behalf of one host: what single actions have in common.
 *
 * @module
 */

import {
  MalformedMessageError,
  messageOf,
  NetworkError,
  NoResponseError,
  type PunchlineError,
} from "../../base/errors.ts";
import { ipFamily, ipScope } from "../../net/address.ts";
import { MappingRefusedError } from "../mapper.ts";
import {
  getExternalIpAddress,
  getGenericPortMappingEntry,
  getStatusInfo,
  type IgdAction,
  type PortMappingEntry,
} from "./actions.ts";
import type { IgdDevice, IgdService } from "./device.ts";
import { CONFLICT_IN_MAPPING_ENTRY, faultRule, type IgdFailure, meansNoEntry } from "./faults.ts";
import type { SoapClient, SoapOutcome } from "./soap.ts";

/** What calls of one device have in common. */
export interface IgdSession {
  readonly device: IgdDevice;
  readonly soap: SoapClient;
  /** The gateway's address, for messages. */
  readonly gateway: string;
  /** The address to call from; a wildcard address lets the system choose. */
  readonly local: string;
  readonly signal?: AbortSignal;
}

/** Calls an action; see {@linkcode SoapClient.call}. */
export function tryCall<T>(
  session: IgdSession,
  service: IgdService,
  action: IgdAction<T>,
  options: { readonly isUrgent?: boolean; readonly timeoutMs?: number } = {},
): Promise<SoapOutcome<T>> {
  const { soap, local, signal } = session;
  return soap.call(service, action, { local, signal, ...options });
}

/**
 * Calls an action that has to succeed.
 *
 * @param cannot the start of the error message, such as `Cannot map TCP 192.168.1.2:80`
 * @throws {MappingRefusedError} if the device refuses
 */
export async function call<T>(
  session: IgdSession,
  service: IgdService,
  action: IgdAction<T>,
  cannot: string,
): Promise<T> {
  const outcome = await tryCall(session, service, action);
  if (outcome.kind === "done") return outcome.value;
  throw igdRefusal(outcome, cannot, session.gateway);
}

/** The error for a failure once there is nothing left to try. */
export function igdRefusal(
  failure: IgdFailure,
  cannot: string,
  gateway: string,
): PunchlineError {
  const { name, remedy } = faultRule(failure);
  const refusal = { mapper: "upnp", code: codeOf(failure), reason: name, remedy } as const;
  switch (failure.kind) {
    case "garbled":
      return new MalformedMessageError(`${cannot}: gateway ${gateway}: ${failure.problem}`);
    case "unanswered":
      return new NoResponseError(`${cannot}: gateway ${gateway}: ${failure.problem}`);
    case "taken": {
      const owner = failure.by === "this-host"
        ? "another mapping of this device"
        : "another device";
      return new MappingRefusedError(
        `${cannot}: ${owner} has the external port on gateway ${gateway}`,
        refusal,
      );
    }
    case "fault":
    case "http":
    case "reset": {
      const description = failure.kind === "fault" ? printable(failure.description) : "";
      const isKnown = description === "" || description === name;
      const reason = isKnown ? name : `${name}, ${JSON.stringify(description)}`;
      const { code } = refusal;
      const what = failure.kind === "http"
        ? `HTTP status ${code}, ${reason}`
        : `${reason} (${code})`;
      return new MappingRefusedError(`${cannot}: gateway ${gateway} answered ${what}`, refusal);
    }
  }
}

/** How a call failed; `undefined` if that is no fault of the device. */
export function failureOf(error: unknown): IgdFailure | undefined {
  const problem = messageOf(error);
  if (error instanceof MalformedMessageError) return { kind: "garbled", problem };
  const isSilent = error instanceof NoResponseError || error instanceof NetworkError;
  return isSilent ? { kind: "unanswered", problem } : undefined;
}

/**
 * All mappings of a connection, as far as the device lists them. Some devices repeat entries for ever, or miscount: the
 * list ends with the first entry that it already has.
 *
 * @throws {MappingRefusedError} if the device does not list any
 */
export async function listEntries(
  session: IgdSession,
  service: IgdService,
): Promise<PortMappingEntry[]> {
  const entries = new Map<string, PortMappingEntry>();
  for (let index = 0; index < MAX_ENTRIES; index++) {
    const outcome = await tryEntry(session, service, index);
    if (outcome.kind !== "done") {
      if (index > 0 || meansNoEntry(outcome)) break;
      throw igdRefusal(outcome, "Cannot list mappings", session.gateway);
    }
    const { protocol, externalPort, remoteHost } = outcome.value;
    const key = `${protocol} ${externalPort} ${remoteHost}`;
    if (entries.has(key)) break;
    entries.set(key, outcome.value);
  }
  return [...entries.values()];
}

/**
 * The mappings of all connections of a device, each once: some devices have one table for all of them.
 *
 * @throws {MappingRefusedError} if the device does not list any
 */
export async function listAllEntries(
  session: IgdSession,
  services: readonly IgdService[],
): Promise<PortMappingEntry[]> {
  const entries = new Map<string, PortMappingEntry>();
  let refusal: MappingRefusedError | undefined;
  let hasListed = false;
  for (const service of services) {
    try {
      for (const entry of await listEntries(session, service)) {
        const { protocol, externalPort, remoteHost, internalClient } = entry;
        entries.set(`${protocol} ${externalPort} ${remoteHost} ${internalClient}`, entry);
      }
      hasListed = true;
    } catch (error) {
      if (!(error instanceof MappingRefusedError)) throw error;
      refusal ??= error; // others may list theirs
    }
  }
  if (!hasListed && refusal !== undefined) throw refusal;
  return [...entries.values()];
}

/** A connection, and what it reports about itself. */
export interface ConnectionStatus {
  readonly service: IgdService;
  /** Such as `Connected`; empty if it does not report one. */
  readonly status: string;
  /** `0.0.0.0` if it does not report one. */
  readonly externalIp: string;
}

/** Asks a connection for its status. Take it with a grain of salt: some report `Disconnected`, and map nevertheless. */
export async function connectionStatus(
  session: IgdSession,
  service: IgdService,
): Promise<ConnectionStatus> {
  const status = await ask(session, service, getStatusInfo()) ?? "";
  const externalIp = await ask(session, service, getExternalIpAddress()) ?? "0.0.0.0";
  return { service, status, externalIp };
}

/** The connections of a device, the one most likely to lead to the internet first. Asks only if there are several. */
export async function rankConnections(session: IgdSession): Promise<readonly IgdService[]> {
  const { connections } = session.device;
  if (connections.length < 2) return connections;
  const statuses: ConnectionStatus[] = [];
  for (const service of connections) statuses.push(await connectionStatus(session, service));
  return statuses.sort((a, b) => connectionScore(b) - connectionScore(a))
    .map(({ service }) => service);
}

/** From 0 to 3: how likely a connection leads to the internet. */
function connectionScore({ status, externalIp }: ConnectionStatus): number {
  const isConnected = /^(?:connected|up)$/i.test(status);
  const isPlausible = ipFamily(externalIp) === 4 && ipScope(externalIp) === "global";
  return (isPlausible ? 2 : 0) + (isConnected ? 1 : 0);
}

/** An entry that cannot be read ends the list, unless it is the first. */
async function tryEntry(
  session: IgdSession,
  service: IgdService,
  index: number,
): Promise<SoapOutcome<PortMappingEntry>> {
  try {
    return await tryCall(session, service, getGenericPortMappingEntry(index));
  } catch (error) {
    if (index === 0 || !(error instanceof MalformedMessageError)) throw error;
    return { kind: "fault", code: END_OF_LIST, description: "" };
  }
}

async function ask<T>(
  session: IgdSession,
  service: IgdService,
  action: IgdAction<T>,
): Promise<T | undefined> {
  try {
    const outcome = await tryCall(session, service, action);
    return outcome.kind === "done" ? outcome.value : undefined;
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}

function codeOf(failure: IgdFailure): number {
  switch (failure.kind) {
    case "fault":
      return failure.code;
    case "http":
      return failure.status;
    case "taken":
      return CONFLICT_IN_MAPPING_ENTRY;
    default:
      return 0;
  }
}

/** Descriptions end up on terminals. */
function printable(text: string): string {
  return text.slice(0, MAX_DESCRIPTION).replaceAll(/\p{Control}/gu, "");
}

/** SpecifiedArrayIndexInvalid. */
const END_OF_LIST = 713;

/** Chosen by us: tables of home routers have 32 to 512 entries. */
const MAX_ENTRIES = 1024;

/** Chosen by us: a description has to fit on a line. */
const MAX_DESCRIPTION = 80;
