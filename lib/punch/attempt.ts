/**
 * What two offers lead to: dials and a listener by the plan that is made of them, and a connection if they meet.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { type ConnectionAttempt, NetworkError } from "../errors.ts";
import { formatTransportAddress, type IpFamily, ipFamily } from "../net/address.ts";
import type { Network, TcpListener } from "../net/network.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { Dialing, DialTrace } from "./dialing.ts";
import { GiveUp } from "./give_up.ts";
import { punchSecret } from "./handshake.ts";
import { Meeting, type MeetingOutcome, type Met } from "./meeting.ts";
import type { PunchOffer, PunchRole } from "./message.ts";
import { planPunch } from "./plan.ts";
import type { PunchPlan } from "./plan_types.ts";
import type { Candidate, PunchSide } from "./profile.ts";

/** What an attempt needs. */
export interface AttemptOptions {
  readonly network: Network;
  readonly channel: Pick<SignalChannel, "rttMs">;
  readonly role: PunchRole;
  /** Known to both sides and to nobody else; may be empty. */
  readonly sharedSecret: Uint8Array;
}

/** How an attempt ended. */
export type AttemptOutcome =
  | {
    readonly kind: "connected";
    readonly met: Met;
    readonly plan: PunchPlan;
    /** When both offers were known. */
    readonly startedAtMs: number;
  }
  | { readonly kind: "impossible"; readonly plan: PunchPlan }
  | { readonly kind: "failed"; readonly plan: PunchPlan }
  | { readonly kind: "abandoned" };

/** Dials and listens by the plan that two offers make. */
export class PunchAttempt {
  /** Settles when all that it opened is closed, but for the connection that it found. */
  readonly finished: Promise<AttemptOutcome>;
  readonly #controller = new AbortController();
  readonly #accepted: DialTrace[] = [];
  #dialing: Dialing | undefined;

  constructor(options: AttemptOptions, ours: PunchOffer, theirs: PunchOffer, signal: AbortSignal) {
    this.finished = this.#run(
      options,
      ours,
      theirs,
      AbortSignal.any([signal, this.#controller.signal]),
    );
  }

  /** Everything that was tried. */
  get attempts(): ConnectionAttempt[] {
    const traces = [...this.#dialing?.traces ?? [], ...this.#accepted];
    return traces.map((trace) => trace.toAttempt());
  }

  /** Gives up. */
  abandon(): void {
    this.#controller.abort();
  }

  async #run(
    options: AttemptOptions,
    ours: PunchOffer,
    theirs: PunchOffer,
    signal: AbortSignal,
  ): Promise<AttemptOutcome> {
    const { network, role, channel, sharedSecret } = options;
    const startedAtMs = performance.now();
    const plan = planPunch(ours.side, theirs.side, {
      role,
      isSecond: ours.isSecond,
      ...channel.rttMs !== undefined && { signalRttMs: channel.rttMs },
    });
    if (plan.technique === "impossible") return { kind: "impossible", plan };

    const stop = new AbortController();
    const ended = AbortSignal.any([signal, stop.signal]);
    await using meeting = new Meeting(role, punchSecret(ours, theirs, sharedSecret), PATIENCE_MS);
    const { punchPort, canListenBeside: reusePort } = ours.side;
    const families = new Set<IpFamily>([4, ...ours.side.candidates.map(familyOf)]);
    const listenAll = () =>
      Promise.all(Array.from(families, (family) => listen(network, family, ours.side)));
    const beside = plan.listens && reusePort ? await listenAll() : undefined;
    const dialing = this.#dialing = new Dialing(plan, {
      network,
      punchPort,
      reusePort,
      onConnection: async (connection, trace) => {
        const outcome = await meeting.add(connection);
        trace.end(OUTCOMES[outcome]);
        return outcome === "broken";
      },
      signal: ended,
    });
    const listening = async () => {
      if (!plan.listens) return;
      // Where the port is not shared, none can dial from it any more once somebody listens.
      if (beside === undefined && !await passes(lastStartMs(plan) + AFTER_DIALS_MS, ended)) return;
      const listeners = (beside ?? await listenAll()).filter((each) => each !== undefined);
      await Promise.all(
        listeners.map((listener) => this.#accept(listener, meeting, lastEndMs(plan), ended)),
      );
    };
    const exhausted = Promise.all([dialing.run(), listening()]).then(() => undefined);
    try {
      await Promise.race([meeting.winner, exhausted]);
    } finally {
      stop.abort();
      await meeting[Symbol.asyncDispose](); // dials wait for what becomes of their connections
      await exhausted;
    }
    // Asked only now: a nomination may have come with the end of everything else.
    if (meeting.met !== undefined) {
      return { kind: "connected", met: meeting.met, plan, startedAtMs };
    }
    return signal.aborted ? { kind: "abandoned" } : { kind: "failed", plan };
  }

  /** Takes connections on the punch port for as long as dials of either side may lead to it. */
  async #accept(
    listener: TcpListener,
    meeting: Meeting,
    forMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    using patience = new GiveUp(forMs, signal);
    const turn = patience.signal;
    const meetings: Promise<void>[] = [];
    try {
      for (;;) {
        const connection = await listener.accept({ signal: turn });
        if (this.#accepted.length >= MAX_ACCEPTED) {
          connection.reset();
          continue;
        }
        const trace = new DialTrace("accepted", formatTransportAddress(connection.remote));
        trace.local = formatTransportAddress(connection.local);
        this.#accepted.push(trace);
        meetings.push(meeting.add(connection).then((outcome) => trace.end(OUTCOMES[outcome])));
      }
    } catch (error) {
      if (!turn.aborted) throw error;
    } finally {
      listener.close();
      await Promise.all(meetings);
    }
  }
}

/** Listens on the punch port, unless it cannot be: somebody else may have it on all addresses. */
async function listen(
  network: Network,
  family: IpFamily,
  { punchPort, canListenBeside }: PunchSide,
): Promise<TcpListener | undefined> {
  const local = { ip: family === 4 ? "0.0.0.0" : "::", port: punchPort };
  try {
    return await network.listenTcp(local, { reusePort: canListenBeside });
  } catch (error) {
    if (error instanceof NetworkError && error.reason === "address-in-use") return undefined;
    throw error;
  }
}

/** Whether so much time has passed without an abort. */
async function passes(ms: number, signal: AbortSignal): Promise<boolean> {
  return await delay(ms, { signal }).then(() => true, () => false);
}

function familyOf({ address }: Candidate): IpFamily {
  return ipFamily(address.ip);
}

function lastStartMs({ dials }: PunchPlan): number {
  return Math.max(0, ...dials.map(({ startMs }) => startMs));
}

function lastEndMs({ dials }: PunchPlan): number {
  return Math.max(0, ...dials.map(({ startMs, giveUpMs }) => startMs + giveUpMs));
}

const OUTCOMES: Readonly<Record<MeetingOutcome, ConnectionAttempt["outcome"]>> = {
  nominated: "connected",
  "not-nominated": "abandoned",
  "not-authenticated": "not-authenticated",
  broken: "failed",
};

/** Connections that are looked at; ours: the peer makes a few, strangers may make any number. */
const MAX_ACCEPTED = 256;

/** How long the other end may take to prove itself; ours: a few of the longest round trips. */
const PATIENCE_MS = 4000;

/** Where listening has to wait for the dials, so long after the last of them; ours: they leave within a tick. */
const AFTER_DIALS_MS = 20;
