import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { NetworkError, NoResponseError } from "../../lib/base/errors.ts";
import { exchange, type ExchangeOptions } from "../../lib/net/retransmit.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { Datagram, UdpSocket } from "../../lib/net/network.ts";
import { Internet } from "../simnet/internet.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

const ANY = { ip: "0.0.0.0", port: 0 };
const REQUEST = new TextEncoder().encode("request");

Deno.test("exchange() returns the answer, and the time from the request to the answer", async () => {
  await withPeer(async (socket, { options, received }) => {
    const { answer, requests, rttMs } = await exchange(socket, options([1000]));
    assertEquals([answer, requests, rttMs], ["request", 1, 40]);
    assertEquals(received, [20]);
  });
});

Deno.test("exchange() retransmits after each wait", async () => {
  await withPeer(async (socket, { options, received }) => {
    const { requests, rttMs } = await exchange(socket, options([100, 200, 400], { ignored: 2 }));
    assertEquals([requests, rttMs], [3, 40]);
    assertEquals(received, [20, 120, 320]);
  });
});

Deno.test("exchange() accepts the answer to an earlier transmission", async () => {
  await withPeer(async (socket, { options }) => {
    const { requests, rttMs } = await exchange(socket, options([30, 1000]));
    assertEquals([requests, rttMs], [2, 10]);
  });
});

Deno.test("exchange() rejects after the last wait", async () => {
  await withPeer(async (socket, { options, received, time }) => {
    await assertRejects(
      () => exchange(socket, options([100, 200, 400], { ignored: 9 })),
      NoResponseError,
      "no answer to 3 requests in 700 ms",
    );
    assertEquals(time.nowMs, 700);
    assertEquals(received.length, 3);
  });
});

Deno.test("exchange() does not wait longer because of a flood of other datagrams", async () => {
  await withPeer(async (socket, { options, time }) => {
    const flooding = setInterval(() => socket.send(REQUEST, socket.local), 1);
    const accept = () => undefined;
    await assertRejects(
      () => exchange(socket, { ...options([100, 200]), accept }),
      NoResponseError,
    );
    clearInterval(flooding);
    assertEquals(time.nowMs, 300);
  });
});

Deno.test("exchange() rejects with the reason of an abort", async () => {
  await withPeer(async (socket, { options, time }) => {
    const controller = new AbortController();
    const reason = new Error("enough");
    setTimeout(() => controller.abort(reason), 50);
    const error = await assertRejects(() =>
      exchange(socket, { ...options([1000], { ignored: 1 }), signal: controller.signal })
    );
    assertStrictEquals(error, reason);
    assertEquals(time.nowMs, 50);
  });
});

Deno.test("exchange() sends nothing once aborted", async () => {
  await withPeer(async (socket, { options, received }) => {
    const signal = AbortSignal.abort(new Error("too late"));
    await assertRejects(() => exchange(socket, { ...options([1000]), signal }), Error, "too late");
    assertEquals(received, []);
  });
});

Deno.test("exchange() rejects with the errors of accept and of the socket", async () => {
  await withPeer(async (socket, { options }) => {
    const accept = () => {
      throw new RangeError("unacceptable");
    };
    await assertRejects(() => exchange(socket, { ...options([1000]), accept }), RangeError);
    setTimeout(() => socket.close(), 10);
    await assertRejects(
      () => exchange(socket, options([1000], { ignored: 1 })),
      NetworkError,
    );
  });
});

interface Peer {
  readonly time: VirtualTime;
  /** The arrival times of the requests. */
  readonly received: readonly number[];
  /** Exchange options; the peer does not answer the first `ignored` requests. */
  options(waitsMs: readonly number[], peer?: { ignored: number }): ExchangeOptions<string>;
}

/** Runs a test with a peer that echoes, 20 ms away. */
async function withPeer(test: (socket: UdpSocket, peer: Peer) => Promise<void>): Promise<void> {
  using time = new VirtualTime();
  const internet = new Internet();
  const asking = internet.host("asking", { link: { delayMs: 10 } });
  const answering = internet.host("answering", { link: { delayMs: 10 } });
  await time.run(async () => {
    using socket = await asking.network.bindUdp({ ip: asking.addresses[0]!, port: 0 });
    using echo = await answering.network.bindUdp(ANY);
    const to: TransportAddress = { ip: answering.addresses[0]!, port: echo.local.port };
    const received: number[] = [];
    let ignored = 0;
    const serving = serve(echo, async ({ data, from }) => {
      received.push(time.nowMs);
      if (ignored-- <= 0) await echo.send(data, from);
    });
    await test(socket, {
      time,
      received,
      options: (waitsMs, peer = { ignored: 0 }) => {
        ignored = peer.ignored;
        return {
          to,
          request: REQUEST,
          accept: ({ data }) => new TextDecoder().decode(data),
          waitsMs,
        };
      },
    });
    echo.close();
    await serving;
  });
  assertEquals(internet.openSockets(), []);
}

async function serve(
  socket: UdpSocket,
  answer: (datagram: Datagram) => Promise<void>,
): Promise<void> {
  while (true) {
    try {
      await answer(await socket.receive());
    } catch (error) {
      if (error instanceof NetworkError && error.reason === "closed") return;
      throw error;
    }
  }
}
