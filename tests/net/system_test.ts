import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { NAME_SERVER_REMEDY, toNetworkError } from "../../lib/net/system/platform.ts";
import type { Shortage, TcpConnection } from "../../lib/net/network.ts";
import net from "node:net";

const LOOPBACK = { ip: "127.0.0.1", port: 0 };

async function assertReason(promise: Promise<unknown>, reason: string): Promise<void> {
  const error = await assertRejects(() => promise, NetworkError);
  assertEquals(error.reason, reason);
}

async function connectedPair(): Promise<[TcpConnection, TcpConnection]> {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  return await Promise.all([systemNetwork.connectTcp(listener.local), listener.accept()]);
}

for (const ip of ["127.0.0.1", "::1"]) {
  Deno.test(`bindUdp() carries datagrams between two sockets on ${ip}`, async () => {
    using a = await systemNetwork.bindUdp({ ip, port: 0 });
    using b = await systemNetwork.bindUdp({ ip, port: 0 });
    await a.send(new Uint8Array([1, 2, 3]), b.local);
    const { data, from } = await b.receive();
    assertEquals([...data], [1, 2, 3]);
    assertEquals(from, a.local);
  });
}

for (const [driver, multicast] of [["Deno", undefined], ["node:dgram", {}]] as const) {
  Deno.test(`bindUdp() receives datagrams as long as maxDatagramBytes whole, with ${driver}`, async () => {
    using a = await systemNetwork.bindUdp(LOOPBACK);
    using b = await systemNetwork.bindUdp(LOOPBACK, { maxDatagramBytes: 1452, multicast });
    for (const length of [1452, 1, 1452]) {
      await a.send(new Uint8Array(length).fill(length), b.local);
      assertEquals((await b.receive()).data, new Uint8Array(length).fill(length));
    }
  });

  Deno.test(`bindUdp() sends what an answerer returns, and only what it leaves is received, with ${driver}`, async () => {
    const outcomes: boolean[] = [];
    const reply = new Uint8Array(1);
    const answers: Record<number, Uint8Array> = { 1: reply, 2: new Uint8Array(70_000) };
    using a = await systemNetwork.bindUdp(LOOPBACK);
    using b = await systemNetwork.bindUdp(LOOPBACK, {
      multicast,
      accepts: ([first]) => first !== 9,
      answerer: {
        answer([first = 0, second = 0], from) {
          assertEquals(from, a.local);
          reply[0] = second; // one array for all answers
          return answers[first];
        },
        onAnswered: (isSent) => outcomes.push(isSent),
      },
    });
    for (const data of [[1, 5], [1, 6], [2], [9], [3]]) {
      await a.send(Uint8Array.from(data), b.local);
    }
    assertEquals([...(await b.receive()).data], [3]);
    assertEquals([...(await a.receive()).data], [5]);
    assertEquals([...(await a.receive()).data], [6]);
    assertEquals(outcomes.toSorted(), [false, true, true]); // 70,000 bytes are too long
  });
}

Deno.test("bindUdp() rejects an address that is in use, and one that is not ours", async () => {
  using socket = await systemNetwork.bindUdp(LOOPBACK);
  await assertReason(systemNetwork.bindUdp(socket.local), "address-in-use");
  await assertReason(systemNetwork.bindUdp({ ip: "192.0.2.77", port: 0 }), "address-not-available");
});

Deno.test("receive() rejects with the reason of an abort, and loses no datagram", async () => {
  using a = await systemNetwork.bindUdp(LOOPBACK);
  using b = await systemNetwork.bindUdp(LOOPBACK);
  const controller = new AbortController();
  const aborted = b.receive({ signal: controller.signal });
  const reason = new Error("enough");
  controller.abort(reason);
  assertEquals(await assertRejects(() => aborted), reason);
  await a.send(new Uint8Array([7]), b.local);
  assertEquals([...(await b.receive()).data], [7]);
});

