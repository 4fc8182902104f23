/**
 * A STUN server with two addresses that misbehaves in chosen ways. UDP only.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { sameTransportAddress, type TransportAddress } from "../../lib/net/address.ts";
import type { Network, UdpSocket } from "../../lib/net/network.ts";
import { BINDING, decodeMessage, encodeMessage, getAttribute } from "../../lib/stun/message.ts";

/** How the server misbehaves. What is not named here it does correctly. */
export interface Lies {
  /** The OTHER-ADDRESS that it reports; `undefined` for none. */
  readonly other?: (honest: TransportAddress, index: number) => TransportAddress | undefined;
  /** The mapped address that it reports. */
  readonly mapped?: (from: TransportAddress, index: number) => TransportAddress;
  /** How it treats CHANGE-REQUEST. */
  readonly change?: "ignored" | "dropped" | "refused";
  /** Always answers to the source of the request. */
  readonly ignoresResponsePort?: boolean;
  /** Answers with this instead of STUN. */
  readonly nonStun?: string;
  /** Answers everything with this error. */
  readonly errorCode?: number;
}

/** Serves until it is disposed. */
export async function serveLies(
  network: Network,
  ips: readonly [string, string],
  lies: Lies,
): Promise<Disposable> {
  const stack = new DisposableStack();
  const sockets: UdpSocket[] = [];
  for (const ip of ips) {
    for (const port of PORTS) sockets.push(stack.use(await network.bindUdp({ ip, port })));
  }
  let answers = 0;
  for (const socket of sockets) serve(socket);
  return stack;

  async function serve(socket: UdpSocket): Promise<void> {
    try {
      for (;;) {
        const { data, from } = await socket.receive();
        const answer = answerTo(data, from, socket.local, answers++);
        if (answer !== undefined) await socketAt(answer.from).send(answer.data, answer.to);
      }
    } catch (error) {
      if (!(error instanceof NetworkError && error.reason === "closed")) throw error;
    }
  }

  function answerTo(
    data: Uint8Array,
    from: TransportAddress,
    local: TransportAddress,
    index: number,
  ): { data: Uint8Array; from: TransportAddress; to: TransportAddress } | undefined {
    if (lies.nonStun !== undefined) {
      return { data: new TextEncoder().encode(lies.nonStun), from: local, to: from };
    }
    const request = decodeMessage(data);
    const { transactionId } = request;
    const change = getAttribute(request, "CHANGE-REQUEST");
    const code = lies.errorCode ?? (change && lies.change === "refused" ? 420 : undefined);
    if (code !== undefined) {
      const attributes = [{ type: "ERROR-CODE", value: { code, reason: "" } }] as const;
      const error = { class: "error", method: BINDING, transactionId, attributes } as const;
      return { data: encodeMessage(error), from: local, to: from };
    }
    if (change !== undefined && lies.change === "dropped") return undefined;
    const honest = { ip: not(ips, local.ip), port: not(PORTS, local.port) };
    const other = lies.other === undefined ? honest : lies.other(honest, index);
    const response = encodeMessage({
      class: "success",
      method: BINDING,
      transactionId,
      attributes: [
        { type: "XOR-MAPPED-ADDRESS", value: lies.mapped?.(from, index) ?? from },
        ...other === undefined ? [] : [{ type: "OTHER-ADDRESS", value: other } as const],
      ],
    });
    const responsePort = lies.ignoresResponsePort
      ? undefined
      : getAttribute(request, "RESPONSE-PORT");
    const isChanged = change !== undefined && lies.change === undefined;
    return {
      data: response,
      from: {
        ip: isChanged && change.changeIp ? honest.ip : local.ip,
        port: isChanged && change.changePort ? honest.port : local.port,
      },
      to: { ip: from.ip, port: responsePort ?? from.port },
    };
  }

  function socketAt(address: TransportAddress): UdpSocket {
    return sockets.find(({ local }) => sameTransportAddress(local, address))!;
  }
}

function not<T>([a, b]: readonly [T, T], value: T): T {
  return value === a ? b : a;
}

const PORTS = [3478, 3479] as const;
