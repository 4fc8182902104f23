import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { NetworkError, UnreachableError } from "../../lib/base/errors.ts";
import type { Network, UdpSocket } from "../../lib/net/network.ts";
import type { BaseSocket } from "../../lib/punch/base_socket.ts";
import type { FoundUdpPath } from "../../lib/punch/udp_punch.ts";
import { DIRECT_PATH_KINDS, type DirectPathKind } from "../../lib/punch/path_kinds.ts";
import type { PunchedConn } from "../../lib/punch/punch.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import { playUdp, type UdpScene, type UdpSide } from "../scenes/udp_scene.ts";
import { simulate } from "../simnet/simulate.ts";
import { decodeUdpPacket } from "../../lib/udp/packet_message.ts";
import { lossyPunches } from "./lossy_punches.ts";

const sequential = (delta: number) =>
  natBehavior({ allocation: { kind: "sequential", delta } }, NAT_BEHAVIORS.symmetric);

const NATS: Readonly<Record<string, NatBehavior>> = {
  ...NAT_BEHAVIORS,
  resetting: natBehavior({ unsolicitedSyn: "reset" }),
  droppingCrossed: natBehavior({ crossedSyn: "drop" }),
  tcpSymmetric: natBehavior({
    tcp: { mapping: "address-and-port-dependent", allocation: { kind: "random" } },
  }),
  block: natBehavior({ portRange: [20_000, 21_023] }, NAT_BEHAVIORS.symmetric),
  minusOne: sequential(-1),
  plusTwo: sequential(2),
};
const SYMMETRIC = ["symmetricSequential", "symmetricPreserving", "minusOne", "plusTwo"];
const RANDOM = ["symmetric", "block"];
const ALL: ReadonlySet<DirectPathKind> = new Set(DIRECT_PATH_KINDS);

for (const a of Object.keys(NATS)) {
  Deno.test(`a punch by UDP connects every pair of NATs that can be punched, from ${a}`, async () => {
    for (const b of Object.keys(NATS)) {
      const isHopeless = RANDOM.includes(a) && [...SYMMETRIC, ...RANDOM].includes(b) ||
        RANDOM.includes(b) && [...SYMMETRIC, ...RANDOM].includes(a);
      const result = await playTo({ a: NATS[a]!, b: NATS[b]! });
      if (isHopeless) assertEquals([result.a.path, result.b.path], [undefined, undefined]);
      else assertConnected(result, `${a} x ${b}`);
    }
  });
}

for (const rttMs of [20, 82, 200]) {
  Deno.test(`a punch by UDP takes a round trip of ${rttMs} ms, whatever the NATs do to SYNs`, async () => {
    for (const name of ["portRestricted", "resetting", "droppingCrossed", "tcpSymmetric"]) {
      for (const skewMs of [0, 1000, 10_000]) {
        const nat = NATS[name]!;
        const { a, b } = await playTo({ a: nat, b: nat, rttMs, skewMs });
        const laterMs = Math.max(a.knownAtMs!, b.knownAtMs!);
        assert(a.foundAtMs! - laterMs <= 1.5 * rttMs + 20, `${name}, ${skewMs} ms apart`);
        assert(b.foundAtMs! - laterMs <= 2 * rttMs + 20, `${name}, ${skewMs} ms apart`);
      }
    }
  });
}

for (const [rttMs, signalLoss] of [[20, 0], [82, 0.1], [200, 0]] as const) {
  Deno.test(`at 5 % loss each way, RTT ${rttMs} ms and ${100 * signalLoss} % loss of signaling, each punch by UDP succeeds, without steps of a second`, async () => {
    const seeds = Array.from({ length: 150 }, (_, index) => index + 1);
    const figures = await lossyPunches({ rttMs, loss: 0.05, signalLoss, seeds });
    assertEquals(figures.failed, []);
    assert(figures.p95Ms <= 2 * rttMs + 100, `95 % within ${figures.p95Ms} ms`);
    assert(figures.maxMs < 1000, `all within ${figures.maxMs} ms`);
  });
}