Deno.test("receive() rejects once the socket is closed", async () => {
  const socket = await systemNetwork.bindUdp(LOOPBACK);
  const waiting = socket.receive();
  socket.close();
  socket.close();
  await assertReason(waiting, "closed");
  await assertReason(socket.receive(), "closed");
});

Deno.test("connectTcp() reads, writes and half-closes", async () => {
  const [a, b] = await connectedPair();
  await a.write(new TextEncoder().encode("hello"));
  await a.closeWrite();
  const buffer = new Uint8Array(3);
  assertEquals(await b.read(buffer), 3);
  assertEquals(await b.read(buffer), 2);
  assertEquals(await b.read(buffer), null);
  await b.write(new Uint8Array([9]));
  assertEquals(await a.read(buffer), 1);
  a.close();
  b.close();
});

Deno.test("connectTcp() dials two remotes from one local port, and listenTcp() can share it", async () => {
  using first = await systemNetwork.listenTcp(LOOPBACK);
  using second = await systemNetwork.listenTcp(LOOPBACK);
  using a = await systemNetwork.connectTcp(first.local, { local: LOOPBACK });
  using b = await systemNetwork.connectTcp(second.local, { local: a.local });
  assertEquals(a.local, b.local);
  using onSamePort = await systemNetwork.listenTcp(a.local);
  using c = await systemNetwork.connectTcp(onSamePort.local);
  using accepted = await onSamePort.accept();
  assertEquals(accepted.remote, c.local);
  for (const listener of [first, second]) (await listener.accept()).close();
});

Deno.test("connectTcp() reports a refusal", async () => {
  const listener = await systemNetwork.listenTcp(LOOPBACK);
  const { local } = listener;
  listener.close();
  await assertReason(systemNetwork.connectTcp(local), "refused");
});

Deno.test("connectTcp() distinguishes a local address that is not ours from a connection that already exists", async () => {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  const foreign = { ip: "192.0.2.77", port: 0 };
  await assertReason(
    systemNetwork.connectTcp(listener.local, { local: foreign }),
    "address-not-available",
  );
  await assertReason(systemNetwork.listenTcp(foreign), "address-not-available");
  using first = await systemNetwork.connectTcp(listener.local, { local: LOOPBACK });
  await assertReason(
    systemNetwork.connectTcp(listener.local, { local: first.local }),
    "address-in-use",
  );
  (await listener.accept()).close();
});

Deno.test("connectTcp() rejects with the signal's reason", async () => {
  const signal = AbortSignal.abort(new Error("no more"));
  const error = await assertRejects(() => systemNetwork.connectTcp(LOOPBACK, { signal }), Error);
  assertEquals(error.message, "no more");
});

Deno.test("the other side sees reset() as a reset, and close() as the end of the stream", async () => {
  const [a, b] = await connectedPair();
  a.reset();
  await assertReason(b.read(new Uint8Array(1)), "reset");
  b.close();
  const [c, d] = await connectedPair();
  c.close();
  assertEquals(await d.read(new Uint8Array(1)), null);
  d.close();
});

Deno.test("listenTcp() survives peers that reset their connections at once", async () => {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const program = `
    const { systemNetwork } = await import("${import.meta.resolve("../../lib/net/system.ts")}");
    const dial = async () => (await systemNetwork.connectTcp(${
    JSON.stringify(listener.local)
  })).reset();
    for (let i = 0; i < 200; i++) {
      await Promise.allSettled([dial(), dial(), dial(), dial()]);
      if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  `;
  const running = new Deno.Command(Deno.execPath(), { args: ["eval", program] }).output();
  const ended = new AbortController();
  const accepting = (async () => {
    for (;;) (await listener.accept({ signal: ended.signal })).close();
  })();
  accepting.catch(() => {});
  assertEquals((await running).success, true);
  using _last = await systemNetwork.connectTcp(listener.local);
  ended.abort();
});

