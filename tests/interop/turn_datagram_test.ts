// Datagrams relayed by coturn: all transports, both forms, both families, and all options.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { Network } from "../../lib/net/network.ts";
import { decodeMessage, getAttribute } from "../../lib/stun/message.ts";
import { REFRESH, RFC8656_TIMINGS, startsChannelData } from "../../lib/turn/protocol.ts";
import type { DatagramRelay } from "../../lib/turn/datagram_relay.ts";
import { timeLimitedCredential } from "../../lib/turn/time_limited_credential.ts";
import { openRelay } from "../../lib/turn/open_relay.ts";
import { COTURN, type Coturn, COTURN_TLS, startCoturn } from "./coturn.ts";
import { toolTest } from "./tool_test_case.ts";
import { CREDENTIAL, datagrams, echoed, LOOPBACK, startEcho, startTurn } from "./turn_server.ts";

for (const transport of ["udp", "tcp", "tls"] as const) {
  toolTest(`coturn relays datagrams both ways over ${transport}`, COTURN_TLS, async () => {
    await using coturn = await startTurn({ tls: transport === "tls" });
    await using relay = await datagrams(coturn, { transport });
    using peer = await startEcho();
    for (const text of ["", "a", "four", "x".repeat(1200)]) {
      assertEquals(await echoed(relay.socket, peer.local, text), { text, from: peer.local });
    }
  });
}

toolTest("the peer sees the relayed address as the sender", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await datagrams(coturn);
  using peer = await systemNetwork.bindUdp(LOOPBACK);
  await relay.socket.send(new Uint8Array(1), peer.local);
  assertEquals((await peer.receive()).from, relay.relayed[0]);
  assertEquals(relay.socket.local, relay.relayed[0]);
});

for (const channels of [true, false]) {
  const form = channels ? "ChannelData" : "Send and Data indications";
  toolTest(`datagrams are sent as ${form}`, COTURN, async () => {
    await using coturn = await startTurn();
    const { network, sent, received } = recording(systemNetwork);
    await using relay = await datagrams(coturn, { network, channels });
    using peer = await startEcho();
    for (const text of ["first", "second"]) {
      assertEquals((await echoed(relay.socket, peer.local, text)).text, text);
    }
    assertEquals([sent, received].map((log) => log.filter(startsChannelData).length > 0), [
      channels,
      channels,
    ]);
  });
}

toolTest("datagrams that must not be fragmented are relayed", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await datagrams(coturn, { dontFragment: true });
  using peer = await startEcho();
  assertEquals((await echoed(relay.socket, peer.local, "whole")).text, "whole");
});

toolTest("one relay talks to many peers, and keeps them apart", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await datagrams(coturn);
  using peers = new DisposableStack();
  for (let i = 0; i < 20; i++) {
    const peer = peers.use(await startEcho());
    assertEquals(await echoed(relay.socket, peer.local, `${i}`), {
      text: `${i}`,
      from: peer.local,
    });
  }
});

toolTest("a permitted peer may send first", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await datagrams(coturn);
  using peer = await systemNetwork.bindUdp(LOOPBACK);
  await relay.permit(["127.0.0.1"]);
  await peer.send(new TextEncoder().encode("hello"), relay.relayed[0]);
  const { data, from } = await relay.socket.receive({ signal: AbortSignal.timeout(5000) });
  assertEquals([new TextDecoder().decode(data), from], ["hello", peer.local]);
});

