/**
 * The control protocol between the lab and its internet process: one JSON value per line.
 *
 * The lab first sends the plan (see topology.ts), and the process answers with {@linkcode ControlReady}. Each later
 * line is a {@linkcode ControlCommand} and gets one {@linkcode ControlReply}, in order. The process ends with its input.
 *
 * @module
 */

import type { LabCounters } from "./counters.ts";
import type { NatBehavior } from "../model/nat_behavior.ts";
import type { SessionProtocol } from "../model/nat_packet.ts";
import type { LinkPlan } from "./topology.ts";

/** All hosts are up. */
export interface ControlReady {
  readonly pid: number;
  /** By host: the file descriptor of its network namespace in that process. */
  readonly namespaces: Readonly<Record<string, number>>;
}

/** What can be changed and queried while the lab runs. */
export type ControlCommand =
  | { readonly command: "set-behavior"; readonly nat: string; readonly behavior: NatBehavior }
  | { readonly command: "flush"; readonly nat: string; readonly family?: 4 | 6 }
  | { readonly command: "renumber"; readonly nat: string }
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
  /** Captures all packets that hosts send and receive to a pcap file; without a path, stops capturing. */
  | { readonly command: "trace"; readonly path?: string };

/** Only the reply to `counters` has `counters`. */
export type ControlReply =
  | { readonly ok: true; readonly counters?: LabCounters }
  | { readonly ok: false; readonly message: string };
