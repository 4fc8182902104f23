/**
 * What the process that is the internet and whoever started it say to each other: one JSON value per line.
 *
 * The first line is the plan (see topology.ts), its answer is {@linkcode ControlReady}. Every later line is a
 * {@linkcode ControlCommand} and gets one {@linkcode ControlReply}, in order. The process ends with its input.
 *
 * @module
 */

import type { LabCounters } from "./counters.ts";
import type { NatBehavior } from "../model/nat_behavior.ts";
import type { SessionProtocol } from "../model/nat_packet.ts";
import type { LinkPlan } from "./topology.ts";

/** The hosts stand. */
export interface ControlReady {
  readonly pid: number;
  /** By host, the descriptor of its network namespace in that process. */
  readonly namespaces: Readonly<Record<string, number>>;
}

/** What can be changed and asked while the lab runs. */
export type ControlCommand =
  | { readonly command: "set-behavior"; readonly nat: string; readonly behavior: NatBehavior }
  | { readonly command: "flush"; readonly nat: string }
  | { readonly command: "set-link"; readonly place: string; readonly link: LinkPlan }
  | {
    readonly command: "outage";
    readonly place: string;
    readonly afterMs: number;
    readonly forMs: number;
  }
  | {
    readonly command: "block";
    readonly place: string;
    readonly protocols: readonly SessionProtocol[];
  }
  | { readonly command: "counters" }
  /** Writes every packet that hosts send and get to a file that tcpdump reads; ends with no path. */
  | { readonly command: "trace"; readonly path?: string };

/** `counters` comes with the reply to `counters`. */
export type ControlReply =
  | { readonly ok: true; readonly counters?: LabCounters }
  | { readonly ok: false; readonly message: string };