toolTest("permissions and channels are renewed before coturn forgets them", COTURN, async () => {
  const args = ["--permission-lifetime=2", "--channel-lifetime=3"];
  await using coturn = await startTurn({ args });
  const timings = { ...RFC8656_TIMINGS, permissionLifetimeMs: 2000, channelLifetimeMs: 3000 };
  await using relay = await datagrams(coturn, { timings });
  using peer = await systemNetwork.bindUdp(LOOPBACK);
  await relay.socket.send(new Uint8Array(1), peer.local);
  const { from } = await peer.receive();
  const untilMs = performance.now() + 7000; // twice as long as either lives
  for (let i = 0; performance.now() < untilMs; i++) {
    await peer.send(Uint8Array.of(i), from);
    const { data } = await relay.socket.receive({ signal: AbortSignal.timeout(1000) });
    assertEquals(data, Uint8Array.of(i));
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
});

toolTest("the allocation outlives its lifetime because it is refreshed", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--max-allocate-lifetime=2"] });
  await using relay = await datagrams(coturn, { transport: "tcp", lifetimeSeconds: 2 });
  using peer = await startEcho();
  await new Promise((resolve) => setTimeout(resolve, 5000));
  assertEquals((await echoed(relay.socket, peer.local, "alive")).text, "alive");
});

toolTest("IPv6 peers are relayed from an IPv6 address", COTURN, async () => {
  await using coturn = await startTurn({ addresses: ["127.0.0.1", "::1"] });
  await using relay = await datagrams(coturn, { family: 6 });
  assertEquals(relay.relayed[0].ip, "::1");
  using peer = await startEcho({ ip: "::1", port: 0 });
  assertEquals((await echoed(relay.socket, peer.local, "six")).from, peer.local);
});

toolTest("the server is reached over IPv6", COTURN, async () => {
  await using coturn = await startTurn({ addresses: ["::1", "127.0.0.1"] });
  const uri = `turn:[::1]:${coturn.address.port}`;
  await using relay = await openRelay(uri, { credential: CREDENTIAL, family: 4 });
  using peer = await startEcho();
  assertEquals((await echoed(relay.socket, peer.local, "four")).from, peer.local);
});

toolTest("a dual allocation has an address of each family", COTURN, async () => {
  await using coturn = await startTurn({ addresses: ["127.0.0.1", "::1"] });
  await using relay = await datagrams(coturn, { family: "dual" });
  assertEquals(relay.relayed.map(({ ip }) => ip), ["127.0.0.1", "::1"]);
  assertEquals(relay.refused, []);
  for (const ip of ["127.0.0.1", "::1"]) {
    using peer = await startEcho({ ip, port: 0 });
    assertEquals((await echoed(relay.socket, peer.local, ip)).from, peer.local);
  }
});

toolTest("a dual allocation reports why it has no IPv6 address", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--relay-ip=127.0.0.1"] });
  await using relay = await datagrams(coturn, { family: "dual" });
  assertEquals(relay.relayed.map(({ ip }) => ip), ["127.0.0.1"]);
  assertEquals(relay.refused.map(({ family, code }) => [family, code]), [[6, 440]]);
});

toolTest(
  "an even port is even, and the next relay can have the reserved next port",
  COTURN,
  async () => {
    await using coturn = await startTurn();
    await using first = await datagrams(coturn, { evenPort: "reserve-next" });
    const { port } = first.relayed[0];
    assertEquals(port % 2, 0);
    const { reservationToken } = first;
    assert(reservationToken !== undefined);
    await using second = await datagrams(coturn, { reservationToken });
    assertEquals(second.relayed[0].port, port + 1);
    await using third = await datagrams(coturn, { evenPort: "alone" });
    assertEquals([third.relayed[0].port % 2, third.reservationToken], [0, undefined]);
  },
);

toolTest("time-limited credentials are accepted until they expire", COTURN, async () => {
  const args = ["--use-auth-secret", "--static-auth-secret=north", "-r", "example.org"];
  await using coturn = await startCoturn({ args: ["--allow-loopback-peers", ...args] });
  const nowSeconds = Date.now() / 1000;
  const good = timeLimitedCredential("north", { expiresAtSeconds: nowSeconds + 60, user: "ann" });
  await using relay = await datagrams(coturn, { credential: good });
  assertEquals(relay.relayed[0].ip, "127.0.0.1");
  for (
    const credential of [
      timeLimitedCredential("north", { expiresAtSeconds: nowSeconds - 60, user: "ann" }),
      timeLimitedCredential("south", { expiresAtSeconds: nowSeconds + 60, user: "ann" }),
    ]
  ) {
    const error = await assertRejects(() => datagrams(coturn, { credential }), RefusedError);
    assertEquals(error.code, 401);
  }
});

