/**
 * `map`: opens ports on the router, lists and closes open ports, and shows what the router supports.
 *
 * @module
 */

import { plainServer } from "../nat/servers.ts";
import { parseIp, parsePort } from "../net/address.ts";
import {
  deleteMappings,
  type GatewayMappings,
  type GatewayReport,
  listMappings,
  probeGateways,
  type ProtocolReport,
} from "../portmap/admin.ts";
import { mapPort } from "../portmap/map_port.ts";
import {
  type MapperName,
  type MappingAttempt,
  NoMappingError,
  PROTOCOL_NAMES,
} from "../portmap/mapper.ts";
import type { MappingEvent, PortMapping } from "../portmap/mapping.ts";
import type { MappingVerdict } from "../portmap/verdict.ts";
import { type Arguments, readCommand, readInteger, readSeconds, readWith } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { table } from "./layout.ts";
import { outputColumns, waitFor, waitOver } from "./screen.ts";

/**
 * Runs the command; returns its exit code.
 *
 * @throws {UsageError} if the command line is wrong
 * @throws {UnreachableError} if no gateway complies
 * @throws {NetworkError} if this host's network cannot be used
 */
export async function map(args: readonly string[], io: CliIo): Promise<number> {
  const [name = "", ...rest] = args;
  return await withAttempts(() => COMMANDS[name]!(rest, io), rest, io);
}

/** Prints what was tried, if no gateway complies. */
async function withAttempts<T>(
  run: () => Promise<T>,
  args: readonly string[],
  io: CliIo,
): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof NoMappingError && !args.includes("--json")) {
      for (const line of attemptsText(error.attempts, error.remedy)) io.err(line);
    }
    throw error;
  }
}

async function add(args: readonly string[], io: CliIo): Promise<number> {
  const given = readCommand("map add", args);
  const { flags, values } = given;
  const isJson = flags.has("json");
  const print = (event: MappingEvent) =>
    io.out(isJson ? JSON.stringify(event) : eventText(event, mapping?.verdict));
  let mapping: PortMapping | undefined = undefined;
  if (flags.has("keep")) {
    // Added before mapPort() adds a listener of its own, which would release the mapping.
    const leave = () => void mapping?.leave().catch(reportError);
    io.signal.addEventListener("abort", leave, { once: true });
  }
  waitFor(io, "Asking the router");
  const closing = () => waitFor(io, "Closing the port");
  if (!flags.has("keep")) io.signal.addEventListener("abort", closing, { once: true });
  mapping = await mapPort({
    ...readPort(given),
    externalPort: readInteger("external", values.get("external"), PORTS),
    lifetimeSeconds: readSeconds("lifetime", values.get("lifetime"), LIFETIMES),
    checkSeconds: readSeconds("check", values.get("check"), LIFETIMES),
    protocols: readProtocols(values.get("protocol")),
    gateway: readGateway(given),
    servers: readServers(given),
    signal: io.signal,
    logger: { debug() {}, info() {}, warn: (message) => io.err(`punchline: ${message}`) },
  });
  waitFor(io, flags.has("keep") ? "The port is open" : "The port is open, Ctrl-C closes it");
  for await (const event of mapping.events) print(event);
  return EXIT.interrupted;
}

async function list(args: readonly string[], io: CliIo): Promise<number> {
  const given = readCommand("map list", args);
  waitFor(io, "Asking the router");
  const gateways = await listMappings({ gateway: readGateway(given), signal: io.signal });
  waitOver(io);
  if (given.flags.has("json")) {
    io.out(JSON.stringify({ gateways }));
  } else {
    for (const line of tableText(gateways, outputColumns(io))) io.out(line);
  }
  return gateways.some(({ problem }) => problem === null) ? EXIT.ok : EXIT.failure;
}

async function remove(args: readonly string[], io: CliIo): Promise<number> {
  const given = readCommand("map delete", args);
  const gateway = readGateway(given);
  const { protocol, internalPort } = readPort(given);
  waitFor(io, "Asking the router");
  const deleted = await deleteMappings({
    protocol,
    port: internalPort,
    gateway,
    signal: io.signal,
  });
  waitOver(io);
  if (given.flags.has("json")) {
    io.out(JSON.stringify({ deleted }));
  } else {
    for (const { protocol, transport, external, gateway } of deleted) {
      const what = external === null ? "any mapping" : `external port ${external}`;
      io.out(
        `Deleted ${transport.toUpperCase()} ${internalPort}, ${what}, by ${protocol} on ${gateway}`,
      );
    }
  }
  return EXIT.ok;
}

async function probe(args: readonly string[], io: CliIo): Promise<number> {
  const given = readCommand("map probe", args);
  waitFor(io, "Asking the router");
  const gateways = await probeGateways({
    gateway: readGateway(given),
    servers: readServers(given),
    signal: io.signal,
  });
  waitOver(io);
  if (given.flags.has("json")) {
    const contract = gateways.map(({ address, pcp, natPmp, upnp, external, verdict }) => {
      return { address, pcp, natPmp, upnp, external, verdict };
    });
    io.out(JSON.stringify({ gateways: contract }));
  } else {
    for (const line of probeText(gateways, outputColumns(io))) io.out(line);
  }
  return gateways.some(({ verdict }) => verdict !== null) ? EXIT.ok : EXIT.failure;
}

function readPort({ operands }: Arguments): { protocol: "tcp" | "udp"; internalPort: number } {
  const [protocol = "", port = ""] = operands;
  if (protocol !== "tcp" && protocol !== "udp") {
    throw new UsageError(`the protocol must be tcp or udp, not ${JSON.stringify(protocol)}`);
  }
  return { protocol, internalPort: readWith(() => parsePort(port)) };
}

