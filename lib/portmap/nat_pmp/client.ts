/**
 * A NAT-PMP client: RFC 6886. IPv4 only. A gateway maps ports of the host that asks.
 *
 * @module
 */

import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  PunchlineError,
} from "../../base/errors.ts";
import { runAll } from "../../base/tasks.ts";
import { ipFamily, type TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { askGateway, INTERACTIVE_WAITS_MS, RFC6886_WAITS_MS } from "../gateway.ts";
import {
  cannot,
  checkGrant,
  checkRequest,
  type GatewayEpoch,
  type MapperCallOptions,
  type MappingGrant,
  MappingRefusedError,
  type MappingRequest,
  type PortMapper,
  type ProbeResult,
  sameAgain,
} from "../mapper.ts";
import { probeResult } from "../probe.ts";
import { LIFETIME_0_REMEDY, NAT_PMP_RESULT, natPmpRefusal } from "../refusals.ts";
import {
  decodeNatPmpResponse,
  encodeNatPmpRequest,
  NAT_PMP_PORT,
  type NatPmpRequest,
  type NatPmpResponse,
} from "./message.ts";

/** What {@linkcode natPmpMapper} takes. */
export interface NatPmpMapperOptions {
  /** The network of this host. */
  readonly network: Network;
  /** The gateway's port; 5351 by default. */
  readonly port?: number;
  /** How long to wait after each request; {@linkcode RFC6886_WAITS_MS} by default. */
  readonly waitsMs?: readonly number[];
}

/**
 * NAT-PMP with one gateway.
 *
 * @param gateway its IPv4 address
 * @throws {TypeError} if it is not an IPv4 address
 */
export function natPmpMapper(gateway: string, options: NatPmpMapperOptions): PortMapper {
  if (ipFamily(gateway) !== 4) {
    throw new TypeError(`Cannot speak NAT-PMP with ${gateway}: NAT-PMP is for IPv4 only`);
  }
  const { network, port = NAT_PMP_PORT, waitsMs = RFC6886_WAITS_MS } = options;
  const server: NatPmpServer = { network, address: { ip: gateway, port }, waitsMs };
  return {
    name: "nat-pmp",
    gateway,
    map: (request, { signal } = {}) => map(server, request, signal),
    renew: async (grant, { signal, lifetimeSeconds } = {}) => {
      checkGrant(grant, "nat-pmp");
      return await map(server, sameAgain(grant, lifetimeSeconds), signal);
    },
    release: async (grant, { signal } = {}) => {
      checkGrant(grant, "nat-pmp");
      await release(server, grant, signal);
    },
    externalIp: async ({ signal } = {}) => (await askExternalIp(server, signal)).externalIp,
    probe: (options) => probe(server, options),
  };
}

interface NatPmpServer {
  readonly network: Network;
  readonly address: TransportAddress;
  readonly waitsMs: readonly number[];
}

async function map(
  server: NatPmpServer,
  request: MappingRequest,
  signal: AbortSignal | undefined,
): Promise<MappingGrant> {
  checkRequest(request);
  // Both requests at once, as the RFC allows, take one round trip.
  let isGranted = false;
  const [{ mapping, epoch }, externalIp] = await runAll([
    async (signal) => {
      const answer = await askMappingForGood(server, request, signal);
      isGranted = true;
      return answer;
    },
    (signal) => askExternalIpForGrant(server, { signal, isGranted: () => isGranted }),
  ], signal);
  const grant: MappingGrant = {
    mapper: "nat-pmp",
    protocol: request.protocol,
    internal: request.internal,
    external: { ip: externalIp, port: mapping.mappedExternalPort },
    lifetimeSeconds: mapping.lifetimeSeconds,
    grantedAtMs: epoch.receivedAtMs,
    gateway: server.address.ip,
    handle: "",
    epoch,
  };
  const { exactExternalPort, externalPort = request.internal.port } = request;
  if (!exactExternalPort || grant.external.port === externalPort) return grant;
  await release(server, grant, signal);
  throw new MappingRefusedError(
    `${cannot("map", request)}: gateway ${grant.gateway} granted external port ` +
      `${grant.external.port}, not ${externalPort}`,
    {
      mapper: "nat-pmp",
      code: NAT_PMP_RESULT.SUCCESS,
      reason: "OTHER_PORT_GRANTED",
      remedy: "The external port is in use: ask for another",
    },
  );
}

/** A gateway that grants a port for no time, or no port, may have opened one, so it is closed. */
async function askMappingForGood(
  server: NatPmpServer,
  request: MappingRequest,
  signal: AbortSignal,
) {
  const answer = await askMapping(server, request, signal);
  const { lifetimeSeconds, mappedExternalPort } = answer?.mapping ?? NOTHING;
  if (answer !== undefined && lifetimeSeconds > 0 && mappedExternalPort > 0) return answer;
  try {
    const external = { ip: "0.0.0.0", port: mappedExternalPort };
    await release({ ...server, waitsMs: CLOSING_WAITS_MS }, { ...request, external }, signal);
  } catch (error) {
    if (!(error instanceof PunchlineError)) throw error; // the refusal says enough
  }
  if (lifetimeSeconds === 0) throw noLifetime(server, request);
  throw new MalformedMessageError(
    `${cannot("map", request)}: gateway ${server.address.ip} granted external port 0`,
  );
}

function noLifetime({ address }: NatPmpServer, request: MappingRequest): MappingRefusedError {
  return new MappingRefusedError(
    `${cannot("map", request)}: gateway ${address.ip} granted it for 0 s`,
    {
      mapper: "nat-pmp",
      code: NAT_PMP_RESULT.SUCCESS,
      reason: "LIFETIME_0",
      remedy: LIFETIME_0_REMEDY,
    },
  );
}

/** The grant; `undefined` if the gateway granted neither a port nor a lifetime each time that it answered. */
async function askMapping(server: NatPmpServer, request: MappingRequest, signal: AbortSignal) {
  const { protocol, internal, externalPort = internal.port, lifetimeSeconds } = request;
  const opcode = OPCODES[protocol];
  const question = {
    opcode,
    internalPort: internal.port,
    suggestedExternalPort: externalPort,
    lifetimeSeconds,
  };
  const what = { action: cannot("map", request), localIp: internal.ip, signal };
  let hasGrantedNothing = false;
  const asked = ask(server, question, what, (response) => {
    if (!("internalPort" in response) || response.opcode !== opcode) return undefined;
    if (response.internalPort !== internal.port) return undefined;
    // A late answer to a deletion has neither a lifetime nor a port (RFC 6886 §3.4).
    const isDeletion = response.lifetimeSeconds === 0 && response.mappedExternalPort === 0;
    hasGrantedNothing ||= isDeletion;
    return isDeletion ? undefined : response;
  });
  try {
    const { answer: mapping, receivedAtMs } = await asked;
    return { mapping, epoch: { seconds: mapping.epochSeconds, receivedAtMs } };
  } catch (error) {
    if (error instanceof NoResponseError && hasGrantedNothing) return undefined;
    throw error;
  }
}

async function askExternalIp(
  server: NatPmpServer,
  signal: AbortSignal | undefined,
): Promise<{ externalIp: string; epoch: GatewayEpoch }> {
  const what = { action: "Cannot get external address", localIp: "0.0.0.0", signal };
  const { answer, receivedAtMs } = await ask(
    server,
    { opcode: "external-address" },
    what,
    (response) => "externalIp" in response ? response : undefined,
  );
  return {
    externalIp: answer.externalIp,
    epoch: { seconds: answer.epochSeconds, receivedAtMs },
  };
}

/** Some gateways map, but do not report their address: that is no reason to wait for minutes. */
async function askExternalIpForGrant(
  server: NatPmpServer,
  { signal, isGranted }: { signal: AbortSignal; isGranted: () => boolean },
): Promise<string> {
  try {
    const { externalIp } = await askExternalIp(
      { ...server, waitsMs: INTERACTIVE_WAITS_MS },
      signal,
    );
    return externalIp;
  } catch (error) {
    if (signal.aborted && isGranted()) return "0.0.0.0"; // the caller has a port to release
    if (error instanceof NetworkError || !(error instanceof PunchlineError)) throw error;
    return "0.0.0.0";
  }
}

async function release(
  server: NatPmpServer,
  grant: Pick<MappingGrant, "protocol" | "internal" | "external">,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { protocol, internal } = grant;
  const opcode = OPCODES[protocol];
  const question = {
    opcode,
    internalPort: internal.port,
    suggestedExternalPort: 0,
    lifetimeSeconds: 0,
  };
  const what = { action: cannot("release", grant), localIp: internal.ip, signal };
  await ask(server, question, what, (response) => {
    if (!("internalPort" in response) || response.opcode !== opcode) return undefined;
    const isDeletion = response.internalPort === internal.port && response.lifetimeSeconds === 0;
    return isDeletion ? response : undefined;
  });
}

function probe(server: NatPmpServer, { signal }: MapperCallOptions = {}): Promise<ProbeResult> {
  return probeResult(server.waitsMs, async () => await askExternalIp(server, signal));
}

function ask<T>(
  { network, address, waitsMs }: NatPmpServer,
  question: NatPmpRequest,
  what: { action: string; localIp: string; signal: AbortSignal | undefined },
  accept: (response: NatPmpResponse) => T | undefined,
) {
  return askGateway({
    network,
    gateway: address,
    localIp: what.localIp,
    request: encodeNatPmpRequest(question),
    protocol: "NAT-PMP",
    waitsMs,
    signal: what.signal,
    accept: (data) => {
      const response = decodeNatPmpResponse(data);
      const isRefusal = response.resultCode !== 0 &&
        (response.opcode === question.opcode || response.version !== 0);
      if (isRefusal) {
        throw natPmpRefusal({
          action: what.action,
          gateway: address.ip,
          code: response.resultCode,
        });
      }
      return accept(response);
    },
  });
}

/** Chosen by us: the gateway has just answered. */
const CLOSING_WAITS_MS = [100, 200];

const NOTHING = { lifetimeSeconds: 0, mappedExternalPort: 0 };

const OPCODES = { tcp: "map-tcp", udp: "map-udp" } as const;
