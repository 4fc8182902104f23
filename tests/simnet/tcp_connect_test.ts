import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { formatTransportAddress } from "../../lib/net/address.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { assertNetworkError, at, readText, recordFlags, toBytes, twoHosts } from "./fixtures.ts";
import { Internet } from "./internet.ts";
import { VirtualTime } from "./virtual_time.ts";

Deno.test("connectTcp() takes one round trip, and both sides know each other's address", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = twoHosts({ link: { delayMs: 25 } });
  await time.run(async () => {
    using listener = await server.network.listenTcp(at(server, 80));
    using connection = await client.network.connectTcp(at(server, 80), { local: at(client, 5000) });
    assertEquals(time.nowMs, 50);
    using accepted = await listener.accept();
    assertEquals(time.nowMs, 75);
    assertEquals([connection.local, connection.remote], [at(client, 5000), at(server, 80)]);
    assertEquals([accepted.local, accepted.remote], [at(server, 80), at(client, 5000)]);
    await connection.write(toBytes("hello"));
    assertEquals(await readText(accepted, 5), "hello");
    assertEquals(time.nowMs, 100);
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("connectTcp() is refused by a closed port after one round trip", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts({ link: { delayMs: 25 } });
  await time.run(() =>
    assertNetworkError("refused", () => client.network.connectTcp(at(server, 80)))
  );
  assertEquals(time.nowMs, 50);
});

Deno.test("connectTcp() sends SYNs on Linux's schedule and gives up after 131 seconds", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = twoHosts({ fault: "silent" });
  const sentAtSeconds: number[] = [];
  internet.onPacket = ({ what, atMs }) => {
    if (what === "sent") sentAtSeconds.push(atMs / 1000);
  };
  await time.run(() =>
    assertNetworkError("timed-out", () => client.network.connectTcp(at(server, 80)))
  );
  assertEquals(sentAtSeconds, [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
  assertEquals(time.nowMs, 131_000);
  assertEquals(internet.openSockets(), []);
});

Deno.test("a host whose firewall drops packets does not answer a SYN to a closed port", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts({ closedPorts: "drop" });
  await time.run(() =>
    assertNetworkError("timed-out", () => client.network.connectTcp(at(server, 80)))
  );
});

for (
  const [fault, reason] of [
    ["port-unreachable", "refused"],
    ["host-unreachable", "unreachable"],
  ] as const
) {
  Deno.test(`connectTcp() is ${reason} on ICMP ${fault}, through a NAT as well`, async () => {
    using time = new VirtualTime();
    const internet = new Internet();
    const home = internet.router("home", { behavior: NAT_BEHAVIORS.symmetric });
    const client = internet.host("client", { behind: home, link: { delayMs: 10 } });
    const server = internet.host("server", { fault });
    await time.run(() =>
      assertNetworkError(reason, () => client.network.connectTcp(at(server, 80)))
    );
    assertEquals(time.nowMs, 20);
  });
}

Deno.test("an aborted dial rejects with the reason, and a late SYN/ACK is answered with RST", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = twoHosts({ link: { delayMs: 50 } });
  const flags = recordFlags(internet);
  await time.run(async () => {
    using listener = await server.network.listenTcp(at(server, 80));
    const signal = AbortSignal.timeout(60);
    const error = await assertRejects(() => client.network.connectTcp(at(server, 80), { signal }));
    assertStrictEquals(error, signal.reason);
    await assertRejects(() => client.network.connectTcp(at(server, 80), { signal }), DOMException);
    assertEquals(internet.openSockets(), [
      "server: TCP listener " + formatTransportAddress(at(server, 80)),
    ]);
    await assertRejects(() => listener.accept({ signal: AbortSignal.timeout(1000) }), DOMException);
  });
  assertEquals(flags, ["client syn", "server syn+ack", "client rst"]);
});

Deno.test("an aborted accept loses no connection", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts({ link: { delayMs: 10 } });
  await time.run(async () => {
    using listener = await server.network.listenTcp(at(server, 80));
    await assertRejects(() => listener.accept({ signal: AbortSignal.timeout(5) }), DOMException);
    using connection = await client.network.connectTcp(at(server, 80));
    using accepted = await listener.accept();
    assertEquals(accepted.remote, connection.local);
  });
});

