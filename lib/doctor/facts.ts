/**
 * What the checks of `doctor` bring home: plain data, which checks, findings and the verdict are made from.
 *
 * @module
 */

import type { Finding, NatReport } from "../nat/behavior.ts";
import type { NameFault, NetworkEvidence } from "../nat/findings.ts";
import type { MappingVerdictKind } from "../portmap/verdict.ts";

/** How a job of the examination ended. */
export type Outcome<T> =
  | { readonly kind: "done"; readonly value: T; readonly elapsedMs: number }
  | { readonly kind: "failed"; readonly fault: JobFault; readonly elapsedMs: number }
  /** It was ended, because time was up or the rest had shown enough. */
  | { readonly kind: "unfinished"; readonly elapsedMs: number };

/** Why a job failed. */
export interface JobFault {
  readonly message: string;
  readonly remedy: string | null;
  /** Whether a server answered with something else than its own protocol. */
  readonly isWrongAnswer: boolean;
}

/** How the name of a server resolved. */
export interface NameFacts {
  readonly name: string;
  readonly ips: readonly string[];
  /** `null` if it was found. */
  readonly fault: NameFault | null;
}

/** Whether long packets pass. */
export interface MtuFacts {
  /** The longest packet that was answered; `null` if none was. */
  readonly answeredBytes: number | null;
  /** What is wrong; `null` if nothing is, or it is not known. */
  readonly finding: Finding | null;
}

/** How a signaling server, and its relay, fared. */
export interface ServerFacts {
  /** `HOST:PORT`. */
  readonly name: string;
  readonly isOpen: boolean;
  /** Why it is not open. */
  readonly fault: JobFault | null;
  readonly rttMs: number | null;
  /** `"stalls"`: short messages pass, long ones do not. `"untried"`: it is no rendezvous. */
  readonly relay: "works" | "stalls" | "none" | "failed" | "untried";
  /** Why the relay does not work. */
  readonly relayFault: JobFault | null;
}

/** How a router answered requests for ports. */
export interface RouterFacts {
  /** Its IP address. */
  readonly address: string;
  /** Whether the internet could reach a port that it opens; `null` if it opens none. */
  readonly verdict: MappingVerdictKind | null;
  /** The verdict's cause and remedy, in one line. */
  readonly detail: string;
}

/** Whether the proxy of this host connects to a signaling server. */
export interface ProxyFacts {
  /** Without its login. */
  readonly url: string;
  /** Why it does not. */
  readonly fault: JobFault | null;
}

/** A host of the list for `--public`, and what it answered. */
export interface PublicFacts {
  readonly name: string;
  readonly answer: "as expected" | "another page" | "silence";
  /** The clock of the host minus this host's, in milliseconds; `null` if it did not say. */
  readonly clockMs: number | null;
}

/** Everything. */
export interface DoctorFacts {
  readonly nat: Outcome<NatReport>;
  readonly evidence: Outcome<NetworkEvidence>;
  readonly names: Outcome<readonly NameFacts[]>;
  readonly servers: Outcome<readonly ServerFacts[]>;
  readonly mtu: Outcome<MtuFacts | null>;
  /** A server's clock minus this host's, in milliseconds; `null` if no server told. */
  readonly clock: Outcome<number | null>;
  readonly gateways: Outcome<readonly RouterFacts[]>;
  /** The NAT64 prefixes of this network. */
  readonly nat64: Outcome<readonly string[]>;
  /** `null` if no proxy is set up. */
  readonly proxy: Outcome<ProxyFacts | null>;
  /** `null` unless it was asked for. */
  readonly publicHosts: Outcome<readonly PublicFacts[]> | null;
}

/** The result of a job that is done; `undefined` otherwise. */
export function valueOf<T>(outcome: Outcome<T>): T | undefined {
  return outcome.kind === "done" ? outcome.value : undefined;
}

/** Whether anything came back from any server. */
export function isConnected({ nat, servers }: Pick<DoctorFacts, "nat" | "servers">): boolean {
  const report = valueOf(nat);
  const families = report === undefined
    ? []
    : [report.udp.ipv4, report.udp.ipv6, report.tcp.ipv4, report.tcp.ipv6];
  return families.some((family) => family?.reachable) ||
    (valueOf(servers) ?? []).some(({ isOpen }) => isOpen);
}
