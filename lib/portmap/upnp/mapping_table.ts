/**
 * What a UPnP device's table of port mappings shows: one entry, the whole list where an entry cannot be asked for, and the
 * external address.
 *
 * @module
 */

import { MalformedMessageError, NoResponseError, PunchlineError } from "../../base/errors.ts";
import type { MappingRequest } from "../mapper.ts";
import {
  getExternalIpAddress,
  getSpecificPortMappingEntry,
  type PortMappingEntry,
  type PortMappingKey,
} from "./actions.ts";
import type { IgdService } from "./device.ts";
import { meansNoEntry } from "./faults.ts";
import { mayLeadHere } from "./mapping_engine.ts";
import { type IgdSession, listEntries, tryCall } from "./session.ts";

/**
 * The entry in the device's table; `undefined` if the port is free, `"unknown"` if the device does not say.
 *
 * @throws {NoResponseError} if the device does not answer in time
 * @throws {NetworkError} if it cannot be reached
 */
export async function readEntry(
  session: IgdSession,
  service: IgdService,
  { key, isUrgent }: { readonly key: PortMappingKey; readonly isUrgent?: boolean },
): Promise<PortMappingEntry | undefined | "unknown"> {
  try {
    const action = getSpecificPortMappingEntry(key);
    const outcome = await tryCall(session, service, action, {
      isUrgent,
      timeoutMs: READ_TIMEOUT_MS,
    });
    if (outcome.kind === "done") return isNoEntry(outcome.value) ? undefined : outcome.value;
    return meansNoEntry(outcome) ? undefined : "unknown";
  } catch (error) {
    if (error instanceof MalformedMessageError) return "unknown";
    throw error;
  }
}

/** What a device shows of a mapping. */
export interface ShownMapping {
  /** The entry of its external port; `undefined` if the port is free, `"unknown"` if the device does not say. */
  readonly entry: PortMappingEntry | undefined | "unknown";
  /** `0.0.0.0` if the device reports none. */
  readonly externalIp: string;
}

/**
 * An entry and the external address, in one round trip. A device that does not answer one of the questions may answer the
 * other.
 *
 * @throws {NoResponseError} if it answers neither
 */
export async function readMapping(
  session: IgdSession,
  service: IgdService,
  key: PortMappingKey,
): Promise<ShownMapping> {
  let failure: NoResponseError | undefined;
  const [entry, externalIp] = await session.soap.callBoth([
    async (isUrgent) => {
      try {
        return await readEntry(session, service, { key, isUrgent });
      } catch (error) {
        session.signal?.throwIfAborted();
        if (!(error instanceof NoResponseError)) throw error;
        failure = error;
        return "unknown" as const;
      }
    },
    (isUrgent) => externalIpOf(session, service, isUrgent),
  ], session.signal);
  if (failure !== undefined && externalIp === "0.0.0.0") throw failure;
  return { entry, externalIp };
}

/**
 * What the list shows for an entry that should lead to a target, in case the device does not find its own entries, or
 * shows others in their place.
 */
export async function findEntry(
  session: IgdSession,
  service: IgdService,
  { key, target, entry }: {
    readonly key: PortMappingKey;
    readonly target: Pick<MappingRequest, "internal" | "protocol"> | undefined;
    readonly entry: ShownMapping["entry"];
  },
): Promise<ShownMapping["entry"]> {
  const isFound = entry === "unknown" ||
    entry !== undefined && (target === undefined || mayLeadHere(entry, target));
  if (isFound) return entry;
  const listed = (await tryList(session, service))?.find(({ protocol, externalPort }) =>
    protocol === key.protocol && externalPort === key.externalPort
  );
  return listed ?? entry;
}

/** The external address that a connection reports; `0.0.0.0` if it reports none. */
export async function externalIpOf(
  session: IgdSession,
  service: IgdService,
  isUrgent = false,
): Promise<string> {
  try {
    const outcome = await tryCall(session, service, getExternalIpAddress(), { isUrgent });
    return outcome.kind === "done" ? outcome.value : "0.0.0.0";
  } catch (error) {
    session.signal?.throwIfAborted();
    if (error instanceof PunchlineError) return "0.0.0.0";
    throw error;
  }
}

/** As {@linkcode readEntry}, but a device that fails does not say. */
export async function tryReadEntry(
  session: IgdSession,
  service: IgdService,
  options: { readonly key: PortMappingKey; readonly isUrgent?: boolean },
): Promise<PortMappingEntry | undefined | "unknown"> {
  try {
    return await readEntry(session, service, options);
  } catch (error) {
    session.signal?.throwIfAborted();
    if (error instanceof PunchlineError) return "unknown";
    throw error;
  }
}

/** All entries; `undefined` if the device does not list them. */
export async function tryList(
  session: IgdSession,
  service: IgdService,
): Promise<PortMappingEntry[] | undefined> {
  try {
    return await listEntries(session, service);
  } catch (error) {
    session.signal?.throwIfAborted();
    if (error instanceof PunchlineError) return undefined;
    throw error;
  }
}

/** Some devices answer with an empty entry in place of a fault. */
function isNoEntry({ internalClient, internalPort }: PortMappingEntry): boolean {
  return internalClient === "0.0.0.0" && internalPort === 0;
}

/** Chosen by us: an entry is read at once, or the device does not show it. */
const READ_TIMEOUT_MS = 3000;
