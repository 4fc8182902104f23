/**
 * What reports call the checks and their results, on terminals and on pages.
 *
 * @module
 */

import type { CheckName, CheckState, Expectation } from "./report_message.ts";

/** The headings of the checks. */
export const CHECK_TITLES: Readonly<Record<CheckName, string>> = {
  "dns": "names",
  "clock": "clock",
  "ipv4": "IPv4",
  "ipv6": "IPv6",
  "nat64": "NAT64",
  "udp": "UDP",
  "tcp": "TCP",
  "https": "port 443",
  "proxy": "proxy",
  "captive-portal": "sign-in page",
  "mtu": "large packets",
  "router": "router",
  "rendezvous": "signaling",
  "relay": "relay",
  "public": "public hosts",
};

/** What the states are called. */
export const STATE_WORDS: Readonly<Record<CheckState, string>> = {
  ok: "ok",
  warn: "warning",
  fail: "failed",
  unknown: "unknown",
};

/** How a connection comes about. */
export const EXPECTATION_WORDS: Readonly<Record<Expectation, string>> = {
  direct: "directly",
  relay: "by a relay",
  none: "not at all",
};
