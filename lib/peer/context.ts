/**
 * What all connections of one peer share.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import type { BusPool } from "../connect/bus_pool.ts";
import type { PeerTimings } from "../connect/peer_timings.ts";
import type { Network } from "../net/network.ts";
import type { KeyPair } from "../noise/key_pair.ts";
import type { PunchOptions } from "../punch/punch.ts";
import type { AnchorPool } from "./pools.ts";
import type { RelayOpener } from "./relay_path.ts";

/** What a peer is made of. */
export interface PeerContext {
  readonly network: Network;
  readonly staticKey: KeyPair;
  readonly buses: BusPool;
  /** `undefined` if all direct ways are ruled out. */
  readonly anchors: AnchorPool | undefined;
  readonly punchOptions: Pick<PunchOptions, "servers" | "report" | "ways" | "logger">;
  readonly relays: readonly RelayOpener[];
  readonly mayRelay: boolean;
  /** Whether no other side shall learn this one's addresses. */
  readonly isHidden: boolean;
  readonly timings: PeerTimings;
  readonly logger: Logger | undefined;
  /** Waits for a job before the peer is closed; what it fails with is somebody else's. */
  inBackground(job: Promise<unknown>): void;
  /** Aborted when the peer is closed. */
  readonly closed: AbortSignal;
}