Deno.test({
  name: "a listener whose handle cannot be renewed ends with the cause, and not as a shortage",
  ignore: Deno.build.os === "windows", // it renews no handle there
  async fn() {
    const shortages: Shortage[] = [];
    const onShortage = (event: Shortage) => void shortages.push(event);
    using listener = await systemNetwork.listenTcp(LOOPBACK, { onShortage });
    using _failing = failToRenew("EINVAL");
    const error = await assertRejects(() => listener.accept(), NetworkError, "listen EINVAL");
    assertEquals(error.reason, "other");
    assertEquals(shortages, []);
  },
});

Deno.test({
  name: "a listener whose handle cannot be renewed for too many open files goes on when it can",
  ignore: Deno.build.os === "windows", // it renews no handle there
  async fn() {
    const begun = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    const onShortage = (event: Shortage) => (event === "begins" ? begun : ended).resolve();
    using listener = await systemNetwork.listenTcp(LOOPBACK, { onShortage });
    {
      using _failing = failToRenew("EMFILE");
      await begun.promise;
    }
    await ended.promise;
    using client = await systemNetwork.connectTcp(listener.local);
    using accepted = await listener.accept();
    assertEquals(accepted.remote, client.local);
  },
});

Deno.test("read() and write() on a closed connection reject", async () => {
  const [a, b] = await connectedPair();
  a.close();
  await assertReason(a.read(new Uint8Array(1)), "closed");
  await assertReason(a.write(new Uint8Array(1)), "closed");
  b.close();
});

Deno.test("ownsAddress() recognises this host's addresses without further permissions", async () => {
  assert(await systemNetwork.ownsAddress("127.0.0.1"));
  assert(!await systemNetwork.ownsAddress("192.0.2.77"));
});

Deno.test({
  name: "defaultGateways() is undefined without the permission",
  permissions: "none",
  fn: async () => assertEquals(await systemNetwork.defaultGateways(), undefined),
});

Deno.test("resolve() returns IP addresses of the right family unchanged", async () => {
  assertEquals(await systemNetwork.resolve("127.0.0.1", 4), ["127.0.0.1"]);
  await assertReason(systemNetwork.resolve("127.0.0.1", 6), "name-not-found");
});

/** Until it is disposed, no file descriptor can be listened on. Those that it is given are closed. */
function failToRenew(code: string): Disposable {
  const prototype: { listen: net.Server["listen"] } = net.Server.prototype;
  const { listen } = prototype;
  const fail = function (this: net.Server, where: { fd: number }): net.Server {
    const owner = net.createServer();
    listen.call(owner, where, () => owner.close());
    queueMicrotask(() => this.emit("error", Object.assign(new Error(`listen ${code}`), { code })));
    return this;
  };
  prototype.listen = fail as typeof listen;
  return { [Symbol.dispose]: () => void (prototype.listen = listen) };
}

Deno.test("a lookup that fails at once does not say that it timed out", () => {
  const cause = Object.assign(new Error("getaddrinfo EAI_AGAIN"), { code: "EAI_AGAIN" });
  const { message, reason, remedy } = toNetworkError("Cannot resolve broker.example", cause);
  assertEquals(message, "Cannot resolve broker.example: no name server answered");
  assertEquals([reason, remedy], ["timed-out", NAME_SERVER_REMEDY]);
});

Deno.test("a lookup that no name server answers is not blamed on the address", async () => {
  const program = `
    const { systemNetwork } = await import("${import.meta.resolve("../../lib/net/system.ts")}");
    (await import("node:dns")).default.lookup = () => {};
    await systemNetwork.resolve("silent.example", 4).catch(({ message, reason, remedy }) => {
      console.log([message, reason, remedy].join("\\n"));
    });
  `;
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["eval", program] }).output();
  assertEquals(new TextDecoder().decode(stdout).trim().split("\n"), [
    "Cannot resolve silent.example to an IPv4 address: no name server answers",
    "timed-out",
    NAME_SERVER_REMEDY,
  ]);
});
