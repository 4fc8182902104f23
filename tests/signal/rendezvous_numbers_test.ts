// Numbers that a rendezvous server allocates.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { RefusedError } from "../../lib/base/errors.ts";
import { meetingTopic } from "../../lib/signal/transport.ts";
import { decodeNumberNotice, encodeNumberNotice } from "../../lib/signal/rendezvous/message.ts";
import { NumberReservations } from "../../lib/signal/rendezvous/numbers.ts";
import { newHandshakeReader, readHead } from "../../lib/signal/websocket/connection.ts";
import { WebSocketConnection } from "../../lib/signal/websocket/connection.ts";
import {
  encodeUpgradeResponse,
  judgeUpgradeRequest,
} from "../../lib/signal/websocket/handshake.ts";
import { webSocketTransport } from "../../lib/signal/rendezvous/transport.ts";
import { simulate } from "../simnet/simulate.ts";
import { join, LINK, withRendezvous } from "./rendezvous_fixtures.ts";

Deno.test("a number notice has the documented text, and other text is unknown", () => {
  assertEquals(encodeNumberNotice({ kind: "request" }), '{"number":"request"}');
  assertEquals(encodeNumberNotice({ kind: "allocated", number: 7 }), '{"number":7}');
  assertEquals(encodeNumberNotice({ kind: "allocated", number: undefined }), '{"number":null}');
  assertEquals(decodeNumberNotice('{"number":"request"}'), { kind: "request" });
  assertEquals(decodeNumberNotice('{"number":7}'), { kind: "allocated", number: 7 });
  assertEquals(decodeNumberNotice('{"number":null}'), { kind: "allocated", number: undefined });
  for (
    const text of ["", "7", '{"number":12345}', '{"number":-1}', '{"number":1.5}', '{"peer":1}']
  ) {
    assertEquals(decodeNumberNotice(text), { kind: "unknown" });
  }
});

Deno.test("allocateNumber() gives each client another number, the first nine of one digit", () =>
  withRendezvous(async (place) => {
    const numbers: number[] = [];
    await using clients = new AsyncDisposableStack();
    for (let i = 0; i < 12; i++) {
      const signaling = clients.use(await join(place));
      const number = await signaling.allocateNumber!();
      numbers.push(number!);
      clients.use(await signaling.subscribe(meetingTopic(number!), () => {}));
    }
    assertEquals(new Set(numbers).size, 12);
    assertEquals(numbers.filter((number) => number < 10).length, 9);
    assert(numbers.every((number) => number >= 1 && number < 100));
  }));

Deno.test("a number that is reserved cannot be subscribed to by another, until ten seconds later", () => {
  const numbers = new NumberReservations<string>();
  const chance = { nowMs: 0, random: 0 };
  assertEquals(numbers.reserve("a", () => false, chance), 1);
  assertEquals(numbers.take("b", meetingTopic(1), 9999), false);
  assertEquals(numbers.take("b", meetingTopic(2), 0), true);
  assertEquals(numbers.take("b", meetingTopic(1), 10_000), true);
  assertEquals(numbers.reserve("b", () => false, chance), 1);
  assertEquals(numbers.take("b", meetingTopic(1), 0), true);
  assertEquals(numbers.take("a", meetingTopic(1), 0), true); // the reservation has ended
});

Deno.test("a number is free again once its client has left, or its time is over", () => {
  const numbers = new NumberReservations<string>();
  for (let i = 1; i <= 4; i++) {
    assertEquals(numbers.reserve("a", () => false, { nowMs: 0, random: 0 }), i);
  }
  assertEquals(numbers.reserve("a", () => false, { nowMs: 0, random: 0 }), undefined);
  assertEquals(numbers.reserve("b", () => false, { nowMs: 0, random: 0 }), 5);
  numbers.leave("a");
  assertEquals(numbers.reserve("b", () => false, { nowMs: 0, random: 0 }), 1);
  assertEquals(numbers.reserve("c", () => false, { nowMs: 10_000, random: 0.9999 }), 9);
});

Deno.test("numbers with subscribers are not allocated; if all have some, none is", () => {
  const numbers = new NumberReservations<string>();
  const used = new Set(Array.from({ length: 99 }, (_, index) => meetingTopic(index + 1)));
  const chance = { nowMs: 0, random: 0 };
  assertEquals(numbers.reserve("a", (topic) => used.has(topic), chance), 100);
  assertEquals(numbers.reserve("a", () => true, chance), undefined);
});

Deno.test("the server refuses to subscribe others to a number that it has just allocated", () =>
  withRendezvous(async (place) => {
    await using a = await join(place);
    await using b = await join(place);
    const number = await a.allocateNumber!();
    await assertRejects(() => b.subscribe(meetingTopic(number!), () => {}), RefusedError);
    await using _own = await a.subscribe(meetingTopic(number!), () => {});
  }));

Deno.test("a flood of requests for numbers costs its sender the connection", () =>
  withRendezvous(async (place) => {
    const socket = await place.open("topics/1");
    for (let i = 0; i < 20; i++) {
      socket.send("text", new TextEncoder().encode('{"number":"request"}'));
    }
    const answers: string[] = [];
    for (;;) {
      const message = await socket.receive();
      if (message.kind === "text") answers.push(message.text);
      if (message.kind === "close") break;
    }
    assertEquals(answers.filter((each) => /\d/.test(each)).length, 4);
    socket.close(1000, "");
    await socket.finish();
  }, { topicBurst: 10, topicMessagesPerSecond: 1 }));

Deno.test("allocateNumber() notices a server that drops the request, without a timeout", () =>
  simulate(async ({ internet, time }) => {
    const host = internet.host("server", { link: LINK });
    const local = { ip: host.addresses[0]!, port: 3480 };
    using listener = await host.network.listenTcp(local);
    const serving = (async () => {
      const connection = await listener.accept();
      const reader = newHandshakeReader(connection);
      const request = judgeUpgradeRequest(await readHead(connection, reader));
      if (request.kind !== "upgrade") throw new Error("refused");
      const handshake = encodeUpgradeResponse(request.key);
      const limits = { maxMessageBytes: 5000, maxQueuedBytes: 5000 };
      const socket = new WebSocketConnection(connection, {
        role: "server",
        reader,
        handshake,
        limits,
      });
      for (;;) {
        const message = await socket.receive();
        if (message.kind === "close") break;
        if (message.kind === "binary" && message.data[0] === 1) socket.send("binary", message.data);
      }
      socket.close(1000, "");
      await socket.finish();
    })();
    {
      const { network } = internet.host("client", { link: LINK });
      await using signaling = await webSocketTransport(`ws://${local.ip}:3480`).open({ network });
      const startMs = time.nowMs;
      assertEquals(await signaling.allocateNumber!(), undefined);
      assertEquals(time.nowMs - startMs, 4 * LINK.delayMs);
    }
    await serving;
  }));
