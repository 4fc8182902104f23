/**
 * Which of a device's connections leads out.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { ipFamily, ipScope } from "../net/address.ts";
import type { IgdService } from "./igd_services.ts";
import { getExternalIpAddress, getStatusInfo, type IgdAction } from "./upnp/actions.ts";
import { type IgdSession, tryCall } from "./upnp/session.ts";

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
