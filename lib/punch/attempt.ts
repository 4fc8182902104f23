/**
 * What two offers lead to: a plan, the connectivity checks of the plan, and a connection if one is nominated.
 *
 * @module
 */

import type { ConnectionAttempt } from "../base/errors.ts";
import type { Network } from "../net/network.ts";
import { planPunch } from "./check_list.ts";
import { ConnectivityChecks } from "./checks.ts";
import { PUNCH_LIMITS } from "./limits.ts";
import { manualLimits } from "./manual.ts";
import { type NominatedConnection, Nomination, punchSecret } from "./nomination.ts";
import type { PunchOffer, PunchRole } from "./offer.ts";
import { type DirectPathKind, type PathContext, planWithPathKinds } from "./path_kinds.ts";
import type { PunchPlan } from "./plan_types.ts";

/** What an attempt needs. */
export interface PunchAttemptOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** Known to both sides and to nobody else; may be empty. */
  readonly sharedSecret: Uint8Array;
  /** The kinds of path to try. */
  readonly pathKinds: ReadonlySet<DirectPathKind>;
  /** Whether people carry the offers. */
  readonly isManual: boolean;
  /** Called with the plan. */
  readonly onPlan?: (plan: PunchPlan) => void;
}

/** What an attempt starts from. */
export interface BothOffers {
  /** This side's offer. */
  readonly local: PunchOffer;
  /** The peer's offer. */
  readonly remote: PunchOffer;
  /** How much earlier than the peer this side knows both, in milliseconds. */
  readonly headStartMs: number;
}

/** How an attempt ended. */
export type AttemptResult =
  | ConnectedAttempt
  | { readonly kind: "impossible" | "failed" | "abandoned" };

/** An attempt that found a connection. */
export interface ConnectedAttempt {
  readonly kind: "connected";
  readonly nominated: NominatedConnection;
  readonly plan: PunchPlan;
  /** When both offers were known, by `performance.now()`. */
  readonly startedAtMs: number;
  readonly channelBinding: Uint8Array;
  readonly pathKind: DirectPathKind;
}

/** Dials and listens as planned from two offers. */
export class PunchAttempt {
  /** What this side does. */
  readonly plan: PunchPlan;
  /** Settles when everything that was opened is closed, except for the connection that it found. */
  readonly finished: Promise<AttemptResult>;
  readonly #startedAtMs = performance.now();
  readonly #nomination: Nomination;
  readonly #checks: ConnectivityChecks;
  readonly #abandoned = Promise.withResolvers<void>();
  #isAbandoned = false;

  constructor(options: PunchAttemptOptions, { local, remote, headStartMs }: BothOffers) {
    const { role, sharedSecret, pathKinds } = options;
    const limits = options.isManual ? manualLimits(role) : PUNCH_LIMITS;
    const plan = planPunch(local.side, remote.side, {
      role,
      isSecond: headStartMs > 0,
      signalRttMs: 2 * headStartMs,
      limits,
    });
    const context: PathContext = { local: local.side, remote: remote.side, method: plan.method };
    this.plan = planWithPathKinds(plan, context, pathKinds);
    options.onPlan?.(this.plan);
    this.#nomination = new Nomination(role, punchSecret(local, remote, sharedSecret), PROOF_MS);
    this.#checks = new ConnectivityChecks(this.plan, {
      network: options.network,
      punchPort: local.side.punchPort,
      canListenBeside: local.side.canListenBeside,
      listenMs: limits.timeoutMs,
      context,
      pathKinds,
      onConnection: (connection) => this.#nomination.add(connection),
    });
    this.finished = this.plan.method === "impossible"
      ? Promise.resolve({ kind: "impossible" })
      : this.#run();
  }

  /** Everything that was tried. */
  get attempts(): ConnectionAttempt[] {
    return this.#checks.attempts;
  }

  /** The peer is known to have this side's offer. */
  confirm(): void {
    this.#checks.confirm();
  }

  /** Ends the attempt early; a connection that both sides have agreed on by then is still its result. */
  abandon(): void {
    this.#isAbandoned = true;
    this.#abandoned.resolve();
  }

  async #run(): Promise<AttemptResult> {
    const checking = this.#checks.run();
    try {
      await Promise.race([this.#nomination.winner, checking, this.#abandoned.promise]);
    } finally {
      this.#checks.stop();
      await this.#nomination[Symbol.asyncDispose](); // the checks wait for their connections to be settled
      await checking;
    }
    // Asked only now: a connection may have been nominated while everything else ended.
    const { nominated, channelBinding } = this.#nomination;
    if (nominated === undefined) return { kind: this.#isAbandoned ? "abandoned" : "failed" };
    return {
      kind: "connected",
      nominated,
      plan: this.plan,
      startedAtMs: this.#startedAtMs,
      channelBinding,
      pathKind: this.#checks.kindOf(nominated.connection),
    };
  }
}

/** How long the other end of a connection may take to prove itself. Chosen by us: a few of the longest round trips. */
const PROOF_MS = 4000;
