/**
 * What one side knows, the other is told: why a connection ended, which of several got it, and what is left.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type Command, type Servers, start, withScratch, withServers } from "../cli/command.ts";
import { freePort } from "./file_programs.ts";

Deno.test("a service that refuses is named on both sides", () =>
  withServers(async (servers) => {
    const { listener, connector, port } = await forwarding(servers, freePort());
    const client = await Deno.connect({ hostname: "127.0.0.1", port });
    await client.read(new Uint8Array(1)).catch(() => {}); // it is reset
    await listener.prints(/Cannot connect to 127\.0\.0\.1:\d+: connection refused/);
    await connector.prints(
      "Closed: the peer cannot connect to its own service; check that it runs",
    );
    client.close();
    await endAll(listener, connector);
  }));

for (const broken of ["client", "service"] as const) {
  Deno.test(`a ${broken} that breaks off is named at the other side`, () =>
    withServers(async (servers) => {
      const accepted = Promise.withResolvers<Socket>();
      const service = createServer((socket) => accepted.resolve(socket.on("error", () => {})));
      const servicePort = await new Promise<number>((resolve) => {
        service.listen(0, "127.0.0.1", () => resolve((service.address() as AddressInfo).port));
      });
      const { listener, connector, port } = await forwarding(servers, servicePort);
      const client = connect(port, "127.0.0.1").on("error", () => {});
      client.write("hello");
      const inner = await accepted.promise;
      await new Promise((resolve) => inner.once("data", resolve));
      (broken === "client" ? client : inner).resetAndDestroy();
      const teller = broken === "client" ? listener : connector;
      await teller.prints(`Closed: the ${broken} at the other side broke the connection off`);
      client.destroy();
      service.close();
      await endAll(listener, connector);
    }));
}

Deno.test("several that connect at once: one gets through, and the others are told busy", () =>
  withServers(async (servers) => {
    const listener = start(["listen", ...servers.all], { input: keyboard() });
    const args = ["connect", await listener.ticket(), ...servers.connecting];
    const connectors = Array.from({ length: 5 }, () => start(args, { input: keyboard() }));
    const ended: Promise<{ code: number; stderr: string }>[] = connectors.map((each) => each.end());
    const first = new Set<number>();
    for (let losers = 0; losers < 4; losers++) { // whichever end; the winner stays
      const index = await Promise.race(
        ended.flatMap((end, index) => first.has(index) ? [] : [end.then(() => index)]),
      );
      first.add(index);
      const { code, stderr } = await ended[index]!;
      assertEquals(code, 1, stderr);
      assertMatch(stderr, /the peer is busy/);
    }
    await endAll(listener, ...connectors);
  }));

Deno.test("of several with a ticket for one connection, the others learn that it is used up or busy", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const key = ["--key", `${folder}/key`];
      const meeting = ["--rendezvous", servers.url];
      const issued = await start(["ticket", "new", "--once", ...key, ...meeting], { permissions })
        .end();
      const [ticket] = /punchline:[\w-]{60,}/.exec(issued.stdout + issued.stderr)!;
      const listener = start(["listen", ...key, ...servers.all], {
        permissions,
        input: keyboard(),
      });
      await listener.ticket();
      const args = ["connect", ticket, ...servers.connecting];
      const connectors = [1, 2, 3].map(() => start(args, { input: keyboard() }));
      await listener.prints("Connected");
      const ends = connectors.map((each) => each.end());
      const losers = new Set<number>();
      while (losers.size < 2) {
        const index = await Promise.race(
          ends.flatMap((end, index) => losers.has(index) ? [] : [end.then(() => index)]),
        );
        losers.add(index);
        const { stderr } = await ends[index]!;
        assertMatch(
          stderr,
          /the peer is busy|the peer refused|the ticket is used up, expired or revoked/,
        );
        assert(!/interrupted|given up/.test(stderr), stderr);
      }
      await endAll(listener, ...connectors);
    })
  ));

for (const hasKey of [true, false]) {
  Deno.test(`a sender that is interrupted leaves a receiver that knows what it has: ${hasKey ? "with" : "without"} a key`, () =>
    withScratch((folder) =>
      withServers(async (servers) => {
        const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
        await Deno.mkdir(`${folder}/to`);
        using file = await Deno.create(`${folder}/big`);
        await file.truncate(400_000_000);
        const key = hasKey ? ["--key", `${folder}/key`] : [];
        const send = () =>
          start(["send", `${folder}/big`, ...key, ...servers.all], { permissions });
        const sender = send();
        const ticket = await sender.ticket();
        const args = ["recv", ticket, "--yes", "--to", `${folder}/to`, ...servers.connecting];
        const receiver = start(args, { permissions });
        await hasPart(`${folder}/to`, 10_000_000);
        sender.interrupt();
        assertEquals((await sender.end()).code, 130);
        const { code, stderr } = await receiver.end();
        assertEquals(code, 1, stderr);
        assertMatch(
          stderr,
          /the sender has ended the transfer\nAsk the sender to send again\nKept: [\d.]+ MiB of big\n/,
        );
        assertMatch(
          stderr,
          /with the same --key, this command resumes; without a key it starts over/,
        );
        if (!hasKey) return;
        const again = send();
        await again.ticket();
        const resumed = await start(args, { permissions }).end();
        assertEquals([resumed.code, (await again.end()).code], [0, 0], resumed.stderr);
        assertMatch(resumed.stderr, /MiB of it already there/);
      })
    ));
}

/** Forwards to a port of this machine. */
async function forwarding(
  servers: Servers,
  servicePort: number,
): Promise<{ listener: Command; connector: Command; port: number }> {
  const port = freePort();
  const listener = start(["listen", "--tcp", `${servicePort}`, ...servers.all]);
  const ticket = await listener.ticket();
  const connector = start(["connect", ticket, "--tcp", `${port}`, ...servers.connecting]);
  await connector.prints(`Forwarding 127.0.0.1:${port}`);
  return { listener, connector, port };
}

async function endAll(...commands: Command[]): Promise<void> {
  for (const command of commands) command.interrupt();
  await Promise.all(commands.map((command) => command.end()));
}

async function hasPart(folder: string, bytes: number): Promise<void> {
  for (;;) {
    for await (const { name } of Deno.readDir(folder)) {
      if (name.endsWith("-part") && (await Deno.stat(`${folder}/${name}`)).size > bytes) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function keyboard(): ReadableStream<Uint8Array> {
  return new ReadableStream({ pull: () => new Promise(() => {}) });
}
