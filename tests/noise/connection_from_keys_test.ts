import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { secureConnectionFromKeys } from "../../lib/noise/secure_connection.ts";
import { connected, readText, toBytes, twoHosts } from "../simnet/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";

const HASH = new Uint8Array(32);

Deno.test("secureConnectionFromKeys() carries both directions without a handshake", () =>
  simulate(async ({ internet, time }) => {
    const link = { delayMs: 10 };
    const [client, server] = [
      internet.host("client", { link }),
      internet.host("server", { link }),
    ];
    const [a, b] = await connected(client, server);
    const one = secureConnectionFromKeys(a, keys(1, 2));
    const other = secureConnectionFromKeys(b, keys(2, 1));
    const startedAtMs = time.nowMs;
    await one.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
    assertEquals(time.nowMs - startedAtMs, 20);
    await other.write(toBytes("world"));
    assertEquals(await readText(one, 5), "world");
    one.reset();
    other.reset();
  }));

Deno.test("secureConnectionFromKeys() rejects data from a peer with other keys", () =>
  simulate(async () => {
    const { client, server } = twoHosts();
    const [a, b] = await connected(client, server);
    const one = secureConnectionFromKeys(a, keys(1, 2));
    const other = secureConnectionFromKeys(b, keys(2, 3));
    await one.write(toBytes("hello"));
    await assertRejects(() => readText(other, 5), MalformedMessageError);
    one.reset();
  }));

Deno.test("secureConnectionFromKeys() rejects keys of the wrong length", () =>
  simulate(async () => {
    const { client, server } = twoHosts();
    const [a, b] = await connected(client, server);
    const short = { ...keys(1, 2), sendKey: new Uint8Array(31) };
    assertThrows(() => secureConnectionFromKeys(a, short), TypeError);
    a.reset();
    b.reset();
  }));

Deno.test("a connection gives back the memory of a transfer once it has little to send", async () => {
  const sizes: number[] = [];
  const address = { ip: "192.0.2.1", port: 1 };
  const connection = secureConnectionFromKeys({
    local: address,
    remote: address,
    read: () => new Promise<never>(() => {}),
    write: (data: Uint8Array) => {
      sizes.push(data.buffer.byteLength);
      return Promise.resolve(data.length);
    },
    closeWrite: () => Promise.resolve(),
    close: () => {},
    reset: () => {},
    [Symbol.dispose]: () => {},
  }, keys(1, 2));
  const send = async (length: number) => {
    await connection.write(new Uint8Array(length));
    await new Promise((resolve) => setTimeout(resolve)); // now it has nothing to send
    return sizes.at(-1)!;
  };
  assertEquals(await send(1), 2048);
  assert(await send(200_000) > 65_536);
  for (let i = 0; i < 4; i++) assert(await send(1) > 65_536);
  assertEquals(await send(1), 2048);
  connection.close();
});

function keys(send: number, receive: number) {
  return {
    sendKey: new Uint8Array(32).fill(send),
    receiveKey: new Uint8Array(32).fill(receive),
    handshakeHash: HASH,
  };
}
