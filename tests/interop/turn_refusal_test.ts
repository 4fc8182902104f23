// Requests that coturn refuses, and the errors that we report.

import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { RefusedError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { Network, UdpSocket } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { FAST_BINDING_WAITS_MS } from "../../lib/stun/client.ts";
import { AuthenticatedTransaction } from "../../lib/stun/transaction.ts";
import { UdpChannel } from "../../lib/stun/transport.ts";
import { allocateAttributes } from "../../lib/turn/allocation.ts";
import { ALLOCATE } from "../../lib/turn/protocol.ts";
import { COTURN, type Coturn, startCoturn } from "./coturn.ts";
import { freePorts } from "./free_ports.ts";
import { toolTest } from "./tool_test_case.ts";
import {
  CREDENTIAL,
  datagrams,
  echoed,
  LOOPBACK,
  startEcho,
  startTurn,
  streams,
} from "./turn_server.ts";

for (const transport of ["udp", "tcp"] as const) {
  toolTest(`a wrong password is refused over ${transport}`, COTURN, async () => {
    await using coturn = await startTurn();
    const credential = { ...CREDENTIAL, password: "wrong" };
    const error = await assertRejects(
      () => datagrams(coturn, { transport, credential }),
      RefusedError,
    );
    assertEquals(error.code, 401);
    assertNotEquals(error.remedy, undefined);
  });
}

toolTest("a request without a credential is refused", COTURN, async () => {
  await using coturn = await startTurn();
  const error = await assertRejects(
    () => datagrams(coturn, { credential: undefined }),
    RefusedError,
  );
  assertEquals(error.code, 401);
  assertNotEquals(error.remedy, undefined);
});

toolTest("a server without users requires no credential", COTURN, async () => {
  await using coturn = await startCoturn({ args: ["--no-auth", "--allow-loopback-peers"] });
  await using relay = await datagrams(coturn, { credential: undefined });
  using peer = await startEcho();
  assertEquals((await echoed(relay.socket, peer.local, "anybody")).text, "anybody");
});

toolTest("an allocation beyond the user's quota is refused", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--user-quota=1"] });
  await using _first = await datagrams(coturn);
  const error = await assertRejects(() => datagrams(coturn), RefusedError);
  assertEquals(error.code, 486);
  assertNotEquals(error.remedy, undefined);
});

toolTest("a server without a free port reports that it is full", COTURN, async () => {
  const [first] = freePorts(1);
  await using coturn = await startTurn({
    args: [`--min-port=${first}`, `--max-port=${first! + 1}`],
  });
  const relays = new AsyncDisposableStack();
  await using _ = relays;
  const error = await assertRejects(async () => {
    for (let i = 0; i < 3; i++) relays.use(await datagrams(coturn));
  }, RefusedError);
  assertEquals(error.code, 508);
});

toolTest("a forbidden peer is refused, and others are not", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--denied-peer-ip=127.0.0.2"] });
  await using relay = await datagrams(coturn);
  using peer = await startEcho();
  const forbidden = { ip: "127.0.0.2", port: peer.local.port };
  for (
    const act of [
      () => relay.socket.send(new Uint8Array(1), forbidden),
      () => relay.permit(["127.0.0.2"]),
    ]
  ) {
    const error = await assertRejects(act, RefusedError, "127.0.0.2");
    assertEquals(error.code, 403);
    assertNotEquals(error.remedy, undefined);
  }
  assertEquals((await echoed(relay.socket, peer.local, "allowed")).text, "allowed");
});

toolTest("a forbidden peer is not dialled", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--denied-peer-ip=127.0.0.2"] });
  await using relay = await streams(coturn);
  const error = await assertRejects(
    () => relay.connect({ ip: "127.0.0.2", port: 9 }),
    RefusedError,
  );
  assertEquals(error.code, 403);
});

toolTest("a peer of another family is refused", COTURN, async () => {
  await using coturn = await startTurn({ addresses: ["127.0.0.1", "::1"] });
  await using relay = await datagrams(coturn);
  const error = await assertRejects(() => relay.permit(["::1"]), RefusedError);
  assertEquals(error.code, 443);
  assertNotEquals(error.remedy, undefined);
});