Deno.test("what is sent with a nomination that is lost is sent again as soon as one has arrived", async () => {
  const rttMs = 80;
  const nat = NATS.portRestricted!;
  let [sentAtMs, lost] = [0, 0];
  const arrived = Promise.withResolvers<number>();
  const network = (inner: Network, name: "a" | "b"): Network => ({
    ...bound(inner),
    bindUdp: async (local, options) => {
      const socket = await inner.bindUdp(local, options);
      return wrap(socket, async (data, to) => {
        const isLost = name === "a" && kindOf(data) === "nominate" && lost++ === 0;
        if (!isLost) await socket.send(data, to);
      });
    },
  });
  const onPath = async ({ connection }: FoundUdpPath, name: "a" | "b") => {
    if (name === "a") {
      sentAtMs = performance.now();
      return void await connection.write(Uint8Array.of(1));
    }
    await connection.read(new Uint8Array(1));
    arrived.resolve(performance.now() - sentAtMs);
  };
  await simulate(async ({ internet }) => {
    const { end } = await playUdp(internet, { a: nat, b: nat, rttMs, network, onPath });
    // The second nomination, its answer, and what was lost: it does not wait until the packet counts as lost.
    assertEquals(Math.round(await arrived.promise), 40 + 1.5 * rttMs);
    await end();
  }, { limitMs: 60_000 });
});

for (
  const [name, filtering] of [
    ["fullCone", "endpoint-independent"],
    ["addressRestricted", "address-dependent"],
    ["portRestricted", "unknown"], // silence proves nothing
    ["symmetric", "unknown"], // not asked
  ] as const
) {
  Deno.test(`what the filter of a NAT lets in by UDP is learned: ${name}, ${filtering}`, async () => {
    const bases = new Map<string, BaseSocket>();
    const onBase = (base: BaseSocket, side: "a" | "b") => {
      bases.set(side, base);
      return Promise.resolve();
    };
    await playTo({ a: NATS[name]!, b: NATS.portRestricted!, warmMs: 3000, onBase });
    assertEquals(bases.get("a")!.udp!.description.profile.filtering, filtering);
  });
}

Deno.test("a NAT that lets in whom it knows needs no spray against random ports, nor does one that lets in everyone", async () => {
  for (const name of ["fullCone", "addressRestricted"]) {
    const scene = { a: NATS[name]!, b: NATS.symmetric!, warmMs: 3000, rttMs: 80 };
    const { a, b } = assertConnected(await playTo(scene), name);
    assertEquals(a.method, "one-sided-open");
    assert(a.packets + b.packets <= 40, `${name}: ${a.packets} + ${b.packets} packets`);
  }
});

Deno.test("a spray by UDP keeps to 256 sockets and 1300 datagrams, and hits within 3 s", async () => {
  let connected = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const sockets = { a: 0, b: 0 };
    const network = counting(sockets);
    const scene = { a: NATS.portRestricted!, b: NATS.symmetric!, rttMs: 80, network };
    const { a, b } = await playTo(scene, seed);
    assert(a.packets + b.packets <= 1320, `${a.packets} + ${b.packets}`);
    assert(Math.max(sockets.a, sockets.b) <= 256 + 9, `${sockets.a} and ${sockets.b} sockets`);
    if (a.foundAtMs === undefined || b.foundAtMs === undefined) continue;
    connected++;
    const startMs = Math.max(a.knownAtMs!, b.knownAtMs!);
    assert(Math.max(a.foundAtMs, b.foundAtMs) - startMs <= 3000);
  }
  assert(connected >= 18, `${connected} of 20`);
});

Deno.test("both transports agree: TCP wins where both connect, and UDP follows the first datagram otherwise", async () => {
  const { portRestricted, droppingCrossed } = NATS;
  const both = await playTo({ a: portRestricted!, b: portRestricted!, pathKinds: ALL });
  for (const { tcp } of [both.a, both.b]) {
    assertEquals((tcp as PunchedConn).punch?.kind, "punch-tcp");
  }
  assertEquals([both.a.path, both.b.path], [undefined, undefined]);
  const rttMs = 82;
  const one = { a: droppingCrossed!, b: droppingCrossed!, pathKinds: ALL, rttMs };
  const { a, b } = assertConnected(await playTo(one), "crossing SYNs dropped");
  const startMs = Math.max(a.knownAtMs!, b.knownAtMs!);
  assert(b.foundAtMs! - startMs <= 2 * rttMs + 20, `${b.foundAtMs! - startMs} ms`);
});

Deno.test("if both transports would need a spray, only one of them sprays", async () => {
  const { portRestricted: a, symmetric: b } = NATS;
  const result = await playTo({ a: a!, b: b!, pathKinds: ALL });
  assertConnected(result, "");
  for (const { tcp } of [result.a, result.b]) {
    const attempts = tcp instanceof UnreachableError ? tcp.attempts : [];
    const syns = attempts.reduce((sum, { tries }) => sum + tries, 0);
    assert(syns <= 8, `${syns} SYNs`);
  }
});

