/**
 * PCP messages from outside. The requests were written by hand from the diagrams of RFC 6887 §7.1, §11.1, §12.1
 * and §13; the responses are what Debian 12's miniupnpd 2.3.1 answered to these bytes in network namespaces, unless
 * they too are named "by hand". A line is a row of the diagram, or a few short ones.
 *
 * @module
 */

import type { PcpRequest, PcpResponse } from "../../lib/portmap/pcp/message.ts";
import type { Vector } from "./nat_pmp_messages.ts";
import { fromHex } from "./stun_hex.ts";

const nonce = fromHex("0123456789abcdef fedcba98");

const mapTcp8080 = {
  opcode: "MAP",
  nonce,
  protocol: 6,
  internalPort: 8080,
  externalPort: 8080,
} as const;

const request = {
  version: 2,
  lifetimeSeconds: 3600,
  clientIp: "192.168.1.2",
  options: [],
} as const;

const response = {
  version: 2,
  resultCode: 0,
  lifetimeSeconds: 3600,
  epochSeconds: 1,
  options: [],
} as const;

/** What was sent, and what it means. */
export const PCP_REQUESTS: readonly Vector<PcpRequest>[] = [
  {
    name: "ANNOUNCE",
    bytes: fromHex("02 00 0000 00000000 00000000000000000000ffffc0a80102"),
    message: { ...request, lifetimeSeconds: 0, body: { opcode: "ANNOUNCE" } },
  },
  {
    name: "MAP of TCP port 8080",
    bytes: fromHex(`
      02 01 0000 00000e10 00000000000000000000ffffc0a80102
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      00000000000000000000ffff00000000
    `),
    message: { ...request, body: { ...mapTcp8080, externalIp: "0.0.0.0" } },
  },
  {
    name: "MAP of TCP port 8080 to an IPv6 host",
    bytes: fromHex(`
      02 01 0000 00000e10 26000001000000000000000000000002
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      00000000000000000000000000000000
    `),
    message: {
      ...request,
      clientIp: "2600:1::2",
      body: { ...mapTcp8080, externalIp: "::" },
    },
  },
  {
    name: "deletion by MAP",
    bytes: fromHex(`
      02 01 0000 00000000 00000000000000000000ffffc0a80102
      0123456789abcdeffedcba98 06 000000 1f90 0000
      00000000000000000000ffff00000000
    `),
    message: {
      ...request,
      lifetimeSeconds: 0,
      body: { ...mapTcp8080, externalPort: 0, externalIp: "0.0.0.0" },
    },
  },
  {
    name: "MAP with PREFER_FAILURE",
    bytes: fromHex(`
      02 01 0000 00000e10 00000000000000000000ffffc0a80102
      0123456789abcdeffedcba98 11 000000 1f90 1f90
      00000000000000000000ffff00000000
      02 00 0000
    `),
    message: {
      ...request,
      body: { ...mapTcp8080, protocol: 17, externalIp: "0.0.0.0" },
      options: [{ type: "PREFER_FAILURE" }],
    },
  },
  {
    name: "MAP with THIRD_PARTY",
    bytes: fromHex(`
      02 01 0000 00000e10 00000000000000000000ffffc0a80102
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      00000000000000000000ffff00000000
      01 00 0010 00000000000000000000ffffc0a80109
    `),
    message: {
      ...request,
      body: { ...mapTcp8080, externalIp: "0.0.0.0" },
      options: [{ type: "THIRD_PARTY", internalIp: "192.168.1.9" }],
    },
  },
  {
    name: "MAP with FILTER",
    bytes: fromHex(`
      02 01 0000 00000e10 00000000000000000000ffffc0a80102
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      00000000000000000000ffff00000000
      03 00 0014 00 78 0050 00000000000000000000ffff2c000000
    `),
    message: {
      ...request,
      body: { ...mapTcp8080, externalIp: "0.0.0.0" },
      options: [
        { type: "FILTER", prefixLength: 120, remotePeerPort: 80, remotePeerIp: "44.0.0.0" },
      ],
    },
  },
  {
    name: "PEER with a web server",
    bytes: fromHex(`
      02 02 0000 00000e10 00000000000000000000ffffc0a80102
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      00000000000000000000ffff00000000
      0050 0000 00000000000000000000ffff2c000009
    `),
    message: {
      ...request,
      body: {
        ...mapTcp8080,
        opcode: "PEER",
        externalIp: "0.0.0.0",
        remotePeerPort: 80,
        remotePeerIp: "44.0.0.9",
      },
    },
  },
];

