/**
 * The words for how two hosts are connected, which the API, the JSON output and the options of the command line share.
 *
 * @module
 */

/** How a path reaches the peer; {@linkcode PATH_KINDS} lists all kinds. */
export type PathKind = (typeof PATH_KINDS)[number];

/** Every kind of path, roughly from the cheapest to the most expensive. */
export const PATH_KINDS = [
  "host", // on the same machine
  "lan", // between private addresses
  "ipv6", // between public IPv6 addresses, which no NAT translates
  "direct", // to a public address that accepts connections from anywhere
  "mapped", // to a port that a router forwards on request
  "punch-tcp", // through the filters of both sides, by TCP hole punching
  "punch-udp", // the same by UDP hole punching
  "relay", // by a TURN server
] as const;

/** How a hole punch got through; {@linkcode PUNCH_METHODS} lists all methods. */
export type PunchMethodName = (typeof PUNCH_METHODS)[number];

/** Every method of hole punching. */
export const PUNCH_METHODS = [
  "simultaneous-open", // both sides dial an address that is known
  "one-sided-open", // one side opens its filter with a packet and waits; the other dials it from any port
  "port-prediction", // as simultaneous open, with several candidates for a port that is not known yet
  "birthday", // many sockets on one side, many ports on the other: the birthday paradox
] as const;
