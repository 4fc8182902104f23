/**
 * A TURN server that says what a test wants it to say, 20 ms away from its client, in virtual time.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import type { Network } from "../../lib/net/network.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { encodeMessage, type EncodeMessageOptions } from "../../lib/stun/message.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { ALLOCATE, DATA } from "../../lib/turn/protocol.ts";
import type { Internet } from "../simnet/internet.ts";
import type { Host } from "../simnet/host.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";
import type { Arrived } from "../stun/scripted_server.ts";

/** What a test finds. */
export interface TurnHosts {
  readonly internet: Internet;
  readonly time: VirtualTime;
  readonly client: Network;
  readonly server: Host;
  /** Where the server is to listen. */
  readonly at: TransportAddress;
}

/** Runs a test between a client and a host for a server. */
export async function withTurnHosts(test: (hosts: TurnHosts) => Promise<void>): Promise<void> {
  await simulate(async ({ internet, time }) => {
    const client = internet.host("client", { link: { delayMs: 10 } }).network;
    const server = internet.host("server", { link: { delayMs: 10 } });
    await test({ internet, time, client, server, at: { ip: server.addresses[0]!, port: 3478 } });
    await delay(50); // the server hears that the client has gone
  });
}

/** A success of the method that was asked for. */
export function grant(
  { request }: Arrived,
  attributes: readonly StunAttribute[] = [],
  options?: EncodeMessageOptions,
): Uint8Array {
  const { method, transactionId } = request;
  return encodeMessage({ class: "success", method, transactionId, attributes }, options);
}

/** An error of the method that was asked for. */
export function deny(
  { request }: Arrived,
  code: number,
  attributes: readonly StunAttribute[] = [],
): Uint8Array {
  const { method, transactionId } = request;
  const value = { code, reason: "as told" };
  return encodeMessage({
    class: "error",
    method,
    transactionId,
    attributes: [{ type: "ERROR-CODE", value }, ...attributes],
  });
}

/** Grants everything; allocations for ten minutes. */
export function grantAll(arrived: Arrived, options?: EncodeMessageOptions): Uint8Array {
  const isAllocate = arrived.request.method === ALLOCATE;
  return grant(arrived, isAllocate ? GRANTED : [], options);
}

/** A datagram from a peer. */
export function dataFrom(peer: TransportAddress, data: Uint8Array): Uint8Array {
  return encodeMessage({
    class: "indication",
    method: DATA,
    transactionId: new Uint8Array(12),
    attributes: [{ type: "XOR-PEER-ADDRESS", value: peer }, { type: "DATA", value: data }],
  });
}

/** What an allocation has to have. */
export const GRANTED: readonly StunAttribute[] = [
  { type: "XOR-RELAYED-ADDRESS", value: { ip: "198.51.100.77", port: 50000 } },
  { type: "XOR-MAPPED-ADDRESS", value: { ip: "198.51.100.1", port: 40000 } },
  { type: "LIFETIME", value: 600 },
];
