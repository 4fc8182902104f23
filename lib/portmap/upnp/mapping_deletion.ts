/**
 * Deleting a UPnP port mapping, and verifying that it is gone.
 *
 * @module
 */

import { optionalResolvers, TaskGroup } from "../../base/tasks.ts";
import { MappingRefusedError, type MappingRequest } from "../mapper.ts";
import { deletePortMapping, type PortMappingKey } from "./actions.ts";
import type { IgdService } from "./device.ts";
import { type IgdFailure, meansNoEntry } from "./faults.ts";
import { mayLeadHere } from "./mapping_engine.ts";
import { findEntry, tryReadEntry } from "./mapping_table.ts";
import { failureOf, igdRefusal, type IgdSession, tryCall } from "./session.ts";
import { delay } from "@std/async/delay";

/** What to delete, and where it is supposed to be. */
export interface ClosedMapping {
  readonly key: PortMappingKey;
  /** Where it leads, so that no other host's mapping is deleted; left out to delete any. */
  readonly target?: Pick<MappingRequest, "internal" | "protocol">;
  /** The start of error messages. */
  readonly action: string;
}

/**
 * Deletes a mapping, and verifies that it is gone. A mapping that is not there, or that another host has by now, is not an
 * error.
 *
 * @param services the one that granted it comes first
 * @throws {MappingRefusedError} if it stays there
 */
export async function unmapIgdPort(
  session: IgdSession,
  services: readonly IgdService[],
  closed: ClosedMapping,
): Promise<void> {
  const { key, target, action } = closed;
  const holders = await holdersOf(session, services, { key, target });
  for (const service of holders) await deleteEntry(session, service, { key, target, action });
}

/** Deletes an entry, and looks whether it is gone: some devices confirm what they do not do, or do not confirm it. */
export async function deleteEntry(
  session: IgdSession,
  service: IgdService,
  { key, target, action, isUrgent }: ClosedMapping & { readonly isUrgent?: boolean },
): Promise<void> {
  for (let tries = 1;; tries++) {
    const failure = await deleteOrLook(session, service, { key, isUrgent });
    if (failure === "gone") return;
    const entry = await tryReadEntry(session, service, { key, isUrgent });
    if (entry === undefined) return;
    const isConfirmed = failure === undefined || meansNoEntry(failure);
    if (entry === "unknown" && isConfirmed) return;
    const isOthers = entry !== "unknown" && target !== undefined && !mayLeadHere(entry, target);
    if (isOthers) return;
    if (tries < MAX_DELETES && failure?.kind !== "fault") {
      await delay(DELETE_PAUSE_MS, { signal: session.signal });
      continue;
    }
    throw failure === undefined
      ? new MappingRefusedError(`${action}: gateway ${session.gateway} keeps it in its table`, {
        mapper: "upnp",
        code: 0,
        reason: "it stays in the table",
        remedy: "Delete the mapping in the router",
      })
      : igdRefusal(failure, action, session.gateway);
  }
}

/** The service that has the mapping; the first one if it does not show its table. */
async function holdersOf(
  session: IgdSession,
  services: readonly IgdService[],
  { key, target }: Pick<ClosedMapping, "key" | "target">,
): Promise<readonly IgdService[]> {
  for (const [index, service] of services.entries()) {
    const shown = await tryReadEntry(session, service, { key });
    const entry = await findEntry(session, service, { key, target, entry: shown });
    const isOurs = entry === "unknown"
      ? index === 0
      : entry !== undefined && (target === undefined || mayLeadHere(entry, target));
    if (isOurs) return [service];
  }
  return [];
}

/** The answer to a deletion, or `"gone"` as soon as the entry is, although the deletion has not been answered. */
async function deleteOrLook(
  session: IgdSession,
  service: IgdService,
  { key, isUrgent }: { readonly key: PortMappingKey; readonly isUrgent?: boolean },
): Promise<IgdFailure | "gone" | undefined> {
  const first = optionalResolvers<IgdFailure | "gone" | undefined>();
  await using jobs = new TaskGroup(first.reject);
  const job = (run: (session: IgdSession) => Promise<void>) =>
    jobs.run((over) => {
      const { signal } = session;
      return run({ ...session, signal: signal ? AbortSignal.any([signal, over]) : over });
    });
  job(async (session) => first.resolve(await tryDelete(session, service, { key, isUrgent })));
  job(async (session) => {
    while (true) {
      await delay(DELETE_SILENCE_MS, { signal: session.signal });
      const entry = await tryReadEntry(session, service, { key, isUrgent: true });
      if (entry === undefined) return first.resolve("gone");
    }
  });
  return await first.promise;
}

async function tryDelete(
  session: IgdSession,
  service: IgdService,
  { key, isUrgent }: { readonly key: PortMappingKey; readonly isUrgent?: boolean },
): Promise<IgdFailure | undefined> {
  try {
    const outcome = await tryCall(session, service, deletePortMapping(key), { isUrgent });
    return outcome.kind === "done" ? undefined : outcome;
  } catch (error) {
    session.signal?.throwIfAborted();
    const failure = failureOf(error);
    if (failure === undefined) throw error;
    return failure;
  }
}

/** Chosen by us: devices answer within a second, and the program may be ending. */
const DELETE_SILENCE_MS = 2000;

/** Chosen by us: a device that does not delete a mapping twice never will. */
const MAX_DELETES = 2;
const DELETE_PAUSE_MS = 200;
