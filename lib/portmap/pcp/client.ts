/**
 * A PCP client: RFC 6887, and with an anycast address as the gateway's RFC 7723.
 *
 * @module
 */

import { concat, toHex } from "../../base/bytes.ts";
import { hmac } from "../../base/crypto.ts";
import { MalformedMessageError } from "../../base/errors.ts";
import { ipFamily, type TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { RFC6887_WAITS_MS } from "../gateway_transaction.ts";
import {
  cannot,
  checkGrant,
  checkRequest,
  type MapperCallOptions,
  type MappingGrant,
  MappingRefusedError,
  type MappingRequest,
  type PortMapper,
  type ProbeResult,
  sameAgain,
} from "../mapper.ts";
import { probeResult } from "../probe.ts";
import { PCP_RESULT } from "../refusals.ts";
import {
  noAddress,
  PCP_TCP,
  PCP_UDP,
  pcpAddressBytes,
  type PcpFilter,
  type PcpMap,
  type PcpOption,
} from "./message.ts";
import { askPcp, type PcpServer } from "./transaction.ts";

/**
 * The nonce of a mapping: the first 12 bytes of HMAC-SHA256 with the secret as its key, over the text
 * `punchline pcp nonce`, a byte of the IANA's protocol number, the sixteen bytes of the internal address as PCP writes
 * them, and the internal port in network order. The same always gives the same; without the secret nobody can tell
 * one from another.
 *
 * @param protocol the IANA's number
 * @throws {RangeError} if the secret has fewer than 16 bytes
 */
export function derivePcpNonce(
  secret: Uint8Array,
  protocol: number,
  internal: TransportAddress,
): Uint8Array {
  if (secret.length < MIN_SECRET_LENGTH) {
    throw new RangeError(
      `Cannot derive nonce: a secret has at least ${MIN_SECRET_LENGTH} bytes, not ${secret.length}`,
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

const CONTEXT = "punchline pcp nonce";

/** RFC 6887 §11.1: 96 bits. */
const NONCE_LENGTH = 12;

/** Ours: what cannot be guessed. */
const MIN_SECRET_LENGTH = 16;

/** The port on which servers are asked: RFC 6887 §19.1. */
export const PCP_PORT = 5351;

/**
 * RFC 7723 §4: the nearest PCP server, wherever it is, such as a carrier's. Only for who asks for it: what answers
 * may be anybody's.
 */
export const PCP_ANYCAST = { ipv4: "192.0.0.9", ipv6: "2001:1::1" } as const;

/** What {@linkcode pcpMapper} takes. */
export interface PcpMapperOptions {
  /** The network of the host that asks. */
  readonly network: Network;
  /**
   * This host's address that the server sees: where probes come from, and the requests for third parties. Other
   * requests come from their own internal address.
   */
  readonly localIp: string;
  /** Of the server; 5351 unless given. */
  readonly port?: number;
  /** How long to wait after each request, before jitter; {@linkcode RFC6887_WAITS_MS} unless given. */
  readonly waitsMs?: readonly number[];
  /**
   * At least 16 bytes that mapping nonces derive from. With the same secret the next run of a program renews and
   * deletes what this one left; without one only this mapper can, and who has its grants.
   */
  readonly secret?: Uint8Array;
  /** Let in these remote peers only: RFC 6887 §13.3. */
  readonly filters?: readonly PcpFilter[];
  /** Map for other hosts than this one, by RFC 6887 §13.1; few servers allow it. `false` unless told. */
  readonly thirdParty?: boolean;
}

/**
 * PCP with one server.
 *
 * @param gateway its address; a link-local one with its zone
 * @throws {RangeError} if the secret is too short
 */
export function pcpMapper(gateway: string, options: PcpMapperOptions): PortMapper {
  const client = new PcpClient(gateway, options);
  return {
    name: "pcp",
    gateway,
    map: async (request, { signal } = {}) =>
      await client.map(request, client.nonceFor(request), signal),
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
    derivePcpNonce(this.#secret, 0, { ip: gateway, port: 0 }); // throws for a short secret, now and not later
  }

  nonceFor({ protocol, internal }: Pick<MappingRequest, "protocol" | "internal">): Uint8Array {
    return derivePcpNonce(this.#secret, PROTOCOLS[protocol], internal);
  }

  nonceOf(grant: MappingGrant): Uint8Array {
    return grant.handle === "" ? this.nonceFor(grant) : pcpNonceFromHex(grant.handle);
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
      options: [
        ...this.#thirdParty(internal.ip),
        ...this.#options.filters ?? [],
        ...request.exactExternalPort ? [{ type: "PREFER_FAILURE" } as const] : [],
      ],
      signal,
    });
    const assigned = response.body as PcpMap; // askPcp() lets no other opcode through
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
   * Deletes a mapping, or sees to it that it does not live long.
   *
   * RFC 6887 §15 has servers confirm what was deleted before; miniupnpd refuses. It also refuses to delete an IPv6
   * pinhole that was renewed, because it forgets the nonce then. To tell the two apart takes another request.
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

  /** RFC 6887 §11.6: by a short mapping of the discard port, which is deleted at once. */
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

  /** By ANNOUNCE, which changes nothing: RFC 6887 §14.1. */
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

  /** RFC 6887 §15: a MAP for 0 s, without suggestions. What is returned is a refusal that need not mean a failure. */
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
      if (!(error instanceof MappingRefusedError) || !AMBIGUOUS.includes(error.code)) throw error;
      return error;
    }
  }

  /** Makes a mapping as short as the server lets it be; `undefined` if it is not this host's any more. */
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

  #clientIp(internalIp: string): string {
    return this.#options.thirdParty ? this.#options.localIp : internalIp;
  }

  /** RFC 6887 §13.1: not for the host's own address. */
  #thirdParty(internalIp: string): PcpOption[] {
    return this.#clientIp(internalIp) === internalIp ? [] : [{ type: "THIRD_PARTY", internalIp }];
  }
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

const PROTOCOLS = { tcp: PCP_TCP, udp: PCP_UDP } as const;

/** RFC 863. */
const DISCARD_PORT = 9;

/** What miniupnpd answers to the deletion of a mapping that is gone, and to one that it does not grant. */
const AMBIGUOUS: readonly number[] = [PCP_RESULT.NOT_AUTHORIZED, PCP_RESULT.NO_RESOURCES];
