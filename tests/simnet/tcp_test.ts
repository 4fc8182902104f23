import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { delay } from "@std/async/delay";
import type { TcpConnection } from "../../lib/net/network.ts";
import { NAT_BEHAVIORS } from "../lab/nat_behavior.ts";
import { assertNetworkError } from "./assert_network_error.ts";
import type { Host, HostOptions } from "./host.ts";
import { Internet } from "./internet.ts";
import type { PacketEvent } from "./subnet.ts";
import { VirtualTime } from "./virtual_time.ts";

Deno.test("connectTcp() takes one round trip, and both sides know each other's address", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = pair({ link: { delayMs: 25 } });
  await time.run(async () => {
    using listener = await server.network.listenTcp(at(server, 80));
    using connection = await client.network.connectTcp(at(server, 80), { local: at(client, 5000) });
    assertEquals(time.nowMs, 50);
    using accepted = await listener.accept();
    assertEquals(time.nowMs, 75);
    assertEquals([connection.local, connection.remote], [at(client, 5000), at(server, 80)]);
    assertEquals([accepted.local, accepted.remote], [at(server, 80), at(client, 5000)]);
    await connection.write(bytes("hello"));
    assertEquals(await readText(accepted, 5), "hello");
    assertEquals(time.nowMs, 100);
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("connectTcp() is refused by a closed port after one round trip", async () => {
  using time = new VirtualTime();
  const { client, server } = pair({ link: { delayMs: 25 } });
  await time.run(() =>
    assertNetworkError("refused", () => client.network.connectTcp(at(server, 80)))
  );
  assertEquals(time.nowMs, 50);
});

Deno.test("connectTcp() sends SYNs on Linux's schedule and gives up after 131 seconds", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = pair({ fault: "silent" });
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

Deno.test("a host whose firewall drops answers no SYN to a closed port", async () => {
  using time = new VirtualTime();
  const { client, server } = pair({ closedPorts: "drop" });
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

Deno.test("an aborted dial rejects with the reason, and a late SYN/ACK gets RST", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = pair({ link: { delayMs: 50 } });
  const flags = recordFlags(internet);
  await time.run(async () => {
    using listener = await server.network.listenTcp(at(server, 80));
    const signal = AbortSignal.timeout(60);
    const error = await assertRejects(() => client.network.connectTcp(at(server, 80), { signal }));
    assertStrictEquals(error, signal.reason);
    await assertRejects(() => client.network.connectTcp(at(server, 80), { signal }), DOMException);
    assertEquals(internet.openSockets(), ["server: TCP listener " + text(at(server, 80))]);
    await assertRejects(() => listener.accept({ signal: AbortSignal.timeout(1000) }), DOMException);
  });
  assertEquals(flags, ["client syn", "server syn+ack", "client rst"]);
});

Deno.test("an aborted accept loses no connection", async () => {
  using time = new VirtualTime();
  const { client, server } = pair({ link: { delayMs: 10 } });
  await time.run(async () => {
    using listener = await server.network.listenTcp(at(server, 80));
    await assertRejects(() => listener.accept({ signal: AbortSignal.timeout(5) }), DOMException);
    using connection = await client.network.connectTcp(at(server, 80));
    using accepted = await listener.accept();
    assertEquals(accepted.remote, connection.local);
  });
});

Deno.test("a closed listener rejects who waits, refuses who dials and resets who was not accepted", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = pair({ link: { delayMs: 10 } });
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

Deno.test("connections from one port to several remotes live side by side", async () => {
  using time = new VirtualTime();
  const { client, server } = pair();
  await time.run(async () => {
    const local = at(client, 5000);
    for (const port of [80, 81, 82]) {
      const listener = await server.network.listenTcp(at(server, port));
      const connection = await client.network.connectTcp(at(server, port), { local });
      const accepted = await listener.accept();
      await accepted.write(bytes(`${port}`));
      assertEquals(await readText(connection, 2), `${port}`);
    }
  });
});

Deno.test("the same pair of addresses is in use while it is dialled and while it is connected", async () => {
  using time = new VirtualTime();
  const { client, server } = pair();
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
  const { client, server } = pair();
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
    using _listener = await client.network.listenTcp({ ip: "0.0.0.0", port: 5000 });
    using connection = await client.network.connectTcp(at(server, 80), { local: at(client, 5000) });
    assertEquals(connection.local, at(client, 5000));
  });
});

Deno.test("addresses that are not the host's, or of another family, cannot be dialled from", async () => {
  using time = new VirtualTime();
  const { client, server } = pair();
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

Deno.test("connectTls() says that TLS is not simulated", async () => {
  const { client, server } = pair();
  await assertNetworkError("tls", () => {
    return client.network.connectTls(at(server, 443), { hostname: "server" });
  });
});

Deno.test("closeWrite() ends one direction, and the other goes on", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = pair({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    await connection.write(bytes("question"));
    await connection.closeWrite();
    assertEquals(await readText(accepted, 8), "question");
    assertEquals(await accepted.read(new Uint8Array(1)), null);
    assertEquals(await accepted.read(new Uint8Array(1)), null);
    await assertNetworkError("closed", () => connection.write(bytes("more")));
    await delay(200_000);
    await accepted.write(bytes("answer"));
    assertEquals(await readText(connection, 6), "answer");
    accepted.close();
    assertEquals(await connection.read(new Uint8Array(1)), null);
    connection.close();
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("reset() reaches the peer as an error, after the bytes that came before", async () => {
  using time = new VirtualTime();
  const { client, server } = pair({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    await connection.write(bytes("last words"));
    connection.reset();
    connection.reset();
    await delay(100);
    assertEquals(await readText(accepted, 10), "last words");
    await assertNetworkError("reset", () => accepted.read(new Uint8Array(1)));
    await assertNetworkError("reset", () => accepted.write(bytes("x")));
    await assertNetworkError("closed", () => connection.read(new Uint8Array(1)));
  });
});

Deno.test("close() resets the connection if bytes are left unread, as Linux does", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = pair({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    await connection.write(bytes("unread"));
    await delay(100);
    const flags = recordFlags(internet);
    accepted.close();
    await assertNetworkError("reset", () => connection.read(new Uint8Array(1)));
    assertEquals(flags, ["server rst+ack"]);
  });
});

Deno.test("close() rejects the side's own pending read", async () => {
  using time = new VirtualTime();
  const { client, server } = pair();
  await time.run(async () => {
    const [connection] = await connected(client, server);
    const reading = assertNetworkError("closed", () => connection.read(new Uint8Array(1)));
    connection.close();
    connection.close();
    await reading;
    await assertNetworkError("closed", () => connection.write(bytes("x")));
    await assertNetworkError("closed", () => connection.closeWrite());
  });
});

Deno.test("who closes first lingers in TIME_WAIT for a minute; RST leaves nothing behind", async () => {
  using time = new VirtualTime();
  const { client, server } = pair({ link: { delayMs: 10 } });
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

Deno.test("a writer waits while the reader does not read", async () => {
  using time = new VirtualTime();
  const { client, server } = pair({ link: { delayMs: 10 } });
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

Deno.test("bytes arrive complete and in order over a link that loses, doubles and reorders", async () => {
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

Deno.test("a connection survives an outage, and times out if it does not end", async () => {
  using time = new VirtualTime();
  const { client, server } = pair({ link: { delayMs: 10 } });
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    const { down } = server.link;
    down.behavior = { ...down.behavior, outages: [[0, 30_000], [60_000, Infinity]] };
    await connection.write(bytes("late"));
    assertEquals(await readText(accepted, 4), "late");
    assertGreaterOrEqual(time.nowMs, 30_000);
    assertLessOrEqual(time.nowMs, 60_000);
    await delay(60_000 - time.nowMs);
    await connection.write(bytes("never"));
    await assertNetworkError("timed-out", () => connection.read(new Uint8Array(1)));
    accepted.close();
  });
});

Deno.test("openSockets() names what was not closed", async () => {
  using time = new VirtualTime();
  const { internet, client, server } = pair();
  await time.run(async () => {
    const [connection, accepted] = await connected(client, server);
    const [near, far] = [text(connection.local), text(accepted.local)];
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

/** A client that is as it is, and a server as the options say. */
function pair(options: HostOptions = {}): { internet: Internet; client: Host; server: Host } {
  const internet = new Internet();
  const client = internet.host("client");
  return { internet, client, server: internet.host("server", options) };
}

function at(host: Host, port: number): { ip: string; port: number } {
  return { ip: host.addresses[0]!, port };
}

/** Both ends of a connection to port 80. */
async function connected(client: Host, server: Host): Promise<[TcpConnection, TcpConnection]> {
  using listener = await server.network.listenTcp(at(server, 80));
  const connection = await client.network.connectTcp(at(server, 80));
  return [connection, await listener.accept()];
}

/** Who sends which flags, in order. */
function recordFlags(internet: Internet): string[] {
  const flags: string[] = [];
  internet.onPacket = ({ at, what, packet }: PacketEvent) => {
    if (what !== "sent" || packet.protocol !== "tcp") return;
    const { syn, rst, fin, ack } = packet.tcpFlags;
    const names = [syn && "syn", rst && "rst", fin && "fin", ack && "ack"];
    flags.push(`${at} ${names.filter(Boolean).join("+")}`);
  };
  return flags;
}

async function readText(connection: TcpConnection, length: number): Promise<string> {
  const buffer = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const read = await connection.read(buffer.subarray(filled));
    assert(read !== null, "the stream ended early");
    filled += read;
  }
  return new TextDecoder().decode(buffer);
}

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

function text({ ip, port }: { ip: string; port: number }): string {
  return `${ip}:${port}`;
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