Deno.test("hosts in one LAN find each other there by UDP, although their NAT has no hairpinning", async () => {
  const nat = natBehavior({ hairpinning: false });
  const { a, b } = await playTo({
    a: nat,
    b: nat,
    pathKinds: new Set(["lan", "punch-udp"]),
    network: (network) => withoutTcp(network),
    hosts: (internet) => {
      const home = internet.router("home", { behavior: nat, link: { delayMs: 10 } });
      return { a: internet.host("a", { behind: home }), b: internet.host("b", { behind: home }) };
    },
  });
  assertEquals([a.path?.kind, b.path?.kind], ["lan", "lan"]);
  assertEquals([a.method, b.method], [undefined, undefined]);
});

Deno.test("hosts with public IPv6 addresses connect over IPv6 by UDP", async () => {
  const nat = NAT_BEHAVIORS.firewall;
  const { a, b } = await playTo({
    a: nat,
    b: nat,
    pathKinds: new Set(["ipv6"]),
    network: withoutTcp,
    hosts: (internet) => ({
      a: internet.host("a", { addresses: ["203.0.113.50", "2001:db8::50"] }),
      b: internet.host("b", { addresses: ["203.0.113.51", "2001:db8::51"] }),
    }),
  });
  assertEquals([a.path?.kind, b.path?.kind], ["ipv6", "ipv6"]);
  assertEquals(a.path?.connection.remote.ip, "2001:db8::51");
});

Deno.test("homes behind one carrier's NAT connect by UDP through hairpinning", async () => {
  const nat = natBehavior({ hairpinning: true });
  const link = { delayMs: 10 };
  const result = await playTo({
    a: nat,
    b: nat,
    hosts: (internet) => {
      const carrier = internet.router("carrier", { behavior: nat, lan: "100.64.0", link });
      const host = (name: string) =>
        internet.host(name, {
          behind: internet.router(`${name}/home`, { behavior: nat, behind: carrier, link }),
        });
      return { a: host("a"), b: host("b") };
    },
  });
  assertConnected(result, "");
});

Deno.test("a port that a router forwards for UDP is used, whatever the other NAT does", async () => {
  const { a, b } = await playTo({
    a: natBehavior({ filtering: "endpoint-independent" }),
    b: NATS.symmetric!,
    pathKinds: new Set(["mapped"]),
    onBase: async ({ udp }, name) => {
      const seen = udp!.description.candidates.find(({ kind }) => kind === "reflexive");
      // The NAT lets anyone in at this port, as at a forwarded one.
      if (name === "a") await udp!.addMapped(seen!.address, new AsyncDisposableStack());
    },
  });
  assertEquals([a.path?.kind, b.path?.kind], ["mapped", "mapped"]);
});

Deno.test("without UDP there is no path by UDP, and the punch by TCP does not wait for it", async () => {
  const nat = NATS.portRestricted!;
  const { a, b } = await playTo({ a: nat, b: nat, pathKinds: ALL, network: withoutUdp });
  for (const { tcp, path } of [a, b]) {
    assertEquals([(tcp as PunchedConn).punch?.kind, path], ["punch-tcp", undefined]);
  }
});

Deno.test("each path has secrets of its own, the same on both sides", async () => {
  const nat = NATS.portRestricted!;
  const one = assertConnected(await playTo({ a: nat, b: nat }, 1), "");
  const other = assertConnected(await playTo({ a: nat, b: nat }, 2), "");
  assertEquals(one.a.path!.channelBinding, one.b.path!.channelBinding);
  assertNotEquals(one.a.path!.channelBinding, other.a.path!.channelBinding);
});

