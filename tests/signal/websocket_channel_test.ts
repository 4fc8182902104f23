import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { MAX_SIGNAL_BYTES } from "../../lib/signal/channel.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { assertNetworkError } from "../simnet/fixtures.ts";
import { withRendezvous } from "./rendezvous_fixtures.ts";

Deno.test("two peers in a room receive each other's messages, up to the longest, in order", async () => {
  await withRendezvous(async ({ enter }) => {
    await using a = await enter("kitchen");
    await using b = await enter("kitchen");
    await a.peerPresent();
    const messages = [0, 1, 125, 126, MAX_SIGNAL_BYTES].map((length) =>
      new Uint8Array(length).fill(length)
    );
    for (const message of messages) {
      await a.send(message);
      await b.send(message);
    }
    for (const message of messages) {
      assertEquals(await a.receive(), message);
      assertEquals(await b.receive(), message);
    }
  });
});

Deno.test("messages do not leave their room", async () => {
  await withRendezvous(async ({ enter }) => {
    await using a = await enter("kitchen");
    await using b = await enter("kitchen");
    await using c = await enter("cellar");
    await Promise.all([a.peerPresent(), b.peerPresent()]);
    await a.send(new Uint8Array([1]));
    await b.receive();
    assertEquals(c.isPeerPresent, false);
    const signal = AbortSignal.timeout(100);
    assertEquals(await assertRejects(() => c.receive({ signal })), signal.reason);
  });
});

Deno.test("entering a room takes two round trips, and a message takes one", async () => {
  await withRendezvous(async ({ enter, time }) => {
    await using a = await enter("kitchen");
    assertEquals(Math.round(time.nowMs), 40); // two links of 5 ms: SYN, SYN/ACK, request, response
    await using b = await enter("kitchen");
    assertEquals([Math.round(time.nowMs), b.isPeerPresent], [80, true]);
    await b.send(new Uint8Array(1));
    await a.receive();
    assertEquals(Math.round(time.nowMs), 100);
  });
});

Deno.test("rttMs is the round trip through the server, once the peer is there", async () => {
  await withRendezvous(async ({ enter }) => {
    await using a = await enter("kitchen");
    assertEquals(a.rttMs, undefined);
    await using b = await enter("kitchen");
    await delay(200);
    assertEquals([a.rttMs, b.rttMs].map((ms) => Math.round(ms!)), [40, 40]);
  });
});

Deno.test("the newest message that was sent to an empty room arrives when the peer enters", async () => {
  await withRendezvous(async ({ enter }) => {
    await using a = await enter("kitchen");
    await a.send(new Uint8Array([1]));
    await a.send(new Uint8Array([2]));
    await using b = await enter("kitchen");
    assertEquals([...await b.receive()], [2]);
    await a.send(new Uint8Array([3]));
    assertEquals([...await b.receive()], [3]);
  });
});

Deno.test("a channel learns that its peer has entered, left, and entered again", async () => {
  await withRendezvous(async ({ enter }) => {
    await using a = await enter("kitchen");
    await a.peerAbsent();
    for (let i = 0; i < 2; i++) {
      {
        await using b = await enter("kitchen");
        await Promise.all([a.peerPresent(), b.peerPresent()]);
        assert(a.isPeerPresent);
      }
      await a.peerAbsent();
      assertEquals(a.isPeerPresent, false);
    }
  });
});

Deno.test("a third client is refused, and may enter once one of the two has left", async () => {
  await withRendezvous(async ({ enter }) => {
    await using _a = await enter("kitchen");
    const b = await enter("kitchen");
    const error = await assertRejects(() => enter("kitchen"), RefusedError, "Two are in this room");
    assertEquals(error.code, 409);
    await b[Symbol.asyncDispose]();
    await using _c = await enter("kitchen");
  });
});

Deno.test("a closed channel rejects pending and new calls", async () => {
  await withRendezvous(async ({ enter }) => {
    const a = await enter("kitchen");
    const waiting = [a.receive(), a.peerPresent()];
    a.close();
    a.close();
    for (const attempt of [...waiting, a.receive(), a.peerAbsent(), a.send(new Uint8Array(1))]) {
      await assertNetworkError("closed", () => attempt);
    }
    await a[Symbol.asyncDispose]();
  });
});