Deno.test("a closed listener rejects pending accepts, refuses dials and resets queued connections", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = twoHosts({ link: { delayMs: 10 } });
  await time.run(async () => {
    const listener = await server.network.listenTcp(at(server, 80));
    using connection = await client.network.connectTcp(at(server, 80));
    await delay(100);
    listener.close();
    listener.close();
    await assertNetworkError("closed", () => listener.accept());
    await assertNetworkError("reset", () => connection.read(new Uint8Array(1)));
    await assertNetworkError("refused", () => client.network.connectTcp(at(server, 80)));
    const again = await server.network.listenTcp(at(server, 80));
    const waiting = assertNetworkError("closed", () => again.accept());
    again.close();
    await waiting;
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("connections from one port to several remotes coexist", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts();
  await time.run(async () => {
    const local = at(client, 5000);
    for (const port of [80, 81, 82]) {
      const listener = await server.network.listenTcp(at(server, port));
      const connection = await client.network.connectTcp(at(server, port), { local });
      const accepted = await listener.accept();
      await accepted.write(toBytes(`${port}`));
      assertEquals(await readText(connection, 2), `${port}`);
    }
  });
});

Deno.test("a pair of addresses is in use while it is dialled or connected", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts();
  await time.run(async () => {
    using _listener = await server.network.listenTcp(at(server, 80));
    const dial = () => client.network.connectTcp(at(server, 80), { local: at(client, 5000) });
    const first = dial();
    await assertNetworkError("address-in-use", dial);
    using _connection = await first;
    await assertNetworkError("address-in-use", dial);
  });
});

Deno.test("a port that was dialled from can be listened on, but not the other way round", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts();
  await time.run(async () => {
    using _server = await server.network.listenTcp(at(server, 80));
    const local = at(client, 5000);
    using _connection = await client.network.connectTcp(at(server, 80), { local });
    using _listener = await client.network.listenTcp({ ip: "0.0.0.0", port: 5000 });
    await assertNetworkError("address-in-use", () => client.network.listenTcp(local));
    await assertNetworkError("address-in-use", () => {
      return client.network.connectTcp(at(server, 81), { local });
    });
  });
});

Deno.test("with SO_REUSEPORT a port that is listened on can be dialled from", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const client = internet.host("client", { reusePort: true });
  const server = internet.host("server");
  await time.run(async () => {
    using _server = await server.network.listenTcp(at(server, 80));
    const [port, local] = [{ ip: "0.0.0.0", port: 5000 }, at(client, 5000)];
    using _listener = await client.network.listenTcp(port, { reusePort: true });
    const options = { local, reusePort: true };
    using connection = await client.network.connectTcp(at(server, 80), options);
    assertEquals(connection.local, local);
    for (const refused of [options, { local }]) {
      await assertNetworkError("address-in-use", () => {
        return client.network.connectTcp(at(server, 80), refused);
      });
    }
  });
});

Deno.test("SO_REUSEPORT must be set on both sockets, and supported by the host", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = twoHosts();
  const sharing = internet.host("sharing", { reusePort: true });
  assertEquals([client, sharing].map(({ network }) => network.canReusePort), [false, true]);
  await time.run(async () => {
    using _server = await server.network.listenTcp(at(server, 80));
    for (
      const [host, ofListener, ofDial] of [[sharing, false, true], [client, true, true]] as const
    ) {
      const options = { reusePort: ofListener };
      using _listener = await host.network.listenTcp(at(host, 5000), options);
      await assertNetworkError("address-in-use", () => {
        return host.network.connectTcp(at(server, 80), {
          local: at(host, 5000),
          reusePort: ofDial,
        });
      });
    }
  });
});

Deno.test("a dial cannot start from a foreign address or one of a different family", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts();
  await time.run(async () => {
    for (const ip of ["192.0.2.99", "::"]) {
      await assertNetworkError("address-not-available", () => {
        return client.network.connectTcp(at(server, 80), { local: { ip, port: 0 } });
      });
    }
    await assertNetworkError("address-not-available", () => {
      return client.network.listenTcp({ ip: "192.0.2.99", port: 80 });
    });
    await assertNetworkError("unreachable", () => {
      return client.network.connectTcp({ ip: "2001:db8::1", port: 80 });
    });
  });
});

Deno.test("connectTls() reports that TLS is not simulated", async () => {
  const { client, server } = twoHosts();
  await assertNetworkError("tls", () => {
    return client.network.connectTls(at(server, 443), { hostname: "server" });
  });
});
