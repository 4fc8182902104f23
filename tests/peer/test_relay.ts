/**
 * A relay without a TURN server: a host of the simulated internet plays the relayed address.
 *
 * @module
 */

import { makeContext, type PeerContext } from "../../lib/peer/context.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import type { RelayOpener } from "../../lib/peer/relay_path.ts";
import { RefusedError } from "../../lib/base/errors.ts";
import type { StreamRelay } from "../../lib/turn/stream_relay.ts";
import type { Host } from "../simnet/host.ts";

/** A relay that records the permissions it was asked for. */
export interface TestRelay extends RelayOpener {
  readonly ip: string;
  readonly permitted: string[];
  /** Requests, each with all of its addresses. */
  readonly permissionRequests: (readonly string[])[];
}

/** A relay at a host. @param refuses addresses that it never permits */
export function testRelay(host: Host, refuses: readonly string[] = []): TestRelay {
  const permitted: string[] = [];
  const permissionRequests: (readonly string[])[] = [];
  const url = `turn:${host.addresses[0]}`;
  const open = async (): Promise<StreamRelay> => {
    const listener = await host.network.listenTcp({ ip: host.addresses[0]!, port: 0 });
    const finished = Promise.withResolvers<void>();
    const close = () => {
      listener.close();
      finished.resolve();
      return finished.promise;
    };
    return {
      server: listener.local,
      transport: "tcp",
      relayed: [listener.local],
      mapped: { ip: "203.0.113.250", port: 1 },
      reservationToken: undefined,
      refused: [],
      finished: finished.promise,
      permit: (ips) => {
        permissionRequests.push(ips);
        if (ips.some((ip) => refuses.includes(ip))) {
          return Promise.reject(new RefusedError("Cannot permit: forbidden", 403));
        }
        permitted.push(...ips);
        return Promise.resolve();
      },
      accept: (options) => listener.accept(options),
      connect: (peer, options) => {
        const local = { ip: host.addresses[0]!, port: 0 };
        return host.network.connectTcp(peer, { local, ...options });
      },
      ref() {},
      unref() {},
      close,
      [Symbol.asyncDispose]: close,
    };
  };
  return { url, open, ip: host.addresses[0]!, permitted, permissionRequests };
}

/** A peer's context, with a relay that no URL names. */
export function contextWith(
  options: PeerOptions,
  relay: RelayOpener,
): AsyncDisposable & { readonly context: PeerContext } {
  const closed = new AbortController();
  const jobs: Promise<unknown>[] = [];
  const made = makeContext(options, {
    udp: undefined,
    staticKey: generateKeyPair(),
    closed: closed.signal,
    inBackground: (job) => void jobs.push(Promise.allSettled([job()])),
  });
  const context = { ...made, relays: [relay] };
  const dispose = async () => {
    closed.abort(new Error("closed"));
    await Promise.all(jobs);
    await context.baseSockets?.[Symbol.asyncDispose]();
    await context.signaling[Symbol.asyncDispose]();
  };
  return { context, [Symbol.asyncDispose]: dispose };
}
