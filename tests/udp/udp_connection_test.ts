/**
 * The connection between two simulated hosts, honest and not, in virtual time.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { decodeUdpPacket, encodeUdpPacket, type UdpPacket } from "../../lib/udp/packet_message.ts";
import { derivePathKeys, sealControl } from "../../lib/udp/path_keys.ts";
import { INITIAL_LIMIT } from "../../lib/udp/packet_sender.ts";
import type { UdpConnection } from "../../lib/udp/udp_connection.ts";
import { pattern, readAll, readSome } from "../session/fixtures.ts";
import { assertNetworkError } from "../simnet/fixtures.ts";
import type { Internet } from "../simnet/internet.ts";
import type { LinkBehavior } from "../simnet/link.ts";
import { simulate } from "../simnet/simulate.ts";
import { SECRET, type UdpPair, udpPair } from "./fixtures.ts";

const KEYS = derivePathKeys(SECRET, "controlling");

for (const loss of [0, 0.02, 0.1]) {
  Deno.test(`a stream arrives whole in both directions at ${loss * 100} % loss`, async () => {
    await withPair({ delayMs: 13, loss: loss / 2 }, async ({ a, b }) => {
      const data = pattern(500_000);
      const [, , atA, atB] = await Promise.all([
        sendAll(a, data),
        sendAll(b, data),
        readAll(a),
        readAll(b),
      ]);
      assertEquals(atA, data);
      assertEquals(atB, data);
      await closeBoth({ a, b });
    });
  });
}

Deno.test("the first byte takes half a round trip, and a stream of 1 MB at 1 MB/ms little more than slow start", async () => {
  await withPair({ delayMs: 20 }, async ({ a, b }, { nowMs }) => {
    const startMs = nowMs();
    await a.write(Uint8Array.of(1));
    await b.read(new Uint8Array(1));
    assertEquals(nowMs() - startMs, 40);
    const data = pattern(1_000_000);
    await Promise.all([sendAll(a, data), readAll(b)]);
    assert(nowMs() < 10 * 80, `${nowMs()} ms`); // ten round trips
  });
});

Deno.test("each direction ends by itself", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }) => {
    await sendAll(a, Uint8Array.of(1));
    assertEquals(await readAll(b), Uint8Array.of(1));
    await sendAll(b, Uint8Array.of(2, 3));
    assertEquals(await readAll(a), Uint8Array.of(2, 3));
    await assertNetworkError("closed", () => a.write(Uint8Array.of(1)));
    await closeBoth({ a, b });
  });
});

Deno.test("close() still delivers what was written, even at 20 % loss", async () => {
  await withPair({ delayMs: 5, loss: 0.1 }, async ({ a, b }) => {
    await writeAll(a, pattern(100_000));
    a.close();
    await assertNetworkError("closed", () => a.read(new Uint8Array(1)));
    assertEquals(await readAll(b), pattern(100_000));
    b.close();
    await Promise.all([a.released, b.released]);
  });
});

Deno.test("close() ends the other side's writing", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }) => {
    a.close();
    assertEquals(await b.read(new Uint8Array(1)), null);
    await wait(100);
    await assertNetworkError("reset", () => b.write(Uint8Array.of(1)));
    await b.released;
  });
});

Deno.test("reset() ends both directions of both ends", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }) => {
    const reading = assertNetworkError("reset", () => b.read(new Uint8Array(1)));
    const datagram = assertNetworkError("reset", () => b.receiveDatagram());
    a.reset();
    a.reset();
    await assertNetworkError("closed", () => a.read(new Uint8Array(1)));
    await assertNetworkError("closed", () => a.write(Uint8Array.of(1)));
    await reading;
    await datagram;
    await assertNetworkError("reset", () => b.write(Uint8Array.of(1)));
  });
});

Deno.test("a reset that is lost is repeated", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }, { links, nowMs }) => {
    await exchange(a, b);
    const until = nowMs() + 20;
    for (const link of links()) link.outages = [[0, until]];
    a.reset();
    await assertNetworkError("reset", () => b.read(new Uint8Array(1)));
    assert(nowMs() < 200, `${nowMs()}`);
  });
});

Deno.test("a path that falls silent is given up after 30 s, and one that returns before goes on", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }, { links, nowMs }) => {
    await exchange(a, b);
    const startMs = nowMs();
    for (const link of links()) link.outages = [[startMs, startMs + 20_000]];
    await writeAll(a, pattern(5000));
    await readSome(b, 5000);
    const resumedMs = nowMs() - startMs;
    assert(resumedMs >= 20_000 && resumedMs < 23_100, `${resumedMs} ms`);
    for (const link of links()) link.outages = [[nowMs(), Infinity]];
    await writeAll(a, pattern(5000));
    const silentMs = nowMs();
    await assertNetworkError("timed-out", () => a.read(new Uint8Array(1)));
    assert(nowMs() - silentMs < 33_100, `${nowMs() - silentMs} ms`);
  });
});

Deno.test("an idle path sends a keep-alive every 15 to 25 s, and nothing else", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }, { nowMs, internet }) => {
    await exchange(a, b);
    await wait(2000);
    const sentMs: number[] = [];
    const pads: number[] = [];
    internet.onPacket = ({ at, what, packet, atMs }) => {
      if (what !== "sent" || packet.protocol !== "udp") return;
      if (decodeUdpPacket(packet.data).kind === "pad") pads.push(atMs);
      if (at === "a") sentMs.push(atMs);
    };
    const startMs = nowMs();
    await wait(300_000);
    const gaps = sentMs.map((ms, i) => ms - (sentMs[i - 1] ?? startMs));
    assert(Math.max(...gaps) <= 25_100, `${gaps}`);
    assert(sentMs.length <= 2 * 300 / 15 && pads.length >= 300 / 25, `${pads.length} pads`);
  });
});

Deno.test("the path MTU grows to 1452 bytes where the path carries them", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }) => {
    assertEquals(a.maxDatagramBytes, 1200 - 15);
    await exchange(a, b);
    await wait(100);
    assertEquals(a.maxDatagramBytes, 1452 - 15);
  });
});

Deno.test("a path that drops datagrams of more than 1300 bytes carries the stream in smaller ones", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }, { drop }) => {
    drop((bytes) => bytes.length > 1300);
    const data = pattern(300_000);
    const [, received] = await Promise.all([sendAll(a, data), readAll(b)]);
    assertEquals(received, data);
    await wait(5000);
    assert(a.maxDatagramBytes + 15 > 1270, `${a.maxDatagramBytes}`);
    assert(a.maxDatagramBytes + 15 <= 1300, `${a.maxDatagramBytes}`);
  });
});

Deno.test("a path whose MTU shrinks while it is used goes on within 5 s", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }, { drop, nowMs }) => {
    await exchange(a, b);
    await wait(100);
    drop((bytes) => bytes.length > 1300);
    const startMs = nowMs();
    const [, received] = await Promise.all([sendAll(a, pattern(100_000)), readAll(b)]);
    assertEquals(received.length, 100_000);
    assert(nowMs() - startMs < 5000, `${nowMs() - startMs} ms`);
  });
});

Deno.test("datagrams arrive unordered and unrepeated, and those that are lost are not sent again", async () => {
  await withPair({ delayMs: 5, loss: 0.1, reordering: 0.2, duplication: 0.2 }, async ({ a, b }) => {
    const received: number[] = [];
    const receiving = assertNetworkError("closed", async () => {
      for (;;) received.push((await b.receiveDatagram())[0]!);
    });
    for (let i = 0; i < 200; i++) {
      assertEquals(a.sendDatagram(Uint8Array.of(i)), true);
      await wait(2);
    }
    await wait(1000);
    a.close();
    b.close();
    await receiving;
    assertEquals(new Set(received).size, received.length);
    assert(received.length > 130 && received.length < 190, `${received.length}`);
    assert(received.some((each, i) => each < (received[i - 1] ?? 0)), "in order");
  });
});

Deno.test("datagrams that the path cannot keep up with are dropped at the sender, and longer ones refused", async () => {
  await withPair({ delayMs: 5 }, ({ a }) => {
    const datagram = new Uint8Array(1000);
    const sent = Array.from({ length: 1000 }, () => a.sendDatagram(datagram));
    assert(sent.includes(false) && sent[0] === true);
    assertThrows(() => a.sendDatagram(new Uint8Array(2000)), RangeError);
    return Promise.resolve();
  });
});

Deno.test("a sender stops at the limit while the other side does not read, and goes on once it does", async () => {
  const windowBytes = INITIAL_LIMIT;
  await withPair({ delayMs: 5, loss: 0.05 }, async ({ a, b }) => {
    const data = pattern(4 * windowBytes);
    let written = 0;
    const writing = (async () => {
      while (written < data.length) written += await a.write(data.subarray(written));
      await a.closeWrite();
    })();
    await wait(60_000);
    assert(written < data.length, "everything was written");
    assertEquals(await readAll(b), data);
    await writing;
  }, { windowBytes });
});

Deno.test("nothing that is sent without the path ID changes anything", async () => {
  await withPair({ delayMs: 5 }, async (pair, world) => {
    const { a, b } = pair;
    const { send } = attacker(world.internet);
    const other = derivePathKeys(new Uint8Array(32), "controlling");
    for (const packet of FORGERIES) {
      await send(encodeUdpPacket(other.send.pathId, packet), b.local);
      await send(encodeUdpPacket(KEYS.receive.pathId, packet), b.local); // reflected
    }
    await send(new Uint8Array(0), b.local);
    await send(Uint8Array.of(200), b.local);
    await wait(100);
    assertEquals(pair.bSocket.dropped, 2 * FORGERIES.length + 2);
    assertEquals(b.remote, a.local);
    await exchange(a, b);
  });
});

Deno.test("control packets without the right HMAC change nothing, even with the path ID", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }, { internet }) => {
    await exchange(a, b);
    const { send } = attacker(internet);
    for (const kind of ["close", "reset", "probe"] as const) {
      const packet = { kind, counter: 99, value: new Uint8Array(8) };
      const forged = encodeUdpPacket(KEYS.send.pathId, { ...packet, mac: new Uint8Array(16) });
      await send(forged, b.local);
      const real = sealControl(KEYS.send, packet);
      real[20]! ^= 1;
      await send(real, b.local);
    }
    await wait(100);
    assertEquals(b.remote, a.local);
    await exchange(a, b);
  });
});

Deno.test("replayed datagrams change nothing, from any address", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b }, { internet, record }) => {
    const datagrams = record("a");
    const { send } = attacker(internet);
    a.probe();
    a.sendDatagram(Uint8Array.of(7));
    assertEquals(await b.receiveDatagram(), Uint8Array.of(7));
    await exchange(a, b);
    await wait(1000);
    const replays = datagrams.slice();
    let answers = 0;
    internet.onPacket = ({ at, what }) => {
      if (at === "b" && what === "sent") answers++;
    };
    for (const data of replays) await send(data, b.local);
    await wait(1000);
    assertEquals(answers, 0);
    assertEquals(b.remote, a.local);
    const late = b.receiveDatagram();
    a.sendDatagram(Uint8Array.of(8));
    assertEquals(await late, Uint8Array.of(8));
    await exchange(a, b);
  });
});

Deno.test("resend() sends what is under way again, and nothing once the connection was reset", async () => {
  await withPair({ delayMs: 5 }, async ({ a }, { record }) => {
    const datagrams = record("a");
    const isData = (data: Uint8Array) => decodeUdpPacket(data).kind === "data";
    await a.write(Uint8Array.of(1));
    await wait(1);
    a.resend();
    await wait(1);
    assertEquals(datagrams.filter(isData).length, 2);
    a.reset();
    a.resend();
    await wait(1);
    assertEquals(datagrams.filter(isData).length, 2);
  });
});

Deno.test("stream data beyond the window is not kept, nor acknowledged", async () => {
  await withHalf(async ({ b, send, received }) => {
    const beyond = { ...DATA, number: 0, offset: 10 * 1024 * 1024 };
    await send(beyond);
    await send({ ...DATA, number: 1, offset: 5, isFinal: true });
    await send({ ...DATA, number: 2, offset: 100 });
    await wait(100);
    const acked = received.filter((packet) => packet.kind === "ack").at(-1)!;
    assertEquals(acked.ranges, [{ start: 1, end: 2 }]); // 2 is after the end
    await send({ ...DATA, number: 3, offset: 0, data: new Uint8Array(5) });
    assertEquals((await readAll(b)).length, 6);
  });
});

Deno.test("an acknowledgement of packets that were not sent ends the connection", async () => {
  await withHalf(async ({ b, send }) => {
    await send({ kind: "ack", ranges: [{ start: 0, end: 1000 }], delayMs: 0, limit: 2 ** 40 });
    await assertNetworkError("reset", () => b.read(new Uint8Array(1)));
  });
});

Deno.test("a receiver that acknowledges in advance is found out within 2000 packets", async () => {
  await withHalf(async ({ b, send, received }) => {
    let isOver = false;
    const writing = assertNetworkError("reset", async () => {
      for (;;) await writeAll(b, new Uint8Array(65_536));
    }).then(() => isOver = true);
    for (let next = 0; !isOver && next < 4000;) { // everything that can have been sent, received or not
      const highest = received.reduce((most, packet) => {
        return "number" in packet ? Math.max(most, packet.number) : most;
      }, -1);
      if (highest >= next) {
        next = highest + 1;
        await send({ kind: "ack", ranges: [{ start: 0, end: next }], delayMs: 0, limit: 2 ** 40 });
      }
      await wait(1);
    }
    await writing;
    const numbers = received.filter((packet) => "number" in packet);
    assert(numbers.length < 2000, `${numbers.length}`);
  });
});

Deno.test("a receiver that acknowledges one of a thousand packets cannot make the sender send more", async () => {
  await withHalf(async ({ b, send, received }) => {
    const writing = writeAll(b, new Uint8Array(3_000_000)).catch((error) => error);
    await wait(20_000);
    await send({ kind: "ack", ranges: [{ start: 0, end: 1 }], delayMs: 0, limit: 2 ** 40 });
    await wait(5_000);
    assert(received.length < 100, `${received.length} packets`);
    b.reset();
    await writing;
  });
});

Deno.test("the other end's new address is used once it has proved itself", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b, aSocket }, { internet }) => {
    await exchange(a, b);
    const host = internet.host("elsewhere", { link: { delayMs: 5 } });
    using socket = await host.network.bindUdp({ ip: host.addresses[0]!, port: 9 });
    const seen: Uint8Array[] = [];
    const receiving = assertNetworkError("closed", async () => {
      for (;;) seen.push((await socket.receive()).data);
    });
    const probe = { kind: "probe", counter: 500, value: new Uint8Array(8).fill(3) } as const;
    await socket.send(sealControl(KEYS.send, probe), b.local);
    await wait(100);
    assertEquals(b.remote, socket.local);
    const answer = seen.map(decodeUdpPacket).find(({ kind }) => kind === "answer");
    assert(answer?.kind === "answer"); // what was under way follows it
    assertEquals(answer.value, probe.value);
    socket.close();
    await receiving;
    assertEquals(aSocket.dropped, 0);
  });
});

Deno.test("STUN and paths share a socket", async () => {
  await withPair({ delayMs: 5 }, async ({ a, b, bSocket }, { internet }) => {
    const { send } = attacker(internet);
    const receiving = bSocket.stun.receive();
    await send(Uint8Array.of(0, 1, 0, 0), b.local);
    assertEquals((await receiving).data, Uint8Array.of(0, 1, 0, 0));
    await exchange(a, b);
  });
});

Deno.test("closing the socket ends its paths", async () => {
  await withPair({ delayMs: 5 }, async ({ a, aSocket }) => {
    const reading = assertNetworkError("closed", () => a.read(new Uint8Array(1)));
    const stun = assertNetworkError("closed", () => aSocket.stun.receive());
    aSocket.close();
    await reading;
    await stun;
    await a.released;
  });
});

/** What a test can do to the path. */
interface World {
  readonly internet: Internet;
  nowMs(): number;
  /** The wires of both hosts, to change them. */
  links(): { outages: readonly (readonly [number, number])[] }[];
  /** Drops datagrams from now on. */
  drop(isDropped: (bytes: Uint8Array) => boolean): void;
  /** All that this host sends from now on. */
  record(host: string): Uint8Array[];
}

