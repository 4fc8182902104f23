/**
 * A program for a host with two addresses: a STUN server that misbehaves in a chosen way:
 *
 *     lying_stun.ts LIE ADDRESS ALTERNATE [ELSEWHERE]
 *
 * It serves ports 3478 and 3479 of both addresses over UDP, and prints "ready".
 *
 * @module
 */

import { sameTransportAddress, type TransportAddress } from "../../../lib/net/address.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import type { Datagram, UdpSocket } from "../../../lib/net/network.ts";
import { decodeMessage, encodeMessage, getAttribute } from "../../../lib/stun/message.ts";
import type { ChangeRequest } from "../../../lib/stun/attribute_tables.ts";

/** How the server misbehaves. */
export const LIES = {
  "other-same-ip": "reports its own address with another port as OTHER-ADDRESS",
  "other-dead": "reports a dead address as OTHER-ADDRESS",
  "other-elsewhere": "reports the address of another, honest server as OTHER-ADDRESS",
  "other-private": "reports a private address as OTHER-ADDRESS",
  "other-changing": "reports a different OTHER-ADDRESS in each answer",
  "ignores-change": "answers CHANGE-REQUEST from the address that was asked",
  "drops-change": "does not answer CHANGE-REQUEST at all",
  "random-mapped": "reports a random mapped address in each answer",
} as const;

/** A name in {@linkcode LIES}. */
export type Lie = keyof typeof LIES;

class LyingServer {
  readonly #lie: Lie;
  readonly #ips: readonly [string, string];
  readonly #elsewhere: string | undefined;
  readonly #sockets: UdpSocket[] = [];

  constructor(lie: Lie, ips: readonly [string, string], elsewhere: string | undefined) {
    this.#lie = lie;
    this.#ips = ips;
    this.#elsewhere = elsewhere;
  }

  async open(): Promise<void> {
    for (const ip of this.#ips) {
      for (const port of PORTS) this.#sockets.push(await systemNetwork.bindUdp({ ip, port }));
    }
  }

  async serve(): Promise<void> {
    await Promise.all(this.#sockets.map(async (socket) => {
      for (;;) await this.#answer(socket, await socket.receive());
    }));
  }

  async #answer(socket: UdpSocket, { data, from }: Datagram): Promise<void> {
    const request = decodeMessage(data);
    const change = getAttribute(request, "CHANGE-REQUEST") ??
      { changeIp: false, changePort: false };
    const isChange = change.changeIp || change.changePort;
    if (isChange && this.#lie === "drops-change") return;
    const origin = this.#lie === "ignores-change"
      ? socket.local
      : this.#other(socket.local, change);
    const sender = this.#sockets.find(({ local }) => sameTransportAddress(local, origin))!;
    const mapped = this.#lie === "random-mapped" ? anyAddress() : from;
    const response = encodeMessage({
      class: "success",
      method: request.method,
      transactionId: request.transactionId,
      attributes: [
        { type: "XOR-MAPPED-ADDRESS", value: mapped },
        { type: "OTHER-ADDRESS", value: this.#claimedOther(socket.local) },
      ],
    });
    const port = getAttribute(request, "RESPONSE-PORT") ?? from.port;
    await sender.send(response, { ip: from.ip, port });
  }

  #other(local: TransportAddress, change: ChangeRequest): TransportAddress {
    const [ip, otherIp] = local.ip === this.#ips[0] ? this.#ips : [...this.#ips].reverse();
    const [port, otherPort] = local.port === PORTS[0] ? PORTS : [...PORTS].reverse();
    return { ip: (change.changeIp ? otherIp : ip)!, port: (change.changePort ? otherPort : port)! };
  }

  #claimedOther(local: TransportAddress): TransportAddress {
    switch (this.#lie) {
      case "other-same-ip":
        return { ip: local.ip, port: PORTS[1] };
      case "other-dead":
        return { ip: "203.0.113.250", port: PORTS[1] };
      case "other-elsewhere":
        return { ip: this.#elsewhere!, port: PORTS[1] };
      case "other-private":
        return { ip: "192.168.1.1", port: PORTS[1] };
      case "other-changing":
        return { ip: this.#ips[1], port: PORTS[1] + Math.floor(Math.random() * 100) };
      default:
        return this.#other(local, { changeIp: true, changePort: true });
    }
  }
}

function anyAddress(): TransportAddress {
  const byte = 1 + Math.floor(Math.random() * 250);
  return { ip: `198.51.100.${byte}`, port: 1024 + Math.floor(Math.random() * 60_000) };
}

const PORTS = [3478, 3479] as const;

if (import.meta.main) {
  const [lie, address, alternate, elsewhere] = Deno.args as [Lie, string, string, string?];
  const server = new LyingServer(lie, [address, alternate], elsewhere);
  await server.open();
  await Deno.stdout.write(new TextEncoder().encode("ready\n"));
  await server.serve();
}
