/**
 * Transfers of real files over loopback that stop halfway, so that an attacker has time.
 *
 * @module
 */

import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import {
  receiveFiles,
  type ReceiveFilesOptions,
  sendFiles,
  type TransferResult,
} from "../../lib/transfer/mod.ts";

/** A transfer that waits after some bytes. */
export interface HaltedTransfer extends AsyncDisposable {
  /** Resolves once the receiver has as many bytes. */
  readonly halted: Promise<void>;
  /** Lets it go on. */
  resume(): void;
  readonly sent: Promise<PromiseSettledResult<TransferResult>>;
  readonly received: Promise<PromiseSettledResult<TransferResult>>;
}

/** Starts a transfer that halts once the receiver has written so many bytes of files. */
export async function haltedTransfer(
  sources: readonly string[],
  folder: string,
  haltAtBytes: number,
  options: Partial<ReceiveFilesOptions> = {},
): Promise<HaltedTransfer> {
  const listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const halted = Promise.withResolvers<void>();
  const resumed = Promise.withResolvers<void>();
  let isHalted = false;
  const gated = (connection: TcpConnection): TcpConnection =>
    new Proxy(connection, {
      get: (target, key) => {
        const value = Reflect.get(target, key, target);
        if (key !== "read") return typeof value === "function" ? value.bind(target) : value;
        return async (buffer: Uint8Array) => {
          if (isHalted) await resumed.promise;
          return await connection.read(buffer.subarray(0, 16_384));
        };
      },
    });
  const sent = settled(
    sendFiles(({ signal }) => listener.accept({ signal }), sources, { signal: options.signal }),
  );
  const received = settled(receiveFiles(
    async ({ signal }) => gated(await systemNetwork.connectTcp(listener.local, { signal })),
    folder,
    {
      onOffer: () => true,
      ...options,
      onProgress: ({ bytes }) => {
        if (isHalted || bytes < haltAtBytes) return;
        isHalted = true;
        halted.resolve();
      },
    },
  ));
  const end = Promise.all([sent, received]);
  return {
    halted: halted.promise,
    resume: () => resumed.resolve(),
    sent,
    received,
    [Symbol.asyncDispose]: async () => {
      resumed.resolve();
      listener.close();
      await end;
    },
  };
}

/** Transfers without a halt. */
export async function transfer(
  sources: readonly string[],
  folder: string,
  options: Partial<ReceiveFilesOptions> = {},
): Promise<{
  sent: PromiseSettledResult<TransferResult>;
  received: PromiseSettledResult<TransferResult>;
}> {
  await using running = await haltedTransfer(sources, folder, Infinity, options);
  return { sent: await running.sent, received: await running.received };
}

/** A folder for one test, with an empty folder `in`. */
export async function scratch(): Promise<AsyncDisposable & { path: string; inbox: string }> {
  const dir = new URL("../transfer/scratch", import.meta.url).pathname;
  const path = await Deno.makeTempDir({ dir });
  const inbox = `${path}/in`;
  await Deno.mkdir(inbox);
  return { path, inbox, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** The names in a folder, sorted. */
export async function namesIn(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
}

/** How a side ended: `ok`, or `Name reason: message`. */
export function endOf(result: PromiseSettledResult<unknown>): string {
  if (result.status === "fulfilled") return "ok";
  const { name, reason, message } = result.reason;
  return `${name} ${reason}: ${message}`;
}

async function settled<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  const [result] = await Promise.allSettled([promise]);
  return result;
}