Deno.test("a channel breaks when its server ends", async () => {
  await withRendezvous(async ({ enter, server }) => {
    const a = await enter("kitchen");
    const waiting = assertNetworkError("reset", () => a.receive());
    await server[Symbol.asyncDispose]();
    await waiting;
    await a[Symbol.asyncDispose]();
  });
});

Deno.test("an aborted wait rejects with the reason and loses no message", async () => {
  const signal = AbortSignal.abort(new Error("enough"));
  await withRendezvous(async ({ enter }) => {
    await using a = await enter("kitchen");
    await using b = await enter("kitchen");
    for (const wait of [() => a.receive({ signal }), () => a.peerAbsent({ signal })]) {
      assertEquals(await assertRejects(wait), signal.reason);
    }
    await b.send(new Uint8Array([1]));
    assertEquals([...await a.receive()], [1]);
  });
});

Deno.test("send() rejects a message that is too long", async () => {
  await withRendezvous(async ({ enter }) => {
    await using a = await enter("kitchen");
    await assertRejects(() => a.send(new Uint8Array(MAX_SIGNAL_BYTES + 1)), RangeError, "4097");
  });
});

Deno.test("openWebSocketChannel() rejects an invalid room or URL", async () => {
  for (const room of ["", "a/b", "a b", "é", "x".repeat(65), ".."]) {
    await assertRejects(() => openWebSocketChannel("ws://127.0.0.1", room), TypeError, "room");
  }
  await assertRejects(() => openWebSocketChannel("http://127.0.0.1", "a"), TypeError, "ws:");
  await assertRejects(() => openWebSocketChannel("nonsense", "a"), TypeError);
});

Deno.test("openWebSocketChannel() reports an unreachable server, and can be aborted", async () => {
  await withRendezvous(async ({ newHost, server }) => {
    const host = newHost();
    const { ip } = server.local;
    await assertNetworkError("refused", () => {
      return openWebSocketChannel(`ws://${ip}:9`, "a", { network: host.network });
    });
    await assertNetworkError("name-not-found", () => {
      return openWebSocketChannel("ws://nowhere.example", "a", { network: host.network });
    });
    using silent = await host.network.listenTcp({ ip: host.addresses[0]!, port: 80 });
    const signal = AbortSignal.timeout(1000);
    const opening = openWebSocketChannel(`ws://${silent.local.ip}`, "a", {
      network: newHost().network,
      signal,
    });
    using _accepted = await silent.accept();
    assertEquals(await assertRejects(() => opening), signal.reason);
  });
});

Deno.test("openWebSocketChannel() resolves the server's name, and appends the room to a path", async () => {
  await withRendezvous(async ({ internet, newHost, server }) => {
    internet.names.set("meet.example", ["2001:db8::9", server.local.ip]);
    const { network } = newHost();
    await using a = await openWebSocketChannel("ws://meet.example:3480/", "a", { network });
    await a.peerAbsent();
    const error = await assertRejects(
      () => openWebSocketChannel("ws://meet.example:3480/proxied", "a", { network }),
      RefusedError,
    );
    assertEquals(error.code, 404);
  });
});

Deno.test("openWebSocketChannel() rejects a server that is not HTTP", async () => {
  await withRendezvous(async ({ newHost }) => {
    const host = newHost();
    using listener = await host.network.listenTcp({ ip: host.addresses[0]!, port: 80 });
    const opening = openWebSocketChannel(`ws://${listener.local.ip}`, "a", {
      network: newHost().network,
    });
    using connection = await listener.accept();
    await connection.write(new TextEncoder().encode("220 mail.example ESMTP\r\n\r\n"));
    await assertRejects(() => opening, Error, "status line");
    assertEquals(await connection.read(new Uint8Array(1000)) !== null, true);
  });
});

Deno.test("openWebSocketChannel() reports a refused connection on the system's network", async () => {
  const error = await assertRejects(
    () => openWebSocketChannel("ws://127.0.0.1:1", "a"),
    NetworkError,
  );
  assertEquals(error.reason, "refused");
});