function withPair(
  link: LinkBehavior,
  job: (pair: UdpPair, world: World) => Promise<void>,
  options: Parameters<typeof udpPair>[2] = {},
): Promise<void> {
  return simulate(async ({ internet, time }) => {
    const outages: { outages: readonly (readonly [number, number])[] } = { outages: [] };
    let isDropped: (bytes: Uint8Array) => boolean = () => false;
    using pair = await udpPair(internet, link, options, "", {
      isDropped: (bytes) =>
        isDropped(bytes) ||
        outages.outages.some(([from, to]) => from <= time.nowMs && time.nowMs <= to),
    });
    await job(pair, {
      internet,
      nowMs: () => time.nowMs,
      links: () => [outages],
      drop: (dropped) => isDropped = dropped,
      record: (host) => {
        const sent: Uint8Array[] = [];
        internet.onPacket = ({ at, what, packet }) => {
          if (at === host && what === "sent" && packet.protocol === "udp") sent.push(packet.data);
        };
        return sent;
      },
    });
    pair.a.reset();
    pair.b.reset();
    await Promise.all([pair.a.released, pair.b.released]);
  });
}

/** An honest end `b`, and a peer that sends what the test wants. */
function withHalf(
  job: (half: {
    b: UdpConnection;
    send(packet: UdpPacket): Promise<void>;
    received: UdpPacket[];
  }) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet }) => {
    using pair = await udpPair(internet, { delayMs: 5 });
    const { a, b } = pair;
    const received: UdpPacket[] = [];
    const { send } = attacker(internet);
    internet.onPacket = ({ at, what, packet }) => {
      if (at !== "b" || what !== "sent" || packet.protocol !== "udp") return;
      received.push(decodeUdpPacket(packet.data));
    };
    pair.aSocket.close(); // from now on, only the test answers
    await a.released;
    await job({
      b,
      send: (packet) => send(encodeUdpPacket(KEYS.send.pathId, packet), b.local),
      received,
    });
    b.reset();
    await b.released;
  });
}

