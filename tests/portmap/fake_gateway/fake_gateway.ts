/**
 * A gateway that speaks PCP and NAT-PMP as the RFCs say, or does whatever a test has it do; over any network.
 *
 * @module
 */

import { NetworkError } from "../../../lib/base/errors.ts";
import type { TransportAddress } from "../../../lib/net/address.ts";
import type { Network, UdpSocket } from "../../../lib/net/network.ts";
import { type LifetimeLimits, MappingTable } from "./mapping_table.ts";
import { announceNatPmp, answerNatPmp, refuseVersion } from "./nat_pmp_service.ts";
import { announcePcp, answerPcp, type PcpServiceOptions } from "./pcp_service.ts";

/** How it behaves. */
export interface FakeGatewayOptions extends Partial<PcpServiceOptions> {
  /** Both unless given; with neither it is silent. */
  readonly speaks?: readonly ("pcp" | "nat-pmp")[];
  /** What it makes of lifetimes; it grants any unless given. */
  readonly lifetimes?: LifetimeLimits;
  /** What to do with a request; the usual, if it returns `undefined`. */
  readonly script?: Script;
}

/** Decides what comes back for a request. */
export type Script = (arrived: Arrived) => readonly Reply[] | undefined;

/** A request that arrived. */
export interface Arrived {
  readonly data: Uint8Array;
  readonly from: TransportAddress;
  /** How many came before. */
  readonly index: number;
  /** What the gateway would answer. */
  readonly usual: () => readonly Reply[];
}

/** What to send back. */
export interface Reply {
  readonly data: Uint8Array;
  /** How much later; 0 unless given. */
  readonly delayMs?: number;
  /** From another port of the gateway than was asked. */
  readonly fromElsewhere?: boolean;
}

/** A gateway that runs until it is disposed. */
export class FakeGateway implements Disposable {
  /** Its mappings. */
  readonly table: MappingTable;
  /** All that arrived so far. */
  readonly arrived: Arrived[] = [];
  /** May be changed at any time. */
  externalIp: string;
  /** May be changed at any time. */
  script: Script | undefined;
  readonly #options: FakeGatewayOptions;
  readonly #socket: UdpSocket;
  readonly #elsewhere: UdpSocket;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  private constructor(socket: UdpSocket, elsewhere: UdpSocket, options: FakeGatewayOptions) {
    this.#socket = socket;
    this.#elsewhere = elsewhere;
    this.#options = options;
    this.externalIp = options.externalIp ?? "203.0.113.7";
    this.script = options.script;
    this.table = new MappingTable(options.lifetimes ?? { minSeconds: 0, maxSeconds: Infinity });
    this.#serve().catch((error) => {
      if (!(error instanceof NetworkError)) reportError(error);
    });
  }

  /**
   * Starts one.
   *
   * @param local its address and port on the link, 5351 where hosts do not choose
   */
  static async start(
    network: Network,
    local: TransportAddress,
    options: FakeGatewayOptions = {},
  ): Promise<FakeGateway> {
    const socket = await network.bindUdp(local);
    return new FakeGateway(socket, await network.bindUdp({ ip: local.ip, port: 0 }), options);
  }

  /** Where it serves. */
  get address(): TransportAddress {
    return this.#socket.local;
  }

  /** Announces by both protocols, as after a restart: RFC 6886 §3.2.1, RFC 6887 §14.1.3. */
  async announce(to: TransportAddress): Promise<void> {
    await this.#socket.send(announceNatPmp(this.table, this), to);
    await this.#socket.send(announcePcp(this.table), to);
  }

  /** Sends anything to anybody. */
  async send(reply: Reply, to: TransportAddress): Promise<void> {
    const socket = reply.fromElsewhere ? this.#elsewhere : this.#socket;
    await socket.send(reply.data, to);
  }

  /** Stops; replies that are due later are not sent. */
  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#socket.close();
    this.#elsewhere.close();
  }

  async #serve(): Promise<void> {
    while (true) {
      const { data, from } = await this.#socket.receive();
      const usual = () => this.#usual(data, from);
      const arrived = { data, from, index: this.arrived.length, usual };
      this.arrived.push(arrived);
      for (const reply of this.script?.(arrived) ?? usual()) this.#reply(reply, from);
    }
  }

  #reply(reply: Reply, to: TransportAddress): void {
    const send = () => {
      this.send(reply, to).catch((error) => {
        if (!(error instanceof NetworkError)) reportError(error);
      });
    };
    if (reply.delayMs === undefined) return send();
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      send();
    }, reply.delayMs);
    this.#timers.add(timer);
  }

  #usual(data: Uint8Array, from: TransportAddress): Reply[] {
    const { speaks = ["pcp", "nat-pmp"] } = this.#options;
    const options = { ...this.#options, externalIp: this.externalIp };
    const isNatPmp = data[0] === 0;
    if (speaks.length === 0) return [];
    if (isNatPmp && speaks.includes("nat-pmp")) {
      return [{ data: answerNatPmp(data, from, this.table, options) }];
    }
    if (!speaks.includes("pcp")) return [{ data: refuseVersion(data, this.table) }];
    // A NAT-PMP request is too short for PCP: RFC 6887 §9 has it answered all the same.
    const answer = isNatPmp
      ? Uint8Array.of(2, 0x80 | data[1]!, 0, 1, ...new Uint8Array(20))
      : answerPcp(data, from, this.table, options);
    return [{ data: answer }];
  }
}
