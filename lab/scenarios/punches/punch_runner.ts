// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * A program for a host of the lab: runs punches, also several at once. Reads lines
 * of JSON: `{ "id", "command" }` starts a punch with a {@linkcode RunnerCommand}; `{ "id", "signal" }` is a message
 * from the peer. Prints lines of JSON: `{ "id", "signal" }`, a message for the peer, and `{ "id", "result" }`, with a
 * {@linkcode RunnerResult}. The process that started it carries the messages.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { NetworkError, UnreachableError } from "../../../lib/base/errors.ts";
import { WaitQueue } from "../../../lib/base/wait_queue.ts";
import type { FamilyReport } from "../../../lib/nat/behavior.ts";
import { preparePunch, punch, type PunchedConn } from "../../../lib/punch/punch.ts";
import type { SignalChannel } from "../../../lib/signal/channel.ts";
import { openWebSocketChannel } from "../../../lib/signal/rendezvous/channel.ts";
import { TextLineStream } from "../../kernel/lines.ts";
import type { RunnerCommand, RunnerResult } from "./runner_types.ts";

if (import.meta.main) {
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream());
  const inboxes = new Map<number, WaitQueue<Uint8Array>>();
  for await (const line of lines) {
    const { id, command, signal } = JSON.parse(line);
    if (command === undefined) {
      inboxes.get(id)?.push(new TextEncoder().encode(signal));
      continue;
    }
    const inbox = new WaitQueue<Uint8Array>(100);
    inboxes.set(id, inbox);
    run(id, command, inbox).then((result) => {
      inboxes.delete(id);
      print({ id, result });
    });
  }
}

async function run(
  id: number,
  command: RunnerCommand,
  inbox: WaitQueue<Uint8Array>,
): Promise<RunnerResult> {
  if (command.udp) {
    const { runUdp } = await import("./udp_runner.ts");
    return await runUdp(command, (stack) => openChannel(id, command, inbox, stack));
  }
  const { role, servers, timeoutMs, isWarm, callAtMs = 0 } = command;
  const report = command.report as FamilyReport | null;
  await using stack = new AsyncDisposableStack();
  const prepare = () =>
    Promise.all([
      openChannel(id, command, inbox, stack),
      isWarm || command.rendezvous ? preparePunch({ servers, report }) : undefined,
    ]);
  const ready = isWarm ? await prepare() : undefined;
  await delay(Math.max(0, callAtMs - epochMs()));
  const startedAtMs = epochMs();
  try {
    const [channel, base] = ready ?? await prepare();
    const options = { channel, role, servers, report, timeoutMs, base };
    return await describe(await punch(options), startedAtMs);
  } catch (error) {
    if (error instanceof UnreachableError) {
      const tries = error.attempts.reduce((sum, attempt) => sum + attempt.tries, 0);
      const { message } = error;
      return { outcome: "unreachable", startedAtMs, endedAtMs: epochMs(), message, tries };
    }
    return { outcome: "error", message: `${(error as Error).stack}` };
  }
}

async function openChannel(
  id: number,
  { signalRttMs, rendezvous }: RunnerCommand,
  inbox: WaitQueue<Uint8Array>,
  stack: AsyncDisposableStack,
): Promise<SignalChannel> {
  if (rendezvous !== undefined) {
    return stack.use(await openWebSocketChannel(rendezvous.url, rendezvous.room));
  }
  return {
    rttMs: signalRttMs,
    send: (message) => {
      print({ id, signal: new TextDecoder().decode(message) });
      return Promise.resolve();
    },
    receive: ({ signal } = {}) => inbox.next(signal),
  };
}

/** Verifies that bytes go both ways, then closes the connection. */
async function describe(connection: PunchedConn, startedAtMs: number): Promise<RunnerResult> {
  const nominatedAtMs = epochMs();
  const { plan, rounds, attempts, punchMs, connectMs } = connection.punch;
  const dialledAtMs = nominatedAtMs - punchMs;
  const local = `${connection.local.ip}:${connection.local.port}`;
  const received = await exchange(connection, local);
  const receivedAtMs = epochMs();
  connection.close();
  return {
    outcome: "connected",
    method: plan.method,
    reason: plan.reason,
    startedAtMs,
    dialledAtMs,
    establishedAtMs: dialledAtMs + connectMs,
    nominatedAtMs,
    rounds,
    estimate: plan.successEstimate,
    tries: attempts.reduce((sum, attempt) => sum + attempt.tries, 0),
    local,
    remote: `${connection.remote.ip}:${connection.remote.port}`,
    received,
    receivedAtMs,
  };
}

async function exchange(connection: PunchedConn, text: string): Promise<string> {
  let received = "";
  try {
    await connection.write(new TextEncoder().encode(`${text}\n`));
    const buffer = new Uint8Array(64);
    while (!received.endsWith("\n")) {
      const count = await connection.read(buffer);
      if (count === null) break;
      received += new TextDecoder().decode(buffer.subarray(0, count));
    }
    return received.trim();
  } catch (error) {
    if (error instanceof NetworkError) return error.message;
    throw error;
  }
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

function print(value: unknown): void {
  console.log(JSON.stringify(value));
}
