/**
 * What all connections of one peer share.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import type { Logger } from "../base/logger.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import type { KeyPair } from "../noise/key_pair.ts";
import { mapPort } from "../portmap/map_port.ts";
import { preparePunch, type PunchOptions } from "../punch/punch.ts";
import { openSignaling } from "../signal/open.ts";
import { openStreamRelay } from "../turn/open_relay.ts";
import {
  parseRelay,
  parseStrategy,
  pathKindsOf,
  PEER_TIMINGS,
  type PeerOptions,
  type PeerTimings,
  type RelayServer,
  STRATEGIES,
} from "./options.ts";
import { BaseSocketPool, type BaseSocketPoolOptions, SignalingPool } from "./pools.ts";
import type { RelayOpener } from "./relay_path.ts";

/** What a peer is made of. */
export interface PeerContext {
  readonly network: Network;
  readonly staticKey: KeyPair;
  readonly buses: SignalingPool;
  /** `undefined` if all direct ways are ruled out. */
  readonly bases: BaseSocketPool | undefined;
  readonly punchOptions: Pick<PunchOptions, "servers" | "report" | "pathKinds" | "logger">;
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

/**
 * What the connections of a peer share.
 *
 * @throws {TypeError} if a relay or a strategy is none, no strategy is left, or there is no relay where only relays may be used
 */
export function makeContext(
  options: PeerOptions,
  own: Pick<PeerContext, "staticKey" | "closed" | "inBackground">,
): PeerContext {
  const { network = systemNetwork, logger, turn = [], mapPorts = true } = options;
  const { servers, report, relayOnly = false } = options;
  const kinds = pathKindsOf((options.strategies ?? STRATEGIES).map(parseStrategy));
  const pathKinds = new Set([...kinds].filter((kind) => kind !== "relay"));
  const isDirect = !relayOnly && pathKinds.size > 0;
  const mayRelay = kinds.has("relay");
  if (!isDirect && !mayRelay) throw new TypeError("Cannot connect: no strategy is left");
  if (relayOnly && turn.length === 0) {
    throw new TypeError(
      "Cannot go by relays alone: that takes one of this side's, as the other side's would show its address",
    );
  }
  const punchOptions = {
    pathKinds,
    ...servers && { servers },
    ...report && { report },
    ...logger && { logger },
  };
  const bases: BaseSocketPoolOptions = {
    prepare: (signal) => preparePunch({ ...punchOptions, network, signal }),
    ...mapPorts && pathKinds.has("mapped") && {
      map: (internalPort, signal) =>
        mapPort({
          ...{ protocol: "tcp", internalPort, network, signal },
          lifetimeSeconds: MAPPING_SECONDS,
          checkSeconds: Infinity,
        }),
    },
  };
  const transports = new Map(
    (options.signaling ?? []).flatMap((way) => typeof way === "string" ? [] : [[way.url, way]]),
  );
  return {
    ...own,
    ...{ network, punchOptions, mayRelay, logger, isHidden: relayOnly },
    buses: new SignalingPool((url, signal) =>
      openSignaling(transports.get(url) ?? url, { network, signal, ...logger && { logger } })
    ),
    bases: isDirect ? new BaseSocketPool(bases) : undefined,
    relays: turn.map(parseRelay).map((server) => relayOpener(server, network)),
    timings: { ...PEER_TIMINGS, ...options.timings },
  };
}

/** Who may knock. */
export function allowing(
  allow: PeerOptions["allow"],
): (remoteKey: Uint8Array) => boolean | Promise<boolean> {
  if (allow === undefined) return () => true;
  if (typeof allow === "function") return allow;
  const keys = allow.map((key) => key.slice());
  return (remoteKey) => keys.some((key) => equalBytes(key, remoteKey));
}

function relayOpener(server: RelayServer, network: PeerContext["network"]): RelayOpener {
  const { url, ...access } = server;
  return { url, open: (signal) => openStreamRelay(url, { ...access, network, signal }) };
}

/** Ours: a connection needs the port no longer than it takes to come about; routers grant no less than this. */
const MAPPING_SECONDS = 120;
