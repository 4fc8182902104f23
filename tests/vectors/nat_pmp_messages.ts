/**
 * NAT-PMP messages by others: captured by tcpdump 4.99 between Debian 12's natpmpc and miniupnpd 2.3.1 in network
 * namespaces (`natpmpc -g 192.168.1.1 [-a PUBLIC PRIVATE PROTOCOL LIFETIME]`), and, where it says so, written by
 * hand from the diagrams of RFC 6886.
 *
 * @module
 */

import type { NatPmpRequest, NatPmpResponse } from "../../lib/portmap/nat_pmp/message.ts";
import { fromHex } from "./stun_hex.ts";

/** What was sent, and what it means. */
export const NAT_PMP_REQUESTS: readonly Vector<NatPmpRequest>[] = [
  {
    name: "natpmpc asks for the external address",
    bytes: fromHex("00 00"),
    message: { opcode: "external-address" },
  },
  {
    name: "natpmpc asks for TCP port 8080",
    bytes: fromHex("00 02 0000 1f90 1f90 00000e10"),
    message: {
      opcode: "map-tcp",
      internalPort: 8080,
      suggestedExternalPort: 8080,
      lifetimeSeconds: 3600,
    },
  },
  {
    name: "natpmpc asks for UDP port 8080 towards 8081",
    bytes: fromHex("00 01 0000 1f91 1f90 00001c20"),
    message: {
      opcode: "map-udp",
      internalPort: 8081,
      suggestedExternalPort: 8080,
      lifetimeSeconds: 7200,
    },
  },
  {
    name: "natpmpc deletes TCP port 8080",
    bytes: fromHex("00 02 0000 1f90 0000 00000000"),
    message: {
      opcode: "map-tcp",
      internalPort: 8080,
      suggestedExternalPort: 0,
      lifetimeSeconds: 0,
    },
  },
];

/** What came back, and what it means. */
export const NAT_PMP_RESPONSES: readonly Vector<NatPmpResponse>[] = [
  {
    name: "miniupnpd tells its external address",
    bytes: fromHex("00 80 0000 00000001 2c000007"),
    message: {
      version: 0,
      opcode: "external-address",
      resultCode: 0,
      epochSeconds: 1,
      externalIp: "44.0.0.7",
    },
  },
  {
    name: "miniupnpd maps TCP port 8080",
    bytes: fromHex("00 82 0000 00000001 1f90 1f90 00000e10"),
    message: {
      version: 0,
      opcode: "map-tcp",
      resultCode: 0,
      epochSeconds: 1,
      internalPort: 8080,
      mappedExternalPort: 8080,
      lifetimeSeconds: 3600,
    },
  },
  {
    name: "miniupnpd maps UDP port 8080 towards 8081",
    bytes: fromHex("00 81 0000 00000001 1f91 1f90 00001c20"),
    message: {
      version: 0,
      opcode: "map-udp",
      resultCode: 0,
      epochSeconds: 1,
      internalPort: 8081,
      mappedExternalPort: 8080,
      lifetimeSeconds: 7200,
    },
  },
  {
    name: "miniupnpd has deleted TCP port 8080",
    bytes: fromHex("00 82 0000 00000001 1f90 0000 00000000"),
    message: {
      version: 0,
      opcode: "map-tcp",
      resultCode: 0,
      epochSeconds: 1,
      internalPort: 8080,
      mappedExternalPort: 0,
      lifetimeSeconds: 0,
    },
  },
  {
    name: "by hand from RFC 6886 §3.5: an unsupported version",
    bytes: fromHex("00 80 0001 00015180"),
    message: { version: 0, opcode: "external-address", resultCode: 1, epochSeconds: 86_400 },
  },
  {
    name: "by hand from RFC 6887 §9: a PCP server refuses NAT-PMP's version",
    bytes: fromHex("02 80 0001 00000708"),
    message: { version: 2, opcode: "external-address", resultCode: 1, epochSeconds: 1800 },
  },
];

/** A message in both forms. */
export interface Vector<T> {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly message: T;
}