function readProtocols(text = "auto"): MapperName[] | undefined {
  if (text === "auto") return undefined;
  if (text === "pcp" || text === "nat-pmp" || text === "upnp") return [text];
  throw new UsageError(`--protocol takes auto, pcp, nat-pmp or upnp, not ${text}`);
}

function readGateway({ values }: Arguments): string | undefined {
  const text = values.get("gateway");
  return text === undefined ? undefined : readWith(() => parseIp(text), "--gateway");
}

function readServers({ lists }: Arguments): readonly string[] {
  const servers = lists.get("server")!.map((server) =>
    readWith(() => plainServer(server), "--server")
  );
  return servers;
}

/** Formats an event in the life of a mapping. */
export function eventText(event: MappingEvent, verdict?: MappingVerdict): string {
  const { external, internal, transport, lifetimeSeconds, gateway, reason } = event;
  const route = `${transport.toUpperCase()} ${external} to ${internal}`;
  const because = reason === undefined ? "" : `: ${reason}`;
  const life = lifetimeSeconds === null ? "permanently" : `for ${lifetimeSeconds} s`;
  switch (event.event) {
    case "mapped": {
      const by = `by ${PROTOCOL_NAMES[event.protocol]} on ${gateway}`;
      const worth = verdict === undefined ? event.verdict : `${verdict.kind}: ${verdict.evidence}`;
      const remedy = verdict?.remedy === undefined ? "" : `\n  ${verdict.remedy}`;
      return `Mapped ${route} ${by}, ${life}\n  ${worth}${remedy}`;
    }
    case "renewed":
      return `Renewed ${route}, ${life}`;
    case "changed":
      return `Changed to ${route}${because}`;
    case "lost":
      return `Lost ${route}${because}; requesting it again`;
    case "released":
      return `Released ${route}${because}`;
  }
}

/**
 * Formats the failed attempts: each reason once, with the protocols and gateways that it is about, and each remedy once.
 *
 * @param saidLater the remedy that is printed below them
 */
export function attemptsText(
  attempts: readonly MappingAttempt[],
  saidLater: string | undefined,
): string[] {
  const said = new Set([saidLater]);
  const groups = Map.groupBy(attempts, ({ reason, remedy }) => `${why(reason)}\n${remedy}`);
  return Array.from(groups.values(), (group) => {
    const [{ reason, remedy }] = group as [MappingAttempt];
    const advice = said.has(remedy) ? "" : `. ${remedy}`;
    said.add(remedy);
    const protocols = enumerated(group.map(({ strategy }) => PROTOCOL_NAMES[strategy]));
    const gateways = enumerated(group.map(({ remote }) => remote));
    return `  ${protocols} at ${gateways}: ${why(reason)}${advice}`;
  });
}

/** Without what failed, which the line begins with, and without the address of a permission, which its flag covers. */
function why(reason: string): string {
  return reason.replace(/^Cannot .*?: (?=\D)/, "").replace(
    / to \S+ is not granted/,
    " is not granted",
  );
}

function enumerated(words: readonly string[]): string {
  const [last, ...others] = [...new Set(words)].reverse();
  return others.length === 0 ? last! : `${others.reverse().join(", ")} and ${last}`;
}

/** Formats the gateways' mapping tables, for a terminal that is so wide. */
export function tableText(gateways: readonly GatewayMappings[], columns?: number): string[] {
  return gateways.flatMap(({ address, mappings, problem }) => {
    if (problem !== null) return [`${address} lists no mappings: ${problem}`];
    if (mappings.length === 0) return [`${address} has no mappings`];
    const rows = mappings.map((mapping) => [
      mapping.transport.toUpperCase(),
      `${mapping.externalPort}`,
      mapping.internal,
      mapping.leaseSeconds === 0 ? "permanent" : `${mapping.leaseSeconds} s`,
      mapping.description,
    ]);
    if (columns !== undefined && columns < TABLE_COLUMNS) {
      return [`${address}:`, ...rows.flatMap(narrowRow)];
    }
    return [`${address}:`, ...table([HEADINGS, ...rows], { columns })];
  });
}

/** A mapping where a table would be too narrow. */
function narrowRow([transport, external, internal, lease, description]: string[]): string[] {
  return [`  ${transport} ${external} to ${internal}, ${lease}`, `    ${description}`];
}

/** Formats what each gateway supports, for a terminal that is so wide. */
export function probeText(gateways: readonly GatewayReport[], columns?: number): string[] {
  if (gateways.length === 0) return ["No gateway answered; use --gateway to name the router"];
  return gateways.flatMap(({ address, pcp, natPmp, upnp, external, verdict, detail }) => [
    `${address}${external === null ? "" : `, external address ${external}`}`,
    ...table([
      protocolRow("PCP", pcp),
      ...natPmp === null ? [] : [protocolRow("NAT-PMP", natPmp)],
      protocolRow("UPnP", upnp),
    ], { columns, gap: 1 }),
    `  ${verdict ?? "no mappings"}: ${detail}`,
  ]);
}

function protocolRow(name: string, { answer, detail }: ProtocolReport): string[] {
  return [name.padEnd(8), answer.padEnd(10), detail];
}

const HEADINGS = ["PROTO", "EXTERNAL", "INTERNAL", "LEASE", "DESCRIPTION"];

const COMMANDS: Readonly<
  Record<string, (args: readonly string[], io: CliIo) => Promise<number>>
> = { add, list, delete: remove, probe };

/** Chosen by us: the table without its descriptions has 48. */
const TABLE_COLUMNS = 64;

const PORTS = { min: 1, max: 65_535 };
const LIFETIMES = { min: 1, max: 0xffff_ffff };
