/**
 * A STUN server that is wrong in a way of one's choice, for a host of the lab with two addresses:
 *
 *     lying_stun.ts LIE ADDRESS ALTERNATE [ELSEWHERE]
 *
 * It serves port 3478 and 3479 of both addresses over UDP, and says "ready".
 *
 * @module
 */

import type { TransportAddress } from "../../../lib/net/address.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import type { UdpSocket } from "../../../lib/net/network.ts";
import { decodeMessage, encodeMessage, getAttribute } from "../../../lib/stun/message.ts";

/** What it does wrong. */
export const LIES = {
  "other-same-ip": "names its own address, with another port, as OTHER-ADDRESS",
  "other-dead": "names an address where nobody is as OTHER-ADDRESS",
  "other-elsewhere": "names an address of another, honest server as OTHER-ADDRESS",
  "other-private": "names a private address as OTHER-ADDRESS",
  "other-changing": "names another OTHER-ADDRESS in each answer",
  "ignores-change": "answers CHANGE-REQUEST from where it was asked",
  "drops-change": "does not answer CHANGE-REQUEST at all",
  "random-mapped": "makes up another mapped address for each answer",
} as const;

/** A name in {@linkcode LIES}. */
export type Lie = keyof typeof LIES;

if (import.meta.main) {
  const [lie, address, alternate, elsewhere] = Deno.args as [Lie, string, string, string?];
  const sockets = new Map<string, UdpSocket>();
  for (const ip of [address, alternate]) {
    for (const port of [3478, 3479]) {
      sockets.set(`${ip} ${port}`, await systemNetwork.bindUdp({ ip, port }));
    }
  }
  console.log("ready");
  await Promise.all([...sockets.values()].map(serve));

  async function serve(socket: UdpSocket): Promise<void> {
    for (;;) {
      const { data, from } = await socket.receive();
      const request = decodeMessage(data);
      const change = getAttribute(request, "CHANGE-REQUEST");
      const isChange = change?.changeIp || change?.changePort;
      if (isChange && lie === "drops-change") continue;
      const honest = otherOf(socket.local, change?.changeIp ?? false, change?.changePort ?? false);
      const sender = isChange && lie !== "ignores-change"
        ? sockets.get(`${honest.ip} ${honest.port}`)!
        : socket;
      const response = encodeMessage({
        class: "success",
        method: request.method,
        transactionId: request.transactionId,
        attributes: [
          { type: "XOR-MAPPED-ADDRESS", value: lie === "random-mapped" ? anyAddress() : from },
          { type: "OTHER-ADDRESS", value: claimedOther(socket.local) },
        ],
      });
      await sender.send(response, {
        ip: from.ip,
        port: getAttribute(request, "RESPONSE-PORT") ?? from.port,
      });
    }
  }

  function otherOf(
    { ip, port }: TransportAddress,
    changeIp: boolean,
    changePort: boolean,
  ): TransportAddress {
    return {
      ip: changeIp ? (ip === address ? alternate : address) : ip,
      port: changePort ? (port === 3478 ? 3479 : 3478) : port,
    };
  }

  function claimedOther(local: TransportAddress): TransportAddress {
    switch (lie) {
      case "other-same-ip":
        return { ip: local.ip, port: 3479 };
      case "other-dead":
        return { ip: "203.0.113.250", port: 3479 };
      case "other-elsewhere":
        return { ip: elsewhere!, port: 3479 };
      case "other-private":
        return { ip: "192.168.1.1", port: 3479 };
      case "other-changing":
        return { ip: alternate, port: 3479 + Math.floor(Math.random() * 100) };
      default:
        return otherOf(local, true, true);
    }
  }
}

function anyAddress(): TransportAddress {
  const byte = () => 1 + Math.floor(Math.random() * 250);
  return { ip: `198.51.100.${byte()}`, port: 1024 + Math.floor(Math.random() * 60_000) };
}
