/**
 * A TURN server that answers as a test tells it to, 20 ms away from its client, in virtual time.
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

/** The hosts of a test. */
export interface TurnHosts {
  readonly internet: Internet;
  readonly time: VirtualTime;
  readonly client: Network;
  readonly server: Host;
  /** The address for the server to listen on. */
  readonly at: TransportAddress;
}

/** Runs a test with a client and a host for a server. */
export async function withTurnHosts(test: (hosts: TurnHosts) => Promise<void>): Promise<void> {
  await simulate(async ({ internet, time }) => {
    const client = internet.host("client", { link: { delayMs: 10 } }).network;
    const server = internet.host("server", { link: { delayMs: 10 } });
    await test({ internet, time, client, server, at: { ip: server.addresses[0]!, port: 3478 } });
    await delay(50); // until the server has noticed that the client is gone
  });
}

/** A success response with the method of the request. */
export function grant(
  { request }: Arrived,
  attributes: readonly StunAttribute[] = [],
  options?: EncodeMessageOptions,
): Uint8Array {
  const { method, transactionId } = request;
  return encodeMessage({ class: "success", method, transactionId, attributes }, options);
}

/** An error response with the method of the request. */
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

/** A success response to any request; allocations last ten minutes. */
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

/** The attributes that an Allocate response must have. */
export const GRANTED: readonly StunAttribute[] = [
  { type: "XOR-RELAYED-ADDRESS", value: { ip: "198.51.100.77", port: 50000 } },
  { type: "XOR-MAPPED-ADDRESS", value: { ip: "198.51.100.1", port: 40000 } },
  { type: "LIFETIME", value: 600 },
];
