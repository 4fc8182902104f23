/**
 * Those who come to a command that has room for one of them.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, UnreachableError } from "../base/errors.ts";
import type { PeerConnection } from "../peer/connection.ts";
import type { IncomingConnection } from "../peer/incoming.ts";

/** Whom callers come to. */
export interface Callers {
  /** As {@linkcode Peer.nextIncoming}. */
  nextIncoming(options?: { signal?: AbortSignal }): Promise<IncomingConnection>;
}

/** How to let somebody in; `undefined` is a failure that has been told. */
export type Accept = (
  incoming: IncomingConnection,
  signal: AbortSignal,
) => Promise<PeerConnection | undefined>;

/**
 * Lets in those who come until one of them is through: who came first may have left again, and the next should not have
 * to wait for that to show. A few are let in at a time, of whom the oldest has to give way to the newest.
 *
 * @param accept aborted when another one is through, or takes the place
 * @throws what `accept` throws
 * @throws the signal's reason, if nobody has come before that does get through
 */
export async function firstThrough(
  callers: Callers,
  accept: Accept,
  { signal }: { signal: AbortSignal },
): Promise<PeerConnection> {
  const attempts = new Attempts(accept);
  const open = AbortSignal.any([signal, attempts.settled]);
  const takeAll = async () => {
    try {
      for (;;) attempts.begin(await callers.nextIncoming({ signal: open }));
    } catch (error) {
      await attempts.fail(error);
    }
  };
  takeAll();
  return await attempts.first;
}

/** Tells all who come that somebody else is there, until the signal, or the end of whom they come to. */
export async function refuseOthers(
  callers: Callers,
  { signal, keep = () => false }: {
    readonly signal: AbortSignal;
    /** Whether it is taken care of; nobody else waits for the answer. Must not fail. */
    readonly keep?: (incoming: IncomingConnection) => boolean | Promise<boolean>;
  },
): Promise<void> {
  const deciding = new Set<Promise<void>>();
  const decide = async (incoming: IncomingConnection) => {
    if (!await keep(incoming)) incoming.refuse("busy");
  };
  try {
    for (;;) {
      const each = decide(await callers.nextIncoming({ signal }));
      deciding.add(each);
      each.then(() => deciding.delete(each));
    }
  } catch (error) {
    const isClosed = error instanceof NetworkError && error.reason === "closed";
    if (!signal.aborted && !isClosed) throw error;
  }
  await Promise.all(deciding);
}

/**
 * Accepts; `undefined` where there is no way, or the other side has left or does not keep to the protocol.
 *
 * @param tell hears which of these it was
 */
export async function acceptOrTell(
  incoming: IncomingConnection,
  tell: (error: Error) => void,
  { signal }: { signal: AbortSignal },
): Promise<PeerConnection | undefined> {
  try {
    return await incoming.accept({ signal });
  } catch (error) {
    signal.throwIfAborted();
    const isTheirs = error instanceof UnreachableError || error instanceof NetworkError ||
      error instanceof MalformedMessageError;
    if (!isTheirs) throw error;
    tell(error);
    return undefined;
  }
}

/** Those who are being let in. */
class Attempts {
  readonly #accept: Accept;
  readonly #first = Promise.withResolvers<PeerConnection>();
  readonly #settled = new AbortController();
  /** One for each who comes, by who it is; the oldest first. */
  readonly #underWay = new Map<string, AbortController>();
  readonly #running = new Set<Promise<void>>();

  constructor(accept: Accept) {
    this.#accept = accept;
  }

  /** Who is through. */
  get first(): Promise<PeerConnection> {
    return this.#first.promise;
  }

  /** Aborted when somebody is through, or nobody will be. */
  get settled(): AbortSignal {
    return this.#settled.signal;
  }

  begin(incoming: IncomingConnection): void {
    const running = this.#run(incoming).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Nobody comes any more; who is being let in may still get through. */
  async fail(reason: unknown): Promise<void> {
    await Promise.all(this.#running);
    this.#settle(() => this.#first.reject(reason));
  }

  async #run(incoming: IncomingConnection): Promise<void> {
    if (this.settled.aborted) return incoming.refuse("busy");
    const { remoteId } = incoming;
    const given = this.#makeRoom(remoteId);
    try {
      const signal = AbortSignal.any([this.settled, given.signal]);
      const connection = await this.#accept(incoming, signal);
      if (connection === undefined) return;
      if (signal.aborted) return connection.reset();
      this.#settle(() => this.#first.resolve(connection));
    } catch (error) {
      if (!given.signal.aborted) this.#settle(() => this.#first.reject(error));
    } finally {
      if (this.#underWay.get(remoteId) === given) this.#underWay.delete(remoteId);
    }
  }

  #makeRoom(remoteId: string): AbortController {
    const isFull = this.#underWay.size >= MAX_UNDER_WAY;
    const [oldest] = this.#underWay.keys();
    const leaving = this.#underWay.has(remoteId) || !isFull ? remoteId : oldest!;
    this.#underWay.get(leaving)?.abort(GIVE_WAY);
    this.#underWay.delete(leaving);
    const given = new AbortController();
    this.#underWay.set(remoteId, given);
    return given;
  }

  #settle(how: () => void): void {
    if (this.settled.aborted) return;
    how();
    this.#settled.abort(TOO_LATE);
  }
}

const GIVE_WAY = new DOMException("Somebody else came", "AbortError");
const TOO_LATE = new DOMException("Somebody else was faster", "AbortError");

/** Ours: each has a port, and connections to STUN servers, which take some from one address and not many. */
export const MAX_UNDER_WAY = 4;