/** A host that is not on the path. */
function attacker(internet: Internet) {
  const host = internet.host("attacker", { link: { delayMs: 1 } });
  const { network, addresses } = host;
  return {
    send: async (data: Uint8Array, to: TransportAddress) => {
      using socket = await network.bindUdp({ ip: addresses[0]!, port: 0 });
      await socket.send(data, to);
    },
  };
}

async function exchange(a: UdpConnection, b: UdpConnection): Promise<void> {
  for (const [from, to] of [[a, b], [b, a]] as const) {
    await writeAll(from, pattern(3000));
    assertEquals(await readSome(to, 3000), pattern(3000));
  }
}

async function sendAll(end: UdpConnection, data: Uint8Array): Promise<void> {
  await writeAll(end, data);
  await end.closeWrite();
}

async function closeBoth({ a, b }: Pick<UdpPair, "a" | "b">): Promise<void> {
  a.close();
  b.close();
  await Promise.all([a.released, b.released]);
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const DATA = {
  kind: "data",
  number: 0,
  offset: 0,
  data: Uint8Array.of(1),
  isFinal: false,
  isPushed: true,
} as const;

const FORGERIES: readonly UdpPacket[] = [
  DATA,
  { ...DATA, isFinal: true },
  { kind: "pad", number: 1, padding: 100 },
  { kind: "datagram", number: 2, data: concat(Uint8Array.of(1)) },
  { kind: "ack", ranges: [{ start: 0, end: 1 }], delayMs: 0, limit: 2 ** 40 },
  { kind: "reset", counter: 9, value: new Uint8Array(8), mac: new Uint8Array(16) },
];
