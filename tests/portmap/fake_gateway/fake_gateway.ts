/**
 * A gateway on any network that speaks PCP and NAT-PMP by the RFCs, or misbehaves as a test demands.
 *
 * @module
 */

import { NetworkError } from "../../../lib/base/errors.ts";
import type { TransportAddress } from "../../../lib/net/address.ts";
import type { Network, UdpSocket } from "../../../lib/net/network.ts";
import { type LifetimeLimits, MappingTable } from "./mapping_table.ts";
import { announceNatPmp, answerNatPmp, refuseVersion } from "./nat_pmp_service.ts";
import { announcePcp, answerPcp, type PcpServiceOptions } from "./pcp_service.ts";

/** How the gateway behaves. */
export interface FakeGatewayOptions extends Partial<PcpServiceOptions> {
  /** The protocols that it speaks: both by default. Without any it is silent. */
  readonly speaks?: readonly ("pcp" | "nat-pmp")[];
  /** The lifetimes that it grants; any by default. */
  readonly lifetimes?: LifetimeLimits;
  /** What to answer to a request; `undefined` stands for the usual answer. */
  readonly script?: Script;
}

/** Decides what to answer to a request. */
export type Script = (arrived: Arrived) => readonly Reply[] | undefined;

/** A request that arrived. */
export interface Arrived {
  readonly data: Uint8Array;
  readonly from: TransportAddress;
  /** How many requests arrived before it. */
  readonly index: number;
  /** The usual answer. */
  readonly usual: () => readonly Reply[];
}

/** A datagram to send back. */
export interface Reply {
  readonly data: Uint8Array;
  /** How much later to send it; 0 by default. */
  readonly delayMs?: number;
  /** Whether to send it from another port than the one that was asked. */
  readonly fromElsewhere?: boolean;
}

/** A gateway that runs until it is disposed. */
export class FakeGateway implements Disposable {
  /** Its mappings. */
  readonly table: MappingTable;
  /** All requests so far. */
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
   * Starts a gateway.
   *
   * @param local its address on the link, and its port, which is 5351 for hosts that use the default
   */
  static async start(
    network: Network,
    local: TransportAddress,
    options: FakeGatewayOptions = {},
  ): Promise<FakeGateway> {
    const socket = await network.bindUdp(local);
    return new FakeGateway(socket, await network.bindUdp({ ip: local.ip, port: 0 }), options);
  }

  /** The address at which it serves. */
  get address(): TransportAddress {
    return this.#socket.local;
  }

  /** Announces by both protocols, as after a restart: RFC 6886 §3.2.1, RFC 6887 §14.1.3. */
  async announce(to: TransportAddress): Promise<void> {
    await this.#socket.send(announceNatPmp(this.table, this), to);
    await this.#socket.send(announcePcp(this.table), to);
  }

  /** Sends any datagram to any address. */
  async send(reply: Reply, to: TransportAddress): Promise<void> {
    const socket = reply.fromElsewhere ? this.#elsewhere : this.#socket;
    await socket.send(reply.data, to);
  }

  /** Stops. Replies that are not due yet are dropped. */
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
    // A NAT-PMP request is too short for PCP. RFC 6887 §9 demands an answer nevertheless.
    const answer = isNatPmp
      ? Uint8Array.of(2, 0x80 | data[1]!, 0, 1, ...new Uint8Array(20))
      : answerPcp(data, from, this.table, options);
    return [{ data: answer }];
  }
}
