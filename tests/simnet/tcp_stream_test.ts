import { assertEquals, assertGreaterOrEqual, assertLessOrEqual } from "@std/assert";
import { delay } from "@std/async/delay";
import { formatTransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import {
  assertNetworkError,
  at,
  connected,
  readText,
  recordFlags,
  toBytes,
  twoHosts,
} from "./fixtures.ts";
import { Internet } from "./internet.ts";
import { VirtualTime } from "./virtual_time.ts";

Deno.test("closeWrite() ends one direction, and the other continues", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = twoHosts({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    await connection.write(toBytes("question"));
    await connection.closeWrite();
    assertEquals(await readText(accepted, 8), "question");
    assertEquals(await accepted.read(new Uint8Array(1)), null);
    assertEquals(await accepted.read(new Uint8Array(1)), null);
    await assertNetworkError("closed", () => connection.write(toBytes("more")));
    await delay(200_000);
    await accepted.write(toBytes("answer"));
    assertEquals(await readText(connection, 6), "answer");
    accepted.close();
    assertEquals(await connection.read(new Uint8Array(1)), null);
    connection.close();
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("reset() reaches the peer as an error, after the data sent before", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    await connection.write(toBytes("last words"));
    connection.reset();
    connection.reset();
    await delay(100);
    assertEquals(await readText(accepted, 10), "last words");
    await assertNetworkError("reset", () => accepted.read(new Uint8Array(1)));
    await assertNetworkError("reset", () => accepted.write(toBytes("x")));
    await assertNetworkError("closed", () => connection.read(new Uint8Array(1)));
  });
});

Deno.test("close() resets the connection if bytes are left unread, as Linux does", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = twoHosts({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    await connection.write(toBytes("unread"));
    await delay(100);
    const flags = recordFlags(internet);
    accepted.close();
    await assertNetworkError("reset", () => connection.read(new Uint8Array(1)));
    assertEquals(flags, ["server rst+ack"]);
  });
});

Deno.test("close() rejects this side's pending read", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts();
  await time.run(async () => {
    const [connection] = await connected(client, server);
    const reading = assertNetworkError("closed", () => connection.read(new Uint8Array(1)));
    connection.close();
    connection.close();
    await reading;
    await assertNetworkError("closed", () => connection.write(toBytes("x")));
    await assertNetworkError("closed", () => connection.closeWrite());
  });
});

Deno.test("the side that closes first lingers in TIME_WAIT for a minute; RST leaves nothing behind", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts({ link: { delayMs: 10 } });
  await time.run(async () => {
    using listener = await server.network.listenTcp(at(server, 80));
    const dial = () => client.network.connectTcp(at(server, 80), { local: at(client, 5000) });
    for (const end of ["reset", "close"] as const) {
      const connection = await dial();
      const accepted = await listener.accept();
      connection[end]();
      await delay(100);
      accepted.close();
    }
    await assertNetworkError("address-in-use", dial);
    await delay(59_000);
    await assertNetworkError("address-in-use", dial);
    await delay(1_100);
    (await dial()).close();
  });
});

Deno.test("a writer waits for a slow reader", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    const data = pattern(1_000_000);
    let written = 0;
    const writing = (async () => {
      while (written < data.length) written += await connection.write(data.subarray(written));
      await connection.closeWrite();
    })();
    await delay(10_000);
    assertEquals(written, 2 * 65_535); // one buffer at each end
    assertEquals(await readAll(accepted), data);
    await writing;
  });
});

Deno.test("data arrives complete and in order over a link with loss, duplication and reordering", async () => {
  const transfer = async (seed: number) => {
    using time = new VirtualTime();
    const link = { delayMs: 10, jitterMs: 5, loss: 0.1, duplication: 0.1, reordering: 0.1 };
    const internet = new Internet({ seed });
    const client = internet.host("client", { link });
    const server = internet.host("server");
    await time.run(async () => {
      const [connection, accepted] = await connected(client, server);
      const data = pattern(100_000);
      const writing = (async () => {
        for (let sent = 0; sent < data.length;) sent += await connection.write(data.subarray(sent));
        connection.close();
      })();
      assertEquals(await readAll(accepted), data);
      await writing;
      accepted.close();
    });
    assertEquals(internet.openSockets(), []);
    return time.nowMs;
  };
  const took = [await transfer(1), await transfer(2), await transfer(3)];
  assertEquals([await transfer(1), await transfer(2), await transfer(3)], took);
  assertEquals(new Set(took).size, 3);
});

Deno.test("a connection survives an outage, but times out if the outage does not end", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    const { down } = server.link;
    down.behavior = { ...down.behavior, outages: [[0, 30_000], [60_000, Infinity]] };
    await connection.write(toBytes("late"));
    assertEquals(await readText(accepted, 4), "late");
    assertGreaterOrEqual(time.nowMs, 30_000);
    assertLessOrEqual(time.nowMs, 60_000);
    await delay(60_000 - time.nowMs);
    await connection.write(toBytes("never"));
    await assertNetworkError("timed-out", () => connection.read(new Uint8Array(1)));
    accepted.close();
  });
});

Deno.test("openSockets() lists sockets that were not closed", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = twoHosts();
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    const [near, far] = [
      formatTransportAddress(connection.local),
      formatTransportAddress(accepted.local),
    ];
    assertEquals(internet.openSockets(), [
      `client: TCP ${near} to ${far}`,
      `server: TCP ${far} to ${near}`,
    ]);
    connection.close();
    assertEquals(internet.openSockets(), [`server: TCP ${far} to ${near}`]);
    accepted.close();
    assertEquals(internet.openSockets(), []);
  });
});

async function readAll(connection: TcpConnection): Promise<Uint8Array> {
  const chunks: number[] = [];
  const buffer = new Uint8Array(10_000);
  for (
    let read = await connection.read(buffer);
    read !== null;
    read = await connection.read(buffer)
  ) {
    chunks.push(...buffer.subarray(0, read));
  }
  return Uint8Array.from(chunks);
}

function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => index * 7 + (index >> 8));
}
