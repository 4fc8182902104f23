/**
 * A PCP client, and the transaction that it and PEER requests use: RFC 6887, and RFC 7723 if the gateway is an anycast
 * address.
 *
 * @module
 */

import { concat, equalBytes, toHex } from "../../base/bytes.ts";
import { hmac } from "../../base/crypto.ts";
import { MalformedMessageError, NetworkError, PunchlineError } from "../../base/errors.ts";
import { ipFamily, type TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { askGateway, isSameIp, RFC6887_WAITS_MS, withJitter } from "../gateway.ts";
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
import { LIFETIME_0_REMEDY, PCP_RESULT, pcpRefusal } from "../refusals.ts";
import {
  decodePcpResponse,
  encodePcpRequest,
  noAddress,
  PCP_TCP,
  PCP_UDP,
  PCP_VERSION,
  pcpAddressBytes,
  type PcpFilter,
  type PcpMap,
  type PcpOption,
  type PcpPeer,
  type PcpRequest,
  type PcpResponse,
} from "./message.ts";

/** What {@linkcode pcpMapper} takes. */
export interface PcpMapperOptions {
  /** The network of this host. */
  readonly network: Network;
  /**
   * This host's address, from which it sends probes and requests for third parties. It sends other requests from their
   * internal address.
   */
  readonly localIp: string;
  /** The server's port; 5351 by default. */
  readonly port?: number;
  /** How long to wait after each request, before jitter; {@linkcode RFC6887_WAITS_MS} by default. */
  readonly waitsMs?: readonly number[];
  /**
   * At least 16 bytes from which mapping nonces derive; random by default. With the same secret, the next run of a program
   * can renew and delete what this one left open; without it, only this mapper and holders of its grants can.
   */
  readonly secret?: Uint8Array;
  /** The only remote peers to let in; all by default. RFC 6887 §13.3. */
  readonly filters?: readonly PcpFilter[];
  /** Whether to map ports of other hosts, which few servers allow; `false` by default. RFC 6887 §13.1. */
  readonly thirdParty?: boolean;
}

/**
 * PCP with one server.
 *
 * @param gateway its IP address; a link-local one with its zone
 * @throws {RangeError} if the secret is too short
 */
export function pcpMapper(gateway: string, options: PcpMapperOptions): PortMapper {
  const client = new PcpClient(gateway, options);
  return {
    name: "pcp",
    gateway,
    map: (request, { signal } = {}) => client.mapOrWithdraw(request, signal),
    renew: async (grant, { signal, lifetimeSeconds } = {}) => {
      checkGrant(grant, "pcp");
      const request = sameAgain(grant, lifetimeSeconds);
      return await client.map(request, client.nonceOf(grant), signal, grant.external.ip);
    },
    release: async (grant, { signal } = {}) => {
      checkGrant(grant, "pcp");
      await client.release(grant, client.nonceOf(grant), signal);
    },
    externalIp: ({ signal } = {}) => client.externalIp(signal),
    probe: (options) => client.probe(options),
  };
}

class PcpClient {
  readonly #server: PcpServer;
  readonly #options: PcpMapperOptions;
  readonly #secret: Uint8Array;

  constructor(gateway: string, options: PcpMapperOptions) {
    const { network, port = PCP_PORT, waitsMs = RFC6887_WAITS_MS, secret } = options;
    this.#server = { network, address: { ip: gateway, port }, waitsMs };
    this.#options = options;
    this.#secret = secret ?? crypto.getRandomValues(new Uint8Array(32));
    derivePcpNonce(this.#secret, 0, { ip: gateway, port: 0 }); // throws now, not at the first request, if the secret is too short
  }

  nonceFor({ protocol, internal }: Pick<MappingRequest, "protocol" | "internal">): Uint8Array {
    return derivePcpNonce(this.#secret, PROTOCOLS[protocol], internal);
  }

  nonceOf(grant: MappingGrant): Uint8Array {
    return grant.handle === "" ? this.nonceFor(grant) : pcpNonceFromHex(grant.handle);
  }

  /** The gateway may have opened the port although its answer is of no use, or did not arrive: then it is told to close it. */
  async mapOrWithdraw(request: MappingRequest, signal?: AbortSignal): Promise<MappingGrant> {
    const nonce = this.nonceFor(request);
    try {
      return await this.map(request, nonce, signal);
    } catch (error) {
      const isClear = error instanceof MappingRefusedError && error.reason !== LIFETIME_0 ||
        error instanceof RangeError || error instanceof NetworkError;
      if (!isClear) await this.#withdraw(request, nonce);
      throw error;
    }
  }

  async map(
    request: MappingRequest,
    nonce: Uint8Array,
    signal?: AbortSignal,
    externalIp: string = noAddress(ipFamily(request.internal.ip)),
  ): Promise<MappingGrant> {
    checkRequest(request);
    const { protocol, internal, externalPort = internal.port, lifetimeSeconds } = request;
    const { response, epoch } = await askPcp(this.#server, {
      action: cannot("map", request),
      clientIp: this.#clientIp(internal.ip),
      lifetimeSeconds,
      body: mapBody(request, nonce, { externalPort, externalIp }),
      options: this.#mapOptions(request),
      signal,
    });
    const assigned = response.body as PcpMap; // askPcp() accepts no other opcode
    if (response.lifetimeSeconds === 0) {
      throw new MappingRefusedError(
        `${cannot("map", request)}: gateway ${this.#server.address.ip} granted it for 0 s`,
        {
          mapper: "pcp",
          code: PCP_RESULT.SUCCESS,
          reason: LIFETIME_0,
          remedy: LIFETIME_0_REMEDY,
        },
      );
    }
    if (assigned.externalPort === 0) {
      throw new MalformedMessageError(
        `${cannot("map", request)}: gateway ${this.#server.address.ip} granted external port 0`,
      );
    }
    return {
      mapper: "pcp",
      protocol,
      internal,
      external: { ip: assigned.externalIp, port: assigned.externalPort },
      lifetimeSeconds: response.lifetimeSeconds,
      grantedAtMs: epoch.receivedAtMs,
      gateway: this.#server.address.ip,
      handle: toHex(nonce),
      epoch,
    };
  }

  /**
   * Deletes a mapping, or makes it expire soon.
   *
   * By RFC 6887 §15, servers confirm the deletion of what is gone already; miniupnpd refuses. It also refuses to delete an
   * IPv6 pinhole that was renewed, because it forgets the nonce then. Another request tells the two cases apart.
   */
  async release(grant: MappingGrant, nonce: Uint8Array, signal?: AbortSignal): Promise<void> {
    const refusal = await this.#delete(grant, nonce, signal);
    if (refusal === undefined) return;
    const shortest = await this.#shorten(grant, nonce, signal);
    if (shortest === undefined || await this.#delete(grant, nonce, signal) === undefined) return;
    throw new MappingRefusedError(
      `${refusal.message}: it stays open for ${shortest.lifetimeSeconds} s`,
      { ...refusal, cause: refusal },
    );
  }

  /** RFC 6887 §11.6: maps the discard port for a short time, and deletes that mapping at once. */
  async externalIp(signal?: AbortSignal): Promise<string> {
    const { localIp } = this.#options;
    if (ipFamily(localIp) === 6) return localIp;
    const request: MappingRequest = {
      protocol: "udp",
      internal: { ip: localIp, port: DISCARD_PORT },
      lifetimeSeconds: 60,
      description: "",
    };
    const nonce = this.nonceFor(request);
    const grant = await this.map(request, nonce, signal);
    await this.release(grant, nonce, signal);
    return grant.external.ip;
  }

  /** Sends ANNOUNCE, which changes nothing: RFC 6887 §14.1. */
  probe({ signal }: MapperCallOptions = {}): Promise<ProbeResult> {
    return probeResult(this.#server.waitsMs, async () => {
      const { epoch } = await askPcp(this.#server, {
        action: "Cannot probe",
        clientIp: this.#options.localIp,
        lifetimeSeconds: 0,
        body: { opcode: "ANNOUNCE" },
        options: [],
        signal,
      });
      return { epoch };
    });
  }

  /** Sends a deletion, and waits for the answer for a moment. Without a mapping of this nonce it does nothing. */
  async #withdraw({ protocol, internal }: MappingRequest, nonce: Uint8Array): Promise<void> {
    const none = { externalPort: 0, externalIp: noAddress(ipFamily(internal.ip)) };
    try {
      await askPcp({ ...this.#server, waitsMs: WITHDRAWAL_WAITS_MS }, {
        action: cannot("release", { protocol, internal }),
        clientIp: this.#clientIp(internal.ip),
        lifetimeSeconds: 0,
        body: mapBody({ protocol, internal }, nonce, none),
        options: this.#thirdParty(internal.ip),
      });
    } catch (error) {
      if (!(error instanceof PunchlineError)) throw error; // the mapping ends with its lease
    }
  }

  /** RFC 6887 §15: a MAP for 0 s, without suggestions. Returns a refusal that may mean that the mapping is gone. */
  async #delete(
    grant: MappingGrant,
    nonce: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<MappingRefusedError | undefined> {
    const { internal } = grant;
    const none = { externalPort: 0, externalIp: noAddress(ipFamily(internal.ip)) };
    try {
      await askPcp(this.#server, {
        action: cannot("release", grant),
        clientIp: this.#clientIp(internal.ip),
        lifetimeSeconds: 0,
        body: mapBody(grant, nonce, none),
        options: this.#thirdParty(internal.ip),
        signal,
      });
      return undefined;
    } catch (error) {
      if (!(error instanceof MappingRefusedError) || !AMBIGUOUS_CODES.includes(error.code)) {
        throw error;
      }
      return error;
    }
  }

  /** Makes a mapping as short as the server allows; `undefined` if it no longer belongs to this host. */
  async #shorten(
    grant: MappingGrant,
    nonce: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<MappingGrant | undefined> {
    try {
      return await this.map(sameAgain(grant, 1), nonce, signal, grant.external.ip);
    } catch (error) {
      if (error instanceof MappingRefusedError) return undefined;
      throw error;
    }
  }

  #mapOptions({ internal, exactExternalPort }: MappingRequest): PcpOption[] {
    const options = [...this.#thirdParty(internal.ip), ...this.#options.filters ?? []];
    if (exactExternalPort) options.push({ type: "PREFER_FAILURE" });
    return options;
  }

  #clientIp(internalIp: string): string {
    return this.#options.thirdParty ? this.#options.localIp : internalIp;
  }

  /** RFC 6887 §13.1: not allowed for the host's own address. */
  #thirdParty(internalIp: string): PcpOption[] {
    return this.#clientIp(internalIp) === internalIp ? [] : [{ type: "THIRD_PARTY", internalIp }];
  }
}