toolTest("a peer that does not listen is reported", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await streams(coturn);
  const [port] = freePorts(1);
  const peer = { ip: "127.0.0.1", port: port! };
  const error = await assertRejects(() => relay.connect(peer), RefusedError);
  assertEquals(error.code, 447);
  assertNotEquals(error.remedy, undefined);
});

toolTest("a second connection to one peer is refused while the first is open", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await streams(coturn);
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  using _first = await relay.connect(listener.local);
  using _accepted = await listener.accept();
  const error = await assertRejects(() => relay.connect(listener.local), RefusedError);
  assertEquals(error.code, 446);
});

toolTest("a server that does not relay streams is reported", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--no-tcp-relay"] });
  const error = await assertRejects(() => streams(coturn), RefusedError);
  assertEquals(error.code, 442);
});

toolTest("an address of a family that the server lacks is refused", COTURN, async () => {
  await using coturn = await startTurn();
  const error = await assertRejects(
    () => datagrams(coturn, { family: 6 }),
    RefusedError,
  );
  assertEquals(error.code, 440);
  assertNotEquals(error.remedy, undefined);
});

toolTest("an unknown reservation is refused", COTURN, async () => {
  await using coturn = await startTurn();
  const reservationToken = new Uint8Array(8).fill(7);
  const error = await assertRejects(
    () => datagrams(coturn, { reservationToken }),
    RefusedError,
  );
  assertEquals(error.code, 404);
  assertNotEquals(error.remedy, undefined); // RFC 8656 §7.2 has 508 for this
});

toolTest(
  "a given local port with an old allocation on it is refused",
  COTURN,
  async () => {
    await using coturn = await startTurn();
    const { network, local } = await abandonAllocation(coturn);
    const error = await assertRejects(
      () => datagrams(coturn, { network, local }),
      RefusedError,
    );
    assertEquals(error.code, 437);
    assertNotEquals(error.remedy, undefined);
  },
);

toolTest(
  "a chosen local port with an old allocation on it is replaced by another",
  COTURN,
  async () => {
    await using coturn = await startTurn();
    const { network, local } = await abandonAllocation(coturn);
    await using relay = await datagrams(coturn, { network });
    assertNotEquals(relay.mapped, local);
  },
);

toolTest("a redirect to another server is followed", COTURN, async () => {
  await using second = await startTurn();
  const alternate = `--alternate-server=127.0.0.1:${second.address.port}`;
  await using first = await startTurn({ args: [alternate] });
  for (const transport of ["udp", "tcp"] as const) {
    await using relay = await datagrams(first, { transport });
    assertEquals(relay.server, second.address);
    using peer = await startEcho();
    assertEquals((await echoed(relay.socket, peer.local, "over there")).text, "over there");
  }
  await using relay = await streams(first);
  assertEquals(relay.server, second.address);
});

toolTest("a loop of redirects is not followed", COTURN, async () => {
  const [port] = freePorts(1);
  await using first = await startTurn({ args: [`--alternate-server=127.0.0.1:${port}`] });
  const args = [`--alternate-server=127.0.0.1:${first.address.port}`];
  await using _second = await startTurn({ port, args });
  const error = await assertRejects(() => datagrams(first), RefusedError, "it was asked before");
  assertEquals(error.code, 300);
});

/** Leaves an allocation, as a killed program does, on the port that the network binds first. */
async function abandonAllocation(
  coturn: Coturn,
): Promise<{ network: Network; local: TransportAddress }> {
  let socket: UdpSocket | undefined = await systemNetwork.bindUdp(LOOPBACK);
  const { local } = socket;
  const channel = new UdpChannel(socket, coturn.address, { waitsMs: FAST_BINDING_WAITS_MS });
  await new AuthenticatedTransaction(coturn.address, CREDENTIAL).ask(channel, {
    method: ALLOCATE,
    attributes: allocateAttributes({ protocol: "udp" }),
  });
  const network: Network = {
    ...systemNetwork,
    async bindUdp(wanted) {
      const given = socket ?? await systemNetwork.bindUdp(wanted);
      socket = undefined;
      return given;
    },
  };
  return { network, local };
}