/** What came back, and what it means. */
export const PCP_RESPONSES: readonly Vector<PcpResponse>[] = [
  {
    name: "ANNOUNCE",
    bytes: fromHex("02 80 00 00 00000000 00000001 000000000000000000000000"),
    message: { ...response, lifetimeSeconds: 0, body: { opcode: "ANNOUNCE" } },
  },
  {
    name: "MAP of TCP port 8080",
    bytes: fromHex(`
      02 81 00 00 00000e10 00000001 000000000000000000000000
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      00000000000000000000ffff2c000007
    `),
    message: { ...response, body: { ...mapTcp8080, externalIp: "44.0.0.7" } },
  },
  {
    name: "a pinhole for TCP port 8080 of an IPv6 host",
    bytes: fromHex(`
      02 81 00 00 00000e10 00000002 000000000000000000000000
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      26000001000000000000000000000002
    `),
    message: {
      ...response,
      epochSeconds: 2,
      body: { ...mapTcp8080, externalIp: "2600:1::2" },
    },
  },
  {
    name: "deletion by MAP",
    bytes: fromHex(`
      02 81 00 00 00000000 00000001 000000000000000000000000
      0123456789abcdeffedcba98 06 000000 1f90 0000
      00000000000000000000ffff2c000007
    `),
    message: {
      ...response,
      lifetimeSeconds: 0,
      body: { ...mapTcp8080, externalPort: 0, externalIp: "44.0.0.7" },
    },
  },
  {
    name: "MAP with PREFER_FAILURE",
    bytes: fromHex(`
      02 81 00 00 00000e10 00000001 000000000000000000000000
      0123456789abcdeffedcba98 11 000000 1f90 1f90
      00000000000000000000ffff2c000007
      02 00 0000
    `),
    message: {
      ...response,
      body: { ...mapTcp8080, protocol: 17, externalIp: "44.0.0.7" },
      options: [{ type: "PREFER_FAILURE" }],
    },
  },
  {
    name: "PEER with a web server",
    bytes: fromHex(`
      02 82 00 00 00000e10 00000001 000000000000000000000000
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      00000000000000000000ffff2c000007
      0050 0000 00000000000000000000ffff2c000009
    `),
    message: {
      ...response,
      body: {
        ...mapTcp8080,
        opcode: "PEER",
        externalIp: "44.0.0.7",
        remotePeerPort: 80,
        remotePeerIp: "44.0.0.9",
      },
    },
  },
  {
    name: "ADDRESS_MISMATCH, to a request whose client IP is 10.0.0.1",
    bytes: fromHex(`
      02 81 00 0c 00000000 00000001 000000000000000000000000
      0123456789abcdeffedcba98 06 000000 1f90 1f90
      00000000000000000000ffff00000000
    `),
    message: {
      ...response,
      resultCode: 12,
      lifetimeSeconds: 0,
      body: { ...mapTcp8080, externalIp: "0.0.0.0" },
    },
  },
  {
    name: "UNSUPP_OPCODE, to opcode 5",
    bytes: fromHex("02 85 00 04 00000000 00000001 000000000000000000000000"),
    message: {
      ...response,
      resultCode: 4,
      lifetimeSeconds: 0,
      body: { opcode: 5, data: new Uint8Array(0) },
    },
  },
  {
    name: "by hand from RFC 6887 §8.2: UNSUPP_VERSION that does not repeat the request",
    bytes: fromHex("01 81 00 01 00000708 00000001 000000000000000000000000"),
    message: {
      ...response,
      version: 1,
      resultCode: 1,
      lifetimeSeconds: 1800,
      body: { opcode: 1, data: new Uint8Array(0) },
    },
  },
];

/** Captured: what miniupnpd sends to 224.0.0.1 and ff02::1, port 5350, from its port 5351 when it starts. */
export const UNSOLICITED_ANNOUNCE = fromHex(
  "02 80 00 00 00000000 00000000 000000000000000000000000",
);

/** By hand from RFC 6886 §3.5: a router's whole answer to a PCP request if it knows only NAT-PMP. */
export const NAT_PMP_ONLY = fromHex("00 81 0001 00015180");