/**
 * The nonce of a mapping: the first 12 bytes of HMAC-SHA256 with the secret as its key, over the text
 * `punchline pcp nonce`, the IANA protocol number as a byte, the internal address in PCP's sixteen bytes, and the
 * internal port in network byte order. The same mapping always has the same nonce, which cannot be guessed without the
 * secret.
 *
 * @param protocol the IANA protocol number
 * @throws {RangeError} if the secret has fewer than 16 bytes
 */
export function derivePcpNonce(
  secret: Uint8Array,
  protocol: number,
  internal: TransportAddress,
): Uint8Array {
  if (secret.length < MIN_SECRET_LENGTH) {
    throw new RangeError(
      `Cannot derive nonce: the secret needs at least ${MIN_SECRET_LENGTH} bytes, not ${secret.length}`,
    );
  }
  const what = concat(
    new TextEncoder().encode(CONTEXT),
    Uint8Array.of(protocol),
    pcpAddressBytes(internal.ip),
    Uint8Array.of(internal.port >> 8, internal.port),
  );
  return hmac("sha256", secret, what).slice(0, NONCE_LENGTH);
}

/**
 * The nonce in a grant's handle.
 *
 * @throws {TypeError} if the text is not 24 hexadecimal digits
 */
export function pcpNonceFromHex(hex: string): Uint8Array {
  if (!/^[0-9a-f]{24}$/.test(hex)) {
    throw new TypeError(`Cannot read nonce: ${JSON.stringify(hex)} is not 24 hexadecimal digits`);
  }
  return Uint8Array.from({ length: NONCE_LENGTH }, (_, index) => {
    return parseInt(hex.slice(2 * index, 2 * index + 2), 16);
  });
}

