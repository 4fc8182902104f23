/**
 * STUN over UDP that is lost or late, at one host of the simulated internet: as a busy machine, a queue on the way, or a
 * server with a limit does it to each socket.
 *
 * @module
 */

import { WaitQueue } from "../../lib/base/wait_queue.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import type { Datagram, Network, UdpSocket } from "../../lib/net/network.ts";

/** What happens to the STUN messages of a host, at each of its sockets. */
export interface StunFault {
  readonly lostRequests?: number;
  readonly lostAnswers?: number;
  readonly lateMs?: number;
  /** How many answers are late. Default: all. */
  readonly lateAnswers?: number;
  /** Whether it is so at the punch port alone, and not at the sockets that sample ports. */
  readonly isPunchPort?: boolean;
}

/** A network that does this to STUN messages. */
export function withStunFault(inner: Network, fault: StunFault): Network {
  const { lostRequests = 0, lostAnswers = 0, lateMs = 0, lateAnswers = Infinity } = fault;
  let sockets = 0;
  return networkWith(inner, {
    bindUdp: async (local, options) => {
      let [requests, answers] = [0, 0];
      const socket = await inner.bindUdp(local, options);
      if (fault.isPunchPort && sockets++ > 0) return socket;
      return filtered(socket, {
        send: (data) => !isStun(data) || ++requests > lostRequests,
        receive: (data) => {
          if (!isStun(data)) return 0;
          if (++answers <= lostAnswers) return Infinity;
          return answers <= lateAnswers ? lateMs : 0;
        },
      });
    },
  });
}

/** A network in which nothing but STUN arrives by UDP. */
export function withStunAlone(inner: Network): Network {
  return networkWith(inner, {
    bindUdp: async (local, options) =>
      filtered(await inner.bindUdp(local, options), {
        send: () => true,
        receive: (data) => isStun(data) ? 0 : Infinity,
      }),
  });
}

/** A socket that sends only some datagrams, and receives each so much later; `Infinity` is never. */
function filtered(
  socket: UdpSocket,
  { send, receive }: {
    readonly send: (data: Uint8Array) => boolean;
    readonly receive: (data: Uint8Array) => number;
  },
): UdpSocket {
  const queue = new WaitQueue<Datagram>(1000);
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const read = async () => {
    for (;;) {
      const datagram = await socket.receive();
      const lateMs = receive(datagram.data);
      if (lateMs === 0) queue.push(datagram);
      else if (lateMs !== Infinity) timers.add(setTimeout(() => queue.push(datagram), lateMs));
    }
  };
  read().catch((error) => queue.close(error));
  const close = () => {
    for (const timer of timers) clearTimeout(timer);
    socket.close();
  };
  return {
    local: socket.local,
    send: async (data, to) => {
      if (send(data)) await socket.send(data, to);
    },
    receive: ({ signal } = {}) => queue.next(signal),
    close,
    [Symbol.dispose]: close,
  };
}

/** Whether it is STUN (RFC 8489 §5), and no datagram of a path. */
function isStun(data: Uint8Array): boolean {
  return data[0]! < 4;
}