for (
  const [what, attack] of [
    ["replayed from another host", "replay"],
    ["replayed with one bit changed", "flip"],
    ["sent back to where they came from", "reflect"],
  ] as const
) {
  Deno.test(`datagrams of a punch that are ${what} change nothing`, async () => {
    const nat = natBehavior({ filtering: "endpoint-independent" });
    const result = await simulate(async ({ internet }) => {
      const attacker = await internet.host("mallory").network.bindUdp({ ip: "0.0.0.0", port: 0 });
      const seen: Uint8Array[] = [];
      const network = (inner: Network): Network => ({
        ...bound(inner),
        bindUdp: async (local, options) => {
          const socket = await inner.bindUdp(local, options);
          return wrap(socket, async (data, to) => {
            await socket.send(data, to);
            if (data[0]! < 192 || seen.length > 2000) return;
            const bytes = attack === "flip" ? data.map((b, i) => i === 30 ? b ^ 1 : b) : data;
            seen.push(bytes);
            if (attack !== "reflect") return await attacker.send(bytes, to);
            for (const each of seen.slice(-3)) await attacker.send(each, to);
          });
        },
      });
      const played = await playUdp(internet, { a: nat, b: nat, network });
      await exchange(played.a, played.b);
      const remotes = [played.a, played.b].map(({ path }) => path?.connection.remote.ip);
      await played.end();
      attacker.close();
      return { remotes, count: seen.length };
    }, { seed: 1, limitMs: 600_000 });
    assert(result.count > 3);
    assert(result.remotes.every((ip) => ip !== undefined));
    assertEquals(new Set(result.remotes).size, 2);
  });
}

/** Plays a scene and exchanges a few bytes, as far as there is a path on both sides. */
async function playTo(scene: UdpScene, seed = 1): Promise<Readonly<Record<"a" | "b", UdpSide>>> {
  return await simulate(async ({ internet }) => {
    const { a, b, end } = await playUdp(internet, scene);
    if (a.path !== undefined && b.path !== undefined) await exchange(a, b);
    await end();
    return { a, b };
  }, { seed, limitMs: 3_600_000 });
}

async function exchange({ path: one }: UdpSide, { path: other }: UdpSide): Promise<void> {
  for (const [from, to] of [[one!, other!], [other!, one!]] as const) {
    await from.connection.write(Uint8Array.of(1, 2, 3));
    const buffer = new Uint8Array(9);
    const length = await to.connection.read(buffer);
    assertEquals(buffer.subarray(0, length ?? 0), Uint8Array.of(1, 2, 3));
  }
}

function assertConnected(
  result: Readonly<Record<"a" | "b", UdpSide>>,
  what: string,
): Readonly<Record<"a" | "b", UdpSide>> {
  const { a, b } = result;
  assertEquals([a.path?.kind, b.path?.kind], ["punch-udp", "punch-udp"], what);
  assertEquals(a.method, b.method, what);
  return result;
}

/** The kind of a datagram; `undefined` for STUN, which does not belong to a path. */
function kindOf(data: Uint8Array): string | undefined {
  return data[0]! < 192 ? undefined : decodeUdpPacket(data).kind;
}

/** Counts the most sockets that a side has open at a time. */
function counting(most: { a: number; b: number }) {
  return (inner: Network, name: "a" | "b"): Network => {
    let open = 0;
    return {
      ...bound(inner),
      bindUdp: async (local, options) => {
        const socket = await inner.bindUdp(local, options);
        most[name] = Math.max(most[name], ++open);
        let isOpen = true;
        const close = () => {
          if (isOpen) open--;
          isOpen = false;
          socket.close();
        };
        return { ...wrap(socket, (data, to) => socket.send(data, to)), close };
      },
    };
  };
}

/** Nothing but STUN servers can be dialled. */
function withoutTcp(network: Network): Network {
  return {
    ...bound(network),
    connectTcp: (remote, options) =>
      remote.ip.startsWith("203.0.113.1")
        ? network.connectTcp(remote, options)
        : Promise.reject(new NetworkError("no TCP here", "refused")),
  };
}

function withoutUdp(network: Network): Network {
  return {
    ...bound(network),
    bindUdp: () => Promise.reject(new NetworkError("no UDP here", "not-permitted")),
  };
}

function bound(network: Network): Network {
  return {
    bindUdp: (local, options) => network.bindUdp(local, options),
    connectTcp: (remote, options) => network.connectTcp(remote, options),
    connectTls: (remote, options) => network.connectTls(remote, options),
    listenTcp: (local, options) => network.listenTcp(local, options),
    canReusePort: network.canReusePort,
    resolve: (hostname, family, options) => network.resolve(hostname, family, options),
    localAddresses: () => network.localAddresses(),
    ownsAddress: (ip) => network.ownsAddress(ip),
    defaultGateways: () => network.defaultGateways(),
  };
}

function wrap(socket: UdpSocket, send: UdpSocket["send"]): UdpSocket {
  return {
    local: socket.local,
    send,
    receive: (options) => socket.receive(options),
    close: () => socket.close(),
    [Symbol.dispose]: () => socket.close(),
  };
}