/** A PCP server, and how to ask it. */
export interface PcpServer {
  /** The network of this host. */
  readonly network: Network;
  /** The server's address and port, usually 5351. */
  readonly address: TransportAddress;
  /** How long to wait after each request, before jitter. */
  readonly waitsMs: readonly number[];
}

/** What to ask. */
export interface PcpTransactionRequest extends Omit<PcpRequest, "version"> {
  /** The start of error messages, such as `Cannot map TCP port 80`. */
  readonly action: string;
  /** Aborts the request. */
  readonly signal?: AbortSignal;
}

/** A server's answer. */
export interface PcpAnswer {
  /** Its response, which reports success. */
  readonly response: PcpResponse;
  /** The server's clock at the time of the answer. */
  readonly epoch: GatewayEpoch;
}

/**
 * Sends the request until the server answers.
 *
 * @throws {MappingRefusedError} if it refuses, or speaks another version
 * @throws what {@linkcode askGateway} throws
 */
export async function askPcp(
  server: PcpServer,
  request: PcpTransactionRequest,
): Promise<PcpAnswer> {
  const { network, address, waitsMs } = server;
  const { action, clientIp, signal } = request;
  const { answer: response, receivedAtMs } = await askGateway({
    network,
    gateway: address,
    localIp: clientIp,
    request: encodePcpRequest({ ...request, version: PCP_VERSION }),
    protocol: "PCP",
    waitsMs: withJitter(waitsMs, Math.random),
    signal,
    accept: (data) => {
      const response = decodePcpResponse(data);
      return answers(response, request) ? response : undefined;
    },
  });
  const code = resultCodeOf(response);
  if (code === PCP_RESULT.SUCCESS) {
    return { response, epoch: { seconds: response.epochSeconds, receivedAtMs } };
  }
  throw pcpRefusal({
    action,
    gateway: address.ip,
    code,
    retryAfterSeconds: response.lifetimeSeconds,
  });
}

