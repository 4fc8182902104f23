/**
 * Watches the link to a relay: if what this side sends is not answered for a while, it is checked whether the link carries
 * short messages and swallows long ones (an "MTU hole"). There may be no other path, but whoever waits learns why.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";
import { withoutLogin } from "../base/login.ts";
import { Deadline, ResettableTimer } from "../base/timers.ts";
import type { Finding } from "../nat/behavior.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { checkRelay } from "../signal/rendezvous/relay_check.ts";
import { MTU_REMEDY } from "./path_check.ts";

/**
 * The connection to a relay, watched until it is closed.
 *
 * @param onSilent called once, if nothing comes back for a while after something was sent; or if the connection is reset
 * after a while without answers to something long, since what came last may have answered something before that
 */
export function watchRelay(raw: TcpConnection, onSilent: () => void): TcpConnection {
  let isOver = false;
  const timer = new ResettableTimer(() => {
    isOver = true;
    onSilent();
  });
  timer.isReferenced = false;
  let longSentMs = -Infinity;
  let receivedMs = -Infinity;
  /** Whether it is given up, after a silence that began when long data had just been sent. */
  const isStalled = () =>
    performance.now() - receivedMs >= UNANSWERED_MS && longSentMs > receivedMs - UNANSWERED_MS;
  const end = () => {
    isOver = true;
    timer.clear();
  };
  return {
    local: raw.local,
    remote: raw.remote,
    read: async (buffer) => {
      const count = await raw.read(buffer);
      timer.clear();
      receivedMs = performance.now();
      if (count === null) end();
      return count;
    },
    write: (data) => {
      if (!isOver && !timer.isSet) timer.set(UNANSWERED_MS);
      if (data.length >= LONG_BYTES) longSentMs = performance.now();
      return raw.write(data);
    },
    closeWrite: () => raw.closeWrite(),
    close: () => {
      end();
      raw.close();
    },
    reset: () => {
      const isSilent = !isOver && isStalled();
      end();
      raw.reset();
      if (isSilent) onSilent();
    },
    ref: () => raw.ref?.(),
    unref: () => raw.unref?.(),
    [Symbol.dispose]: () => {
      end();
      raw.close();
    },
  };
}

/**
 * What a person is told about a link that carries short messages and swallows long ones; `undefined` if it does not, or
 * that cannot be found out.
 *
 * @throws the signal's reason on abort
 */
export async function relayFinding(
  url: string,
  { network, signal }: { readonly network: Network; readonly signal: AbortSignal },
): Promise<Finding | undefined> {
  using deadline = new Deadline(CHECK_MS, signal);
  try {
    const outcome = await checkRelay(url, { network, signal: deadline.signal });
    signal.throwIfAborted();
    if (outcome === "works") return undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (!deadline.signal.aborted && !(error instanceof PunchlineError)) throw error;
    return undefined;
  }
  const shown = withoutLogin(url);
  return {
    kind: "mtu",
    summary:
      `The link to the relay ${shown} swallows long packets (an MTU hole): what is sent through it stalls`,
    remedy: MTU_REMEDY,
  };
}

/** Chosen by us: a path that has not answered for so long has stalled; a check costs the relay two connections. */
const UNANSWERED_MS = 1500;

/** Shorter packets pass every hole that is known: RFC 8200 §5 promises 1,280 bytes. */
const LONG_BYTES = 1200;

/** Chosen by us: as long as the stalled connection waits for another path. */
const CHECK_MS = 5000;
