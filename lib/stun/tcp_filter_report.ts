/**
 * What a TCP filter test found, and how its verdicts follow from what both sides saw.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { DialResult, TcpFilterResult } from "./tcp_filter/message.ts";

/** What an unsolicited SYN gets; `"unknown"` if the test could not tell. */
export type UnsolicitedSyn = "accepted" | "reset" | "dropped" | "unknown";

/** What a TCP filter test found. */
export interface TcpFilterReport {
  /** Of SYNs from the address that this side talks to, and another port. */
  readonly sameAddress: UnsolicitedSyn;
  /** Of SYNs from an address that this side has never talked to. */
  readonly alternateAddress: UnsolicitedSyn;
  /** Where the test was run from: this side's end of the connection. */
  readonly local: TransportAddress;
  /** The same end, as the server sees it. */
  readonly mapped: TransportAddress | undefined;
  /** What the verdicts rest on. */
  readonly evidence: TcpFilterEvidence;
}

/** What the verdicts of a {@linkcode TcpFilterReport} rest on. */
export interface TcpFilterEvidence {
  /** What the server says; `undefined` if it does not know this test. */
  readonly server: TcpFilterResult | undefined;
  /** Whether a dial of the server arrived here and proved to be its own. */
  readonly arrived: { readonly sameAddress: boolean; readonly alternateAddress: boolean };
  /** Whether this side could listen on the port. Without that, a RST may be this system's own. */
  readonly listening: boolean;
  /** Of the connection's handshake. */
  readonly rttMs: number;
  /** Of the whole test. */
  readonly elapsedMs: number;
}

/** What became of the SYNs of one origin, from both sides' view of it. */
export function judge(
  dialled: DialResult | undefined,
  arrived: boolean,
  { listening }: { listening: boolean },
): UnsolicitedSyn {
  if (arrived) return "accepted";
  switch (dialled?.outcome) {
    case "silent":
      return "dropped";
    case "refused":
      return listening ? "reset" : "unknown";
    default:
      // "accepted", but not by this side: another machine or a proxy has the port.
      return "unknown";
  }
}