/** NAT-PMP routers answer with version 0 and codes of their own, which comes to the same: another version. */
function resultCodeOf({ version, resultCode }: PcpResponse): number {
  return version === PCP_VERSION ? resultCode : PCP_RESULT.UNSUPP_VERSION;
}

/** RFC 6887 §8.3 and §11.4: whether a response answers this request, and not another one of this host. */
function answers(response: PcpResponse, request: PcpTransactionRequest): boolean {
  const { version, resultCode, body } = response;
  if (version === 0) return true;
  if (version !== PCP_VERSION) return resultCode === PCP_RESULT.UNSUPP_VERSION;
  const asked = request.body;
  // In a refusal that does not repeat the request there is only the opcode's number to compare.
  if (typeof body.opcode === "number") {
    return resultCode !== PCP_RESULT.SUCCESS && body.opcode === OPCODES[asked.opcode];
  }
  if (body.opcode !== asked.opcode) return false;
  if (!("nonce" in body) || !("nonce" in asked)) return true;
  if (!isSameMapping(body, asked)) return false;
  if (resultCode !== PCP_RESULT.SUCCESS || request.lifetimeSeconds === 0) {
    return resultCode !== PCP_RESULT.SUCCESS || response.lifetimeSeconds === 0;
  }
  // A late answer to a deletion grants no port for 0 s.
  return response.lifetimeSeconds > 0 || body.externalPort > 0;
}

function isSameMapping(a: PcpMap | PcpPeer, b: PcpMap | PcpPeer): boolean {
  return equalBytes(a.nonce, b.nonce) && a.protocol === b.protocol &&
    a.internalPort === b.internalPort && isSamePeer(a, b);
}

/** RFC 6887 §12.4. */
function isSamePeer(a: PcpMap | PcpPeer, b: PcpMap | PcpPeer): boolean {
  if (a.opcode !== "PEER" || b.opcode !== "PEER") return a.opcode === b.opcode;
  return a.remotePeerPort === b.remotePeerPort && isSameIp(a.remotePeerIp, b.remotePeerIp);
}

function mapBody(
  { protocol, internal }: Pick<MappingRequest, "protocol" | "internal">,
  nonce: Uint8Array,
  suggested: { readonly externalPort: number; readonly externalIp: string },
): PcpMap {
  return {
    opcode: "MAP",
    nonce,
    protocol: PROTOCOLS[protocol],
    internalPort: internal.port,
    ...suggested,
  };
}

/**
 * RFC 7723 §4: the address of the nearest PCP server, wherever it is, such as a carrier's. Use it only if you trust the
 * networks between: any server on the path may answer.
 */
export const PCP_ANYCAST = { ipv4: "192.0.0.9", ipv6: "2001:1::1" } as const;

/** RFC 6887 §19.2. */
const OPCODES: Readonly<Record<string, number>> = { ANNOUNCE: 0, MAP: 1, PEER: 2 };

/** The port on which servers listen: RFC 6887 §19.1. */
const PCP_PORT = 5351;

/** Hashed into every nonce: another text would orphan the mappings of earlier versions. */
const CONTEXT = "punchline pcp nonce";

/** RFC 6887 §11.1: 96 bits. */
const NONCE_LENGTH = 12;

/** Chosen by us: 128 bits cannot be guessed. */
const MIN_SECRET_LENGTH = 16;

const PROTOCOLS = { tcp: PCP_TCP, udp: PCP_UDP } as const;

/** RFC 863. */
const DISCARD_PORT = 9;

/** How miniupnpd refuses to delete a mapping that is gone, and one that it should delete. */
const AMBIGUOUS_CODES: readonly number[] = [PCP_RESULT.NOT_AUTHORIZED, PCP_RESULT.NO_RESOURCES];

/** The reason of a grant for no time at all. */
const LIFETIME_0 = "LIFETIME_0";

/** Chosen by us: one request, as the gateway has probably not heard of the port. */
const WITHDRAWAL_WAITS_MS = [100];
