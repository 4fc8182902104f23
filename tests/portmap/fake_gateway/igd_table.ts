/**
 * The actions of a fake gateway: WANIPConnection and WANIPv6FirewallControl by their specifications.
 *
 * @module
 */

import type { HttpReply } from "./http_server.ts";
import { answerXml, faultXml } from "./igd_xml.ts";

/** A call of an action. */
export interface SoapCall {
  readonly serviceType: string;
  readonly action: string;
  /** The path that was called. */
  readonly target: string;
  /** The arguments in the order in which they were sent. */
  readonly values: Readonly<Record<string, string>>;
  /** The caller's address. */
  readonly from: string;
  /** How many calls of this action came before. */
  readonly index: number;
}

/** A mapping. */
export interface FakeEntry {
  readonly protocol: "TCP" | "UDP";
  readonly externalPort: number;
  readonly internalClient: string;
  readonly internalPort: number;
  readonly description: string;
  readonly leaseSeconds: number;
}

/** Mappings and pinholes. They never expire. */
export class IgdTable {
  readonly entries: FakeEntry[] = [];
  readonly pinholes = new Map<number, Readonly<Record<string, string>>>();
  externalIp = "44.0.0.7";
  status = "Connected";
  #lastPinhole = 0;

  /** The answer to a call. */
  answer(call: SoapCall): HttpReply {
    const { serviceType, action } = call;
    const act = ACTIONS[action];
    if (act === undefined) return faultXml(401, "Invalid Action");
    const result = act(this, call.values, call);
    return typeof result === "number" ? faultXml(result) : answerXml(serviceType, action, result);
  }

  /** The index of a mapping; -1 if there is none. */
  indexOf(protocol = "", externalPort = ""): number {
    return this.entries.findIndex((entry) =>
      entry.protocol === protocol && entry.externalPort === Number(externalPort)
    );
  }

  /** Adds a mapping, or replaces the one on the same port. */
  put(entry: FakeEntry): void {
    const index = this.indexOf(entry.protocol, `${entry.externalPort}`);
    this.entries.splice(index === -1 ? this.entries.length : index, 1, entry);
  }

  /** A number that no pinhole had. */
  nextPinhole(): number {
    return ++this.#lastPinhole;
  }
}

/** Out arguments, or the code of a fault. */
type Result = Readonly<Record<string, string | number>> | number;
type Values = Readonly<Record<string, string>>;

const ACTIONS: Readonly<
  Record<string, (table: IgdTable, values: Values, call: SoapCall) => Result>
> = {
  AddPortMapping(table, values) {
    const entry = entryOf(values);
    const present = table.entries[table.indexOf(entry.protocol, values.NewExternalPort)];
    if (present !== undefined && present.internalClient !== entry.internalClient) return 718;
    table.put(entry);
    return {};
  },
  AddAnyPortMapping(table, values, { serviceType }) {
    if (!serviceType.endsWith(":2")) return 401;
    let externalPort = Number(values.NewExternalPort);
    while (table.indexOf(values.NewProtocol, `${externalPort}`) !== -1) externalPort++;
    table.put({ ...entryOf(values), externalPort });
    return { NewReservedPort: externalPort };
  },
  DeletePortMapping(table, values) {
    const index = table.indexOf(values.NewProtocol, values.NewExternalPort);
    if (index === -1) return 714;
    table.entries.splice(index, 1);
    return {};
  },
  GetSpecificPortMappingEntry(table, values) {
    const entry = table.entries[table.indexOf(values.NewProtocol, values.NewExternalPort)];
    return entry === undefined ? 714 : targetXml(entry);
  },
  GetGenericPortMappingEntry(table, values) {
    const entry = table.entries[Number(values.NewPortMappingIndex)];
    if (entry === undefined) return 713;
    const { protocol, externalPort } = entry;
    return {
      NewRemoteHost: "",
      NewExternalPort: externalPort,
      NewProtocol: protocol,
      ...targetXml(entry),
    };
  },
  GetExternalIPAddress: ({ externalIp }) => ({ NewExternalIPAddress: externalIp }),
  GetStatusInfo: ({ status }) => ({
    NewConnectionStatus: status,
    NewLastConnectionError: "ERROR_NONE",
    NewUptime: 1000,
  }),
  GetFirewallStatus: () => ({ FirewallEnabled: 1, InboundPinholeAllowed: 1 }),
  AddPinhole(table, values, { from }) {
    if (values.InternalClient !== from) return 606;
    const uniqueId = table.nextPinhole();
    table.pinholes.set(uniqueId, values);
    return { UniqueID: uniqueId };
  },
  UpdatePinhole(table, values) {
    const pinhole = table.pinholes.get(Number(values.UniqueID));
    if (pinhole === undefined) return 704;
    table.pinholes.set(Number(values.UniqueID), { ...pinhole, LeaseTime: values.NewLeaseTime! });
    return {};
  },
  DeletePinhole: (table, values) => table.pinholes.delete(Number(values.UniqueID)) ? {} : 704,
  CheckPinholeWorking: (table, values) =>
    table.pinholes.has(Number(values.UniqueID)) ? { IsWorking: 1 } : 704,
};

function entryOf(values: Values): FakeEntry {
  return {
    protocol: values.NewProtocol as "TCP" | "UDP",
    externalPort: Number(values.NewExternalPort),
    internalClient: values.NewInternalClient ?? "",
    internalPort: Number(values.NewInternalPort),
    description: values.NewPortMappingDescription ?? "",
    leaseSeconds: Number(values.NewLeaseDuration),
  };
}

function targetXml(entry: FakeEntry): Record<string, string | number> {
  return {
    NewInternalPort: entry.internalPort,
    NewInternalClient: entry.internalClient,
    NewEnabled: 1,
    NewPortMappingDescription: entry.description.replaceAll("&", "&amp;").replaceAll("<", "&lt;"),
    NewLeaseDuration: entry.leaseSeconds,
  };
}
