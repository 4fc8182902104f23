/**
 * One device, and whom it is asked for.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, NoResponseError } from "../../base/errors.ts";
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
import { faultRule, type IgdFailure, saysNoEntry } from "./faults.ts";
import type { SoapClient, SoapOutcome } from "./soap.ts";

/** What calls of one device have in common. */
export interface IgdSession {
  readonly device: IgdDevice;
  readonly soap: SoapClient;
  /** For messages. */
  readonly gateway: string;
  /** The address to call from; the wildcard for the system's choice. */
  readonly local: string;
  readonly signal?: AbortSignal;
}

/** Calls an action; see {@linkcode SoapClient.call}. */
export function tryCall<T>(
  session: IgdSession,
  service: IgdService,
  action: IgdAction<T>,
): Promise<SoapOutcome<T>> {
  const { soap, local, signal } = session;
  return soap.call(service, action, { local, signal });
}

/**
 * Calls an action that has to work.
 *
 * @param cannot begins the message, as in `Cannot map TCP 192.168.1.2:80`
 * @throws {MappingRefusedError} if the device says no
 */
export async function call<T>(
  session: IgdSession,
  service: IgdService,
  action: IgdAction<T>,
  cannot: string,
): Promise<T> {
  const outcome = await tryCall(session, service, action);
  if (outcome.kind === "done") return outcome.value;
  throw refusal(outcome, cannot, session.gateway);
}

/** The error that a failure comes to when nothing is left to try. */
export function refusal(
  failure: IgdFailure,
  cannot: string,
  gateway: string,
): MappingRefusedError {
  const { name, remedy } = faultRule(failure);
  const code = codeOf(failure);
  const said = failure.kind === "fault" ? plain(failure.description) : "";
  const reason = said === "" || said === name ? name : `${name}, ${JSON.stringify(said)}`;
  const what = failure.kind === "http" ? `HTTP status ${code}, ${reason}` : `${reason} (${code})`;
  return new MappingRefusedError(`${cannot}: gateway ${gateway} answered ${what}`, {
    mapper: "upnp",
    code,
    reason: name,
    remedy,
  });
}

/**
 * All mappings of a connection, as far as the device lists them. Some repeat themselves for ever, or count wrongly:
 * the list ends with the first entry that was there before.
 *
 * @throws {MappingRefusedError} if the device does not list at all
 */
export async function listEntries(
  session: IgdSession,
  service: IgdService,
): Promise<PortMappingEntry[]> {
  const entries = new Map<string, PortMappingEntry>();
  for (let index = 0; index < MAX_ENTRIES; index++) {
    const outcome = await tryEntry(session, service, index);
    if (outcome.kind !== "done") {
      if (index > 0 || saysNoEntry(outcome)) break;
      throw refusal(outcome, "Cannot list mappings", session.gateway);
    }
    const { protocol, externalPort, remoteHost } = outcome.value;
    const key = `${protocol} ${externalPort} ${remoteHost}`;
    if (entries.has(key)) break;
    entries.set(key, outcome.value);
  }
  return [...entries.values()];
}

/** An entry that makes no sense ends a list that did until there. */
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

/** Whether an error is the device's, or of the way to it, rather than the caller's or ours. */
export function isOfDevice(error: unknown): boolean {
  return error instanceof MalformedMessageError || error instanceof MappingRefusedError ||
    error instanceof NoResponseError || error instanceof NetworkError;
}

/** What a device says ends up on terminals. */
function plain(text: string): string {
  return text.slice(0, MAX_SAID).replaceAll(/\p{Control}/gu, "");
}

function codeOf(failure: IgdFailure): number {
  switch (failure.kind) {
    case "fault":
      return failure.code;
    case "http":
      return failure.status;
    case "reset":
      return 0;
  }
}

/** SpecifiedArrayIndexInvalid. */
const END_OF_LIST = 713;

/** Ours: tables of home routers have 32 to 512 entries. */
const MAX_ENTRIES = 1024;

/** Ours: what a device says is to fit on a line. */
const MAX_SAID = 80;

/** A connection, and what it says of itself. */
export interface ConnectionStatus {
  readonly service: IgdService;
  /** Such as `Connected`; empty if it does not say. */
  readonly status: string;
  /** `0.0.0.0` if it does not say. */
  readonly externalIp: string;
}

/** Asks a connection for its status, whatever that is worth: some say `Disconnected` and map all the same. */
export async function connectionStatus(
  session: IgdSession,
  service: IgdService,
): Promise<ConnectionStatus> {
  const status = await ask(session, service, getStatusInfo()) ?? "";
  const externalIp = await ask(session, service, getExternalIpAddress()) ?? "0.0.0.0";
  return { service, status, externalIp };
}

/** The connections of a device, the one most likely to lead out first; asks only where there is a choice. */
export async function rankConnections(session: IgdSession): Promise<readonly IgdService[]> {
  const { connections } = session.device;
  if (connections.length < 2) return connections;
  const statuses: ConnectionStatus[] = [];
  for (const service of connections) statuses.push(await connectionStatus(session, service));
  return statuses.sort((a, b) => promiseOf(b) - promiseOf(a)).map(({ service }) => service);
}

/** From 0 to 3: how likely a connection leads out. */
export function promiseOf({ status, externalIp }: ConnectionStatus): number {
  const isConnected = /^(?:connected|up)$/i.test(status);
  const isPlausible = ipFamily(externalIp) === 4 && ipScope(externalIp) === "global";
  return (isPlausible ? 2 : 0) + (isConnected ? 1 : 0);
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
