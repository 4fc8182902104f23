import { assertEquals, assertRejects } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { RefusedError } from "../../lib/base/errors.ts";
import { encodeMessage, getAttribute } from "../../lib/stun/message.ts";
import {
  CONNECT,
  CONNECTION_ATTEMPT,
  CONNECTION_BIND,
  CREATE_PERMISSION,
} from "../../lib/turn/protocol.ts";
import { openStreamRelay } from "../../lib/turn/open_relay.ts";
import { type Arrived, scriptTcp } from "../stun/scripted_server.ts";
import { deny, grant, grantAll, withTurnHosts } from "./scripted_turn.ts";

const PEER = { ip: "203.0.113.9", port: 9 };

Deno.test("data that arrives with the response to ConnectionBind is the start of the stream", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    using _scripted = await scriptTcp(server.network, at, (one) => {
      if (one.request.method === CONNECT) return [grant(one, [connectionId(7)])];
      if (one.request.method !== CONNECTION_BIND) return [grantAll(one)];
      return [concat(grantAll(one), Uint8Array.of(1, 2, 3, 4, 5))];
    });
    await using relay = await openStreamRelay(`turn:${at.ip}?transport=tcp`, { network: client });
    using connection = await relay.connect(PEER);
    assertEquals([connection.local, connection.remote], [relay.relayed[0], PEER]);
    const buffer = new Uint8Array(3);
    assertEquals([await connection.read(buffer), [...buffer]], [3, [1, 2, 3]]);
    assertEquals([await connection.read(buffer), [...buffer]], [2, [4, 5, 3]]);
  });
});

Deno.test("a flood of ConnectionAttempts is cut off, and those without permission are dropped", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    const attempts = Array.from({ length: 1000 }, (_, i) => [
      attempt({ ip: "203.0.113.66", port: 1000 + i }, i), // not permitted
      attempt({ ...PEER, port: 1000 + i }, i),
    ]).flat();
    using _scripted = await scriptTcp(
      server.network,
      at,
      (one: Arrived) =>
        one.request.method === CREATE_PERMISSION
          ? [concat(grantAll(one), ...attempts)]
          : [grantAll(one)],
    );
    await using relay = await openStreamRelay(`turn:${at.ip}?transport=tcp`, { network: client });
    await relay.permit([PEER.ip]);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const accepted: TcpConnection[] = [];
    await assertRejects(async () => {
      while (true) accepted.push(await relay.accept({ signal: AbortSignal.timeout(1000) }));
    }, DOMException);
    assertEquals(accepted.map(({ remote }) => remote.ip), Array(64).fill(PEER.ip));
    for (const connection of accepted) connection.close();
  });
});

for (const [waitMs, isAccepted] of [[0, true], [29_000, true], [31_000, false]] as const) {
  const what = isAccepted ? "is accepted" : "is not accepted any more";
  Deno.test(`a ConnectionAttempt right after the permission ${what} after ${waitMs} ms`, async () => {
    await withTurnHosts(async ({ client, server, at }) => {
      using _scripted = await scriptTcp(
        server.network,
        at,
        (one: Arrived) =>
          one.request.method === CREATE_PERMISSION
            ? [concat(grantAll(one), attempt(PEER, 1))]
            : [grantAll(one)],
      );
      await using relay = await openStreamRelay(`turn:${at.ip}?transport=tcp`, { network: client });
      await relay.permit([PEER.ip]);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      const accepting = () => relay.accept({ signal: AbortSignal.timeout(1000) });
      if (isAccepted) (await accepting()).close();
      else await assertRejects(accepting, DOMException);
    });
  });
}

for (const [code, isSkipped] of [[400, true], [447, true], [500, true], [403, false]] as const) {
  const what = isSkipped ? "skips a peer" : "reports a peer";
  Deno.test(`accept() ${what} whose connection is refused with ${code}`, async () => {
    await withTurnHosts(async ({ client, server, at }) => {
      using _scripted = await scriptTcp(server.network, at, (one: Arrived) => {
        const { method } = one.request;
        if (method === CREATE_PERMISSION) {
          return [concat(grantAll(one), attempt(PEER, 1), attempt({ ...PEER, port: 10 }, 2))];
        }
        const isFirst = getAttribute(one.request, "CONNECTION-ID") === 1;
        return [method === CONNECTION_BIND && isFirst ? deny(one, code) : grantAll(one)];
      });
      await using relay = await openStreamRelay(`turn:${at.ip}?transport=tcp`, { network: client });
      await relay.permit([PEER.ip]);
      if (!isSkipped) await assertRejects(() => relay.accept(), RefusedError, `${code}`);
      using connection = await relay.accept();
      assertEquals(connection.remote.port, 10);
    });
  });
}

function connectionId(value: number) {
  return { type: "CONNECTION-ID", value } as const;
}

function attempt(peer: TransportAddress, id: number): Uint8Array {
  return encodeMessage({
    class: "indication",
    method: CONNECTION_ATTEMPT,
    transactionId: new Uint8Array(12),
    attributes: [connectionId(id), { type: "XOR-PEER-ADDRESS", value: peer }],
  });
}
