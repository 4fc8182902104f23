/**
 * A STUN server that answers as a test tells it to.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { readMessages } from "../../lib/stun/framing.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  type EncodeMessageOptions,
  type StunClass,
  type StunMessage,
} from "../../lib/stun/message.ts";

/** A request that arrived. */
export interface Arrived {
  readonly request: StunMessage;
  readonly bytes: Uint8Array;
  readonly from: TransportAddress;
  /** How many requests came before. */
  readonly index: number;
}

/** The messages to send back for a request, in order. */
export type Script = (arrived: Arrived) => readonly Uint8Array[];

/** A server that runs until disposed. */
export interface ScriptedServer extends Disposable {
  readonly address: TransportAddress;
  /** All requests so far. */
  readonly arrived: readonly Arrived[];
}

/** Answers datagrams. */
export async function scriptUdp(
  network: Network,
  local: TransportAddress,
  script: Script,
): Promise<ScriptedServer> {
  const socket = await network.bindUdp(local);
  const arrived: Arrived[] = [];
  untilClosed(async () => {
    while (true) {
      const { data, from } = await socket.receive();
      if (data[0]! >= 0x40) continue; // ChannelData, which has no answer
      const item = { request: decodeMessage(data), bytes: data, from, index: arrived.length };
      arrived.push(item);
      for (const answer of script(item)) await socket.send(answer, from);
    }
  });
  return { address: socket.local, arrived, [Symbol.dispose]: () => socket.close() };
}

/** Answers on connections; each is closed once its client finishes sending. */
export async function scriptTcp(
  network: Network,
  local: TransportAddress,
  script: Script,
): Promise<ScriptedServer> {
  const listener = await network.listenTcp(local);
  const arrived: Arrived[] = [];
  const serve = async (connection: TcpConnection) => {
    using _closing = connection;
    for await (const bytes of readMessages(connection)) {
      const request = decodeMessage(bytes);
      const item = { request, bytes, from: connection.remote, index: arrived.length };
      arrived.push(item);
      for (const answer of script(item)) await writeAll(connection, answer);
    }
  };
  untilClosed(async () => {
    while (true) {
      const connection = await listener.accept();
      untilClosed(() => serve(connection));
    }
  });
  return { address: listener.local, arrived, [Symbol.dispose]: () => listener.close() };
}

/** A success response with the address that the request came from. */
export function success(
  { request, from }: Arrived,
  options?: EncodeMessageOptions,
): Uint8Array {
  return respond(request, "success", [{ type: "XOR-MAPPED-ADDRESS", value: from }], options);
}

/** An error response. */
export function refusal(
  { request }: Arrived,
  code: number,
  attributes: readonly StunAttribute[] = [],
): Uint8Array {
  const errorCode: StunAttribute = { type: "ERROR-CODE", value: { code, reason: "as told" } };
  return respond(request, "error", [errorCode, ...attributes]);
}

/** A response to a request. */
export function respond(
  { transactionId }: StunMessage,
  kind: StunClass,
  attributes: readonly StunAttribute[],
  options?: EncodeMessageOptions,
): Uint8Array {
  return encodeMessage({ class: kind, method: BINDING, transactionId, attributes }, options);
}

function untilClosed(job: () => Promise<void>): void {
  job().catch((error) => {
    if (!(error instanceof NetworkError)) reportError(error);
  });
}
