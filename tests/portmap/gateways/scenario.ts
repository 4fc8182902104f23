/**
 * Gateways with a fault, and what `mapPort()` makes of each.
 *
 * A scenario is data and small functions, so that the same ones run in virtual time and, as programs, in network
 * namespaces.
 *
 * @module
 */

import type { Network } from "../../../lib/net/network.ts";
import type { MapPortOptions } from "../../../lib/portmap/map_port.ts";
import { FakeGateway, type FakeGatewayOptions } from "../fake_gateway/fake_gateway.ts";
import { FakeIgd, type FakeIgdOptions } from "../fake_gateway/fake_igd.ts";
import type { HttpCall, HttpReply } from "../fake_gateway/http_server.ts";
import { type FakeEntry, IgdTable } from "../fake_gateway/igd_table.ts";

/** One gateway, and what is right. */
export interface GatewayScenario {
  readonly name: string;
  /** What the gateway does, in words that follow "a gateway". */
  readonly does: string;
  /** How it speaks UPnP; not at all if left out. */
  readonly igd?: (made: Made) => FakeIgdOptions;
  /** How it speaks PCP and NAT-PMP; not at all if left out. */
  readonly udp?: FakeGatewayOptions;
  /** What is in its table before. */
  readonly stood?: readonly FakeEntry[];
  /** How it is asked; by UPnP alone by default. */
  readonly options?: Partial<MapPortOptions>;
  /** What is right: the port is open, or an error that matches, in its message or its attempts. */
  readonly right: RightMapping | RegExp;
  /** Whether the port may change when the router restarts: its table shows the port as taken then. */
  readonly movesAfterRestart?: boolean;
  /** How long `mapPort()` may take; 1000 ms by default. */
  readonly limitMs?: number;
}

/** What is right about a mapping. */
export interface RightMapping {
  /** Where the internet reaches it; any port is `*`. `44.0.0.7:8080` by default. */
  readonly external?: string;
  /** Matches the verdict's evidence. */
  readonly evidence?: RegExp;
  /** Whether the gateway needs no time to forget: renewals do not change what stands in the table. */
  readonly description?: RegExp;
}

/** What the parts of a gateway share. */
export interface Made {
  /** The tables of its connections, by the path of their control URL. */
  tableOf(target: string): IgdTable;
  /** The table of the usual connection. */
  readonly table: IgdTable;
}

/** A running gateway. */
export class ScenarioGateway implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #tables = new Map<string, IgdTable>();
  #udp: FakeGateway | undefined;
  #igd: FakeIgd | undefined;

  /** Starts a gateway at an address of the network's host. */
  static async start(
    network: Network,
    ip: string,
    scenario: GatewayScenario,
  ): Promise<ScenarioGateway> {
    const gateway = new ScenarioGateway();
    const { udp, igd, stood = [] } = scenario;
    gateway.#udp = gateway.#stack.use(
      await FakeGateway.start(network, { ip, port: 5351 }, udp ?? { speaks: [] }),
    );
    if (igd !== undefined) {
      const made: Made = {
        tableOf: (target) => gateway.#tableOf(target),
        get table() {
          return gateway.#tableOf(USUAL);
        },
      };
      const options = igd(made);
      gateway.#igd = gateway.#stack.use(
        await FakeIgd.start(network, ip, {
          ...options,
          onSoap: (call) => {
            const own = () => made.tableOf(call.target).answer(call);
            const reply = options.onSoap?.(call, own);
            return reply ?? own();
          },
        }),
      );
      for (const entry of stood) made.table.put(entry);
    }
    return gateway;
  }

  /** The UPnP device. */
  get igd(): FakeIgd | undefined {
    return this.#igd;
  }

  /** Everything that is open, as `tcp 8080 to 192.168.1.2:8080`. */
  open(): string[] {
    const byUpnp = [...this.#tables.values()].flatMap(({ entries }) => entries).map((entry) =>
      `${entry.protocol.toLowerCase()} ${entry.externalPort} to ${entry.internalClient}:${entry.internalPort}`
    );
    const byUdp = this.#udp!.table.entries.map(({ protocol, externalPort, internal }) =>
      `${protocol} ${externalPort} to ${internal.ip}:${internal.port}`
    );
    return [...byUpnp, ...byUdp].sort();
  }

  /** Everything that is open, with descriptions. */
  entries(): FakeEntry[] {
    return [...this.#tables.values()].flatMap(({ entries }) => entries);
  }

  /** As after a power cut. */
  restart(): void {
    for (const table of this.#tables.values()) table.entries.splice(0);
    this.#udp!.table.restart();
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }

  #tableOf(target: string): IgdTable {
    const known = this.#tables.get(target);
    if (known !== undefined) return known;
    const table = new IgdTable();
    this.#tables.set(target, table);
    return table;
  }
}

/** An entry of another host, on the port that the tests ask for unless it is another. */
export function othersEntry(over: Partial<FakeEntry> = {}): FakeEntry {
  return {
    protocol: "TCP",
    externalPort: 8080,
    internalClient: "192.168.1.77",
    internalPort: 8080,
    description: "camera",
    leaseSeconds: 0,
    ...over,
  };
}

/** A response that goes out as these pieces, after which the connection ends as it says. */
export function rawReply(
  pieces: Iterable<string | Uint8Array>,
  end: "close" | "reset" | "stay" = "close",
): HttpReply {
  return { kind: "raw", pieces, end };
}

/** Sends every response with a head of its own making. */
export function withHead(
  head: (reply: Extract<HttpReply, { kind: "response" }>) => string,
  end: "close" | "stay" = "close",
): NonNullable<FakeIgdOptions["frame"]> {
  return (reply) =>
    reply.kind === "response" ? { ...rawReply([head(reply), reply.body], end) } : reply;
}

/** Changes the response to GETs alone. */
export function descriptionAs(
  change: (reply: HttpReply, call: HttpCall) => HttpReply,
): NonNullable<FakeIgdOptions["frame"]> {
  return (reply, call) => call.method === "GET" ? change(reply, call) : reply;
}

/** The text of a response. */
export function bodyOf(reply: HttpReply): string {
  return reply.kind === "response" && typeof reply.body === "string" ? reply.body : "";
}

/** The path of the usual connection. */
export const USUAL = "/ctl/IPConn";