toolTest("a relay moves to another socket, and keeps its address", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--mobility"] });
  const { network, sources } = recording(systemNetwork);
  await using relay = await datagrams(coturn, { network, mobility: true });
  using peer = await startEcho();
  assertEquals((await echoed(relay.socket, peer.local, "here")).text, "here");
  for (const text of ["there", "and elsewhere"]) {
    await relay.move();
    assertEquals((await echoed(relay.socket, peer.local, text)).text, text);
  }
  assertEquals(new Set(sources()).size, 3);
});

toolTest(
  "a relay survives refreshes and requests during a move, and can be closed during one",
  COTURN,
  async () => {
    await using coturn = await startTurn({ args: ["--mobility", "--user-quota=1"] });
    const timings = { ...RFC8656_TIMINGS, udpKeepaliveMs: 500 };
    using peer = await startEcho();
    {
      await using relay = await datagrams(coturn, { mobility: true, timings });
      for (let i = 0; i < 4; i++) {
        const moved = relay.move();
        await new Promise((resolve) => setTimeout(resolve, 50));
        await relay.permit([`127.0.1.${i + 1}`]);
        await moved;
        await new Promise((resolve) => setTimeout(resolve, 600)); // a refresh is due meanwhile
        assertEquals((await echoed(relay.socket, peer.local, `${i}`)).text, `${i}`);
      }
      const moved = assertRejects(() => relay.move(), NetworkError, "it is closed");
      await new Promise((resolve) => setTimeout(resolve, 50));
      await relay.close();
      await moved;
    }
    await using _next = await openSoon(coturn);
  },
);

toolTest("a relay at a server without mobility works, and does not move", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await datagrams(coturn, { mobility: true });
  await assertRejects(() => relay.move(), TypeError, "the server does not support it");
});

toolTest("a relay without mobility does not move", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--mobility"] });
  await using relay = await datagrams(coturn);
  await assertRejects(() => relay.move(), TypeError, "opened without mobility");
});

toolTest("a closed relay is released at the server", COTURN, async () => {
  await using coturn = await startTurn();
  const { network, sent, received } = recording(systemNetwork);
  const relay = await datagrams(coturn, { network });
  await Promise.all([relay.close(), relay.close()]);
  await relay.finished;
  for (const [log, kind] of [[sent, "request"], [received, "success"]] as const) {
    const last = decodeMessage(log.at(-1)!);
    assertEquals([last.class, last.method, getAttribute(last, "LIFETIME")], [kind, REFRESH, 0]);
  }
  await assertRejects(() => relay.socket.receive(), NetworkError, "it is closed");
  await assertRejects(() => relay.socket.send(new Uint8Array(1), LOOPBACK), NetworkError);
});

/** Opens the next relay of a user with a quota of one: coturn counts the old one for a second after its release. */
async function openSoon(coturn: Coturn): Promise<DatagramRelay> {
  for (let tries = 1;; tries++) {
    try {
      return await datagrams(coturn);
    } catch (error) {
      if (!(error instanceof RefusedError && error.code === 486) || tries === 10) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** A network that records what its UDP sockets send and receive. */
function recording(
  network: Network,
): { network: Network; sent: Uint8Array[]; received: Uint8Array[]; sources(): number[] } {
  const sent: Uint8Array[] = [];
  const received: Uint8Array[] = [];
  const ports: number[] = [];
  const recorded: Network = {
    ...network,
    async bindUdp(local) {
      const socket = await network.bindUdp(local);
      ports.push(socket.local.port);
      return {
        local: socket.local,
        send(data, to) {
          sent.push(data);
          return socket.send(data, to);
        },
        async receive(options) {
          const datagram = await socket.receive(options);
          received.push(datagram.data);
          return datagram;
        },
        close: () => socket.close(),
        [Symbol.dispose]: () => socket.close(),
      };
    },
  };
  return { network: recorded, sent, received, sources: () => ports };
}
