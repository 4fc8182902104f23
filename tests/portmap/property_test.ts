import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseIp } from "../../lib/net/address.ts";
import {
  decodeNatPmpRequest,
  decodeNatPmpResponse,
  encodeNatPmpRequest,
  encodeNatPmpResponse,
  type NatPmpRequest,
  type NatPmpResponse,
} from "../../lib/portmap/nat_pmp/message.ts";
import {
  decodePcpRequest,
  decodePcpResponse,
  encodePcpRequest,
  encodePcpResponse,
  type PcpBody,
  type PcpRequest,
  type PcpResponse,
} from "../../lib/portmap/pcp/message.ts";
import type { PcpOption } from "../../lib/portmap/pcp/message.ts";
import { checkDecoders } from "./fuzz_check.ts";

Deno.test("PCP requests round-trip through encode and decode", () => {
  fc.assert(fc.property(pcpRequests(), (request) => {
    assertEquals(decodePcpRequest(encodePcpRequest(request)), request);
  }));
});

Deno.test("PCP responses round-trip through encode and decode", () => {
  fc.assert(fc.property(pcpResponses(), (response) => {
    assertEquals(decodePcpResponse(encodePcpResponse(response)), response);
  }));
});

Deno.test("NAT-PMP requests round-trip through encode and decode", () => {
  fc.assert(fc.property(natPmpRequests(), (request) => {
    assertEquals(decodeNatPmpRequest(encodeNatPmpRequest(request)), request);
  }));
});

Deno.test("NAT-PMP responses round-trip through encode and decode", () => {
  fc.assert(fc.property(natPmpResponses(), (response) => {
    assertEquals(decodeNatPmpResponse(encodeNatPmpResponse(response)), response);
  }));
});

Deno.test("the decoders of PCP and NAT-PMP throw nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    checkDecoders(bytes);
  }));
});

Deno.test("a truncated message is malformed, or a shorter refusal", () => {
  fc.assert(fc.property(pcpResponses(), fc.nat(), (response, at) => {
    const bytes = encodePcpResponse(response);
    checkDecoders(bytes.slice(0, at % bytes.length));
  }));
});

const uint8 = () => fc.nat({ max: 0xff });
const port = () => fc.nat({ max: 0xffff });
const uint32 = () => fc.nat({ max: 0xffff_ffff });
const ipv4 = () => fc.ipV4();
/** Without IPv4-mapped IPv6 addresses, which PCP does not distinguish from IPv4 addresses. */
const ip = () => fc.oneof(ipv4(), fc.ipV6().map(parseIp).filter((ip) => !ip.startsWith("::ffff:")));
const nonce = () => fc.uint8Array({ minLength: 12, maxLength: 12 }).map(copy);

function pcpBodies(): fc.Arbitrary<PcpBody> {
  const mapping = {
    nonce: nonce(),
    protocol: uint8(),
    internalPort: port(),
    externalPort: port(),
    externalIp: ip(),
  };
  return fc.oneof(
    fc.constant({ opcode: "ANNOUNCE" } as const),
    fc.record({ opcode: fc.constant("MAP" as const), ...mapping }),
    fc.record({
      opcode: fc.constant("PEER" as const),
      ...mapping,
      remotePeerPort: port(),
      remotePeerIp: ip(),
    }),
  );
}

function pcpOptions(): fc.Arbitrary<PcpOption[]> {
  return fc.array(
    fc.oneof(
      fc.record({ type: fc.constant("THIRD_PARTY" as const), internalIp: ip() }),
      fc.constant({ type: "PREFER_FAILURE" } as const),
      fc.record({
        type: fc.constant("FILTER" as const),
        prefixLength: uint8(),
        remotePeerPort: port(),
        remotePeerIp: ip(),
      }),
      fc.record({
        type: fc.integer({ min: 4, max: 255 }),
        data: fc.uint8Array({ maxLength: 40 }).map(copy),
      }),
    ),
    { maxLength: 6 },
  );
}

function pcpRequests(): fc.Arbitrary<PcpRequest> {
  return fc.record({
    version: uint8(),
    lifetimeSeconds: uint32(),
    clientIp: ip(),
    body: pcpBodies(),
    options: pcpOptions(),
  });
}

function pcpResponses(): fc.Arbitrary<PcpResponse> {
  return fc.record({
    version: uint8(),
    resultCode: uint8(),
    lifetimeSeconds: uint32(),
    epochSeconds: uint32(),
    body: pcpBodies(),
    options: pcpOptions(),
  });
}

function natPmpRequests(): fc.Arbitrary<NatPmpRequest> {
  return fc.oneof(
    fc.constant({ opcode: "external-address" } as const),
    fc.record({
      opcode: fc.constantFrom("map-udp" as const, "map-tcp" as const),
      internalPort: port(),
      suggestedExternalPort: port(),
      lifetimeSeconds: uint32(),
    }),
  );
}

function natPmpResponses(): fc.Arbitrary<NatPmpResponse> {
  const success = {
    version: fc.constant(0),
    epochSeconds: uint32(),
    resultCode: fc.constant(0 as const),
  };
  return fc.oneof(
    fc.record({
      ...success,
      opcode: fc.constant("external-address" as const),
      externalIp: ipv4(),
    }),
    fc.record({
      ...success,
      opcode: fc.constantFrom("map-udp" as const, "map-tcp" as const),
      internalPort: port(),
      mappedExternalPort: port(),
      lifetimeSeconds: uint32(),
    }),
    fc.record({
      version: uint8(),
      epochSeconds: uint32(),
      opcode: fc.constantFrom("external-address" as const, "map-udp" as const, 3, 127),
      resultCode: fc.integer({ min: 1, max: 0xffff }),
    }),
  );
}

/** fast-check's arrays may be views of larger buffers. */
function copy(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
