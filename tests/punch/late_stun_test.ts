import { assert, assertEquals } from "@std/assert";
import { WaitQueue } from "../../lib/base/wait_queue.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import type { Datagram, Network, UdpSocket } from "../../lib/net/network.ts";
import { UnreachableError } from "../../lib/base/errors.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { STUN_SERVERS } from "../scenes/homes.ts";
import { playUdp, type UdpScene, type UdpSide } from "../scenes/udp_scene.ts";
import { simulate } from "../simnet/simulate.ts";

const { portRestricted, symmetric } = NAT_BEHAVIORS;

/** What happens to the STUN messages of a side, at each of its sockets. */
interface StunFault {
  readonly lostRequests?: number;
  readonly lostAnswers?: number;
  readonly lateMs?: number;
  /** How many answers are late. Default: all. */
  readonly lateAnswers?: number;
  /** Whether it is so at the punch port alone, and not at the sockets that sample ports. */
  readonly isPunchPort?: boolean;
}

/** Each with what it may cost, beyond a punch without it, in milliseconds. */
const FAULTS: readonly (readonly [string, StunFault, number])[] = [
  ["the first request is lost", { lostRequests: 1 }, 100],
  ["the first answer is lost", { lostAnswers: 1 }, 100],
  ["two requests and two answers are lost", { lostRequests: 2, lostAnswers: 2 }, 550],
  ...[300, 600, 1000].flatMap((lateMs): (readonly [string, StunFault, number])[] => [
    [`the first answer is ${lateMs} ms late`, { lateMs, lateAnswers: 1 }, 100],
    [`all answers are ${lateMs} ms late`, { lateMs }, lateMs],
    [
      `all answers are ${lateMs} ms late, for the punch port`,
      { lateMs, isPunchPort: true },
      lateMs,
    ],
  ]),
];

for (const [what, fault, costMs] of FAULTS) {
  for (const who of ["a", "b", "both"] as const) {
    Deno.test(`a punch by UDP is late, but not impossible, if ${what} at ${who}`, async () => {
      for (const servers of [STUN_SERVERS, STUN_SERVERS.slice(0, 1)]) {
        const scene = { a: portRestricted, b: portRestricted, servers };
        const usual = assertConnected(await playTo(scene));
        const late = assertConnected(await playTo({ ...scene, network: faulty(who, fault) }));
        // With one server, the second answer is late, too: it has to be asked for its other address.
        const mayCostMs = (servers.length === 1 ? 2 : 1) * costMs + SLACK_MS;
        assert(late - usual <= mayCostMs, `${servers.length}: ${usual} ms, then ${late} ms`);
      }
    });
  }
}

Deno.test("late answers cost no spray against random ports", async () => {
  let connected = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const network = faulty("both", { lateMs: 600 });
    const { a, b } = await playTo({ a: portRestricted, b: symmetric, network }, seed);
    assertEquals([a.method ?? "birthday", b.method ?? "birthday"], ["birthday", "birthday"]);
    assert(a.packets > 0 && b.packets > 0);
    if (a.path !== undefined && b.path !== undefined) connected++;
  }
  assert(connected >= 6, `${connected} of 8`);
});

Deno.test("a base socket that was ready before the call, but for late answers, has them in the first offer", async () => {
  const network = faulty("both", { lateMs: 1000 });
  const scene = { a: portRestricted, b: portRestricted, network, warmMs: 2000 };
  const { a, b } = await playTo(scene);
  for (const side of [a, b]) assertEquals(side.path?.kind, "punch-udp");
  assert(a.foundAtMs! - a.knownAtMs! <= 200, `${a.foundAtMs! - a.knownAtMs!} ms`);
});

Deno.test("a side without UDP holds up the other one for 1.3 s at most, and only if TCP has no way", async () => {
  const scene = { a: portRestricted, b: portRestricted };
  const network = faulty("a", { lostRequests: Infinity });
  const { a, b } = await playTo({ ...scene, network });
  for (const { path, tcp, knownAtMs } of [a, b]) {
    assertEquals(path, undefined);
    assert(tcp instanceof UnreachableError);
    assert(tcp.message.includes("an external address is not known"), tcp.message);
    assert(knownAtMs! <= 1300, `${knownAtMs} ms`);
  }
  const pathKinds = new Set(["punch-tcp", "punch-udp"] as const);
  const beside = await playTo({ ...scene, network, pathKinds });
  for (const { tcp, knownAtMs } of [beside.a, beside.b]) {
    assert(!(tcp instanceof Error));
    assert(knownAtMs! <= 600, `${knownAtMs} ms`);
  }
});

Deno.test("a spray by UDP that does not hit is not called impossible", async () => {
  const network = (inner: Network, name: "a" | "b") => name === "b" ? deaf(inner) : inner;
  const { a } = await playTo({ a: portRestricted, b: symmetric, network });
  assert(a.tcp instanceof UnreachableError);
  assertEquals(
    a.tcp.message.replace(/\d+ sockets and \d+/, "N sockets and N"),
    "Cannot punch: all attempts by UDP failed (cone of unknown filtering x symmetric, random: " +
      "birthday, N sockets and N of 64512 ports)",
  );
});

/** Plays a scene. Times are since its start. */
async function playTo(scene: UdpScene, seed = 1): Promise<Readonly<Record<"a" | "b", UdpSide>>> {
  return await simulate(async ({ internet }) => {
    const { a, b, end } = await playUdp(internet, scene);
    await end();
    return { a, b };
  }, { seed, limitMs: 3_600_000 });
}

/** When both sides had the path. */
function assertConnected({ a, b }: Readonly<Record<"a" | "b", UdpSide>>): number {
  assertEquals([a.path?.kind, b.path?.kind], ["punch-udp", "punch-udp"]);
  return Math.max(a.foundAtMs!, b.foundAtMs!);
}

/** Does this to the STUN messages of one side, or both. */
function faulty(who: "a" | "b" | "both", fault: StunFault): NonNullable<UdpScene["network"]> {
  const { lostRequests = 0, lostAnswers = 0, lateMs = 0, lateAnswers = Infinity } = fault;
  return (inner, name) => {
    if (who !== "both" && who !== name) return inner;
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
  };
}

/** Nothing but STUN arrives. */
function deaf(inner: Network): Network {
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

/** A repetition of an offer. */
const SLACK_MS = 150;
