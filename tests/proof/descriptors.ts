/**
 * Proof: a program that has run out of file descriptors serves again within two seconds after the flood has ended.
 *
 * @module
 */

import { Deadline } from "../../lib/base/timers.ts";
import { delay } from "@std/async/delay";
import { parseTransportAddress } from "../../lib/net/address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import { type Running, startCommand, startProgram } from "./process.ts";

/** The hard limit on open files, and how many sockets a stranger opens. */
export const SHORTAGE = { maxFiles: 120, sockets: 400 };

/** How long each service took to answer after the end of the flood; `null` if it did not within ten seconds. */
export type Recovery = Readonly<Record<string, number | null>>;

/** Floods all ports of `serve`, and measures when each serves again. */
export async function floodServe(seed: number): Promise<Recovery> {
  await using server = startCommand([
    ...["serve", "--json", "--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"],
  ], { maxFiles: SHORTAGE.maxFiles });
  const { stun, rendezvous } = JSON.parse(await server.prints(/^(.*"listening".*)\n/));
  const targets: string[] = [...stun, rendezvous.replace("ws://", "")];
  const services: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
    rendezvous: async (signal) => {
      const room = `room-${crypto.randomUUID()}`;
      await using _channel = await openWebSocketChannel(rendezvous, room, { signal });
    },
  };
  for (const address of stun as string[]) {
    for (const transport of ["udp", "tcp"] as const) {
      services[`${transport} ${address}`] = (signal) => stunBinding(address, { transport, signal });
    }
  }
  for (const service of Object.values(services)) await service(AbortSignal.timeout(5000));
  await flood(targets, seed);
  const entries = Object.entries(services).map(async ([name, service]) => [
    name.replace(/:\d+$/, ""),
    await timeUntil(service),
  ]);
  return Object.fromEntries(await Promise.all(entries));
}

/** Floods the port of `connect --tcp`, whose connections all reach `listen --tcp`, and measures when they serve again. */
export async function floodListen(seed: number): Promise<Recovery> {
  await using server = startCommand([
    ...["serve", "--json", "--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"],
  ]);
  const { stun, rendezvous } = JSON.parse(await server.prints(/^(.*"listening".*)\n/));
  using echo = await serveEcho();
  const limit = { maxFiles: SHORTAGE.maxFiles };
  const where = ["--server", stun[0], "--rendezvous", rendezvous];
  await using listener = startCommand(["listen", "--tcp", `${echo.port}`, ...where], limit);
  const ticket = await listener.prints(/(punchline:[\w-]{60,})/);
  const port = freePort();
  await using connector = startCommand(
    ["connect", ticket, "--tcp", `${port}`, ...where],
    limit,
  );
  await connector.prints(/Forwarding/);
  const local = `127.0.0.1:${port}`;
  const passesOn = () => echoes(local);
  if (await timeUntil(passesOn) === null) throw new Error("Cannot start: nothing is forwarded");
  await flood([local], seed);
  return { "connect --tcp to listen --tcp": await timeUntil(passesOn) };
}

async function flood(targets: readonly string[], seed: number): Promise<void> {
  await using attacker: Running = startProgram("hold_sockets", [
    SHORTAGE.sockets,
    seed,
    ...targets,
  ]);
  await attacker.prints(/"held":(\d+)/);
  await delay(1000); // so that the servers have accepted what they can
  await attacker.tell("end");
  await attacker.prints(/"closed"/);
}

/** How long it takes until the service works, in milliseconds. */
async function timeUntil(
  service: (signal: AbortSignal) => Promise<unknown>,
): Promise<number | null> {
  const startMs = performance.now();
  while (performance.now() - startMs < MAX_RECOVERY_MS) {
    using attempt = new Deadline(1000);
    try {
      await service(attempt.signal);
      return Math.round(performance.now() - startMs);
    } catch {
      await delay(50);
    }
  }
  return null;
}

/** Sends some bytes to a forwarded port; throws unless the other end returns them in a second. */
async function echoes(name: string): Promise<void> {
  using connection = await systemNetwork.connectTcp(parseTransportAddress(name));
  const tooLate = setTimeout(() => connection.reset(), 1000);
  try {
    await connection.write(Uint8Array.of(1, 2, 3));
    const length = await connection.read(new Uint8Array(3));
    if (length === null) throw new Error("Cannot forward: the connection has ended");
  } finally {
    clearTimeout(tooLate);
  }
}

async function serveEcho(): Promise<Disposable & { readonly port: number }> {
  const listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  (async () => {
    for (;;) {
      const connection = await listener.accept();
      (async () => {
        const buffer = new Uint8Array(1024);
        for (let length; (length = await connection.read(buffer)) !== null;) {
          await connection.write(buffer.slice(0, length));
        }
        connection.close();
      })().catch(() => connection.close());
    }
  })().catch(() => {}); // it is closed
  return { port: listener.local.port, [Symbol.dispose]: () => listener.close() };
}

/** A free port that the system gives to no connection. */
function freePort(): number {
  while (true) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}

const MAX_RECOVERY_MS = 10_000;
