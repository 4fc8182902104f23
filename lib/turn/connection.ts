/**
 * Requests, indications and ChannelData on one way to a server: tells them apart, and brings responses to
 * who waits for them.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Datagram } from "../net/network.ts";
import { HEADER_LENGTH } from "../stun/codec.ts";
import { decodeMessage, type StunMessage } from "../stun/message.ts";
import { exchangeMessages, type StunChannel, type StunPatience } from "../stun/transport.ts";
import type { Carrier } from "./carrier.ts";
import { type ChannelData, decodeChannelData, startsChannelData } from "./channel_data_message.ts";

/** What takes that for which nobody asked. Neither may throw. */
export interface LinkHandlers {
  onChannelData(message: ChannelData): void;
  onIndication(message: StunMessage): void;
}

/** A way to a server, shared by requests. */
export class TurnLink {
  /** Rejects when the carrier fails; resolves when the link is closed. */
  readonly finished: Promise<void>;
  readonly #carrier: Carrier;
  #handlers: LinkHandlers = NOBODY;
  /** By the transaction ids of their requests. */
  readonly #responses = new Map<string, WaitQueue<Datagram>>();
  #isClosed = false;

  constructor(carrier: Carrier) {
    this.#carrier = carrier;
    this.finished = this.#listen();
    this.finished.catch(() => {}); // for those to see who wait for it
  }

  /** Where it leaves from; over UDP the IP may be the wildcard. */
  get local(): TransportAddress {
    return this.#carrier.local;
  }

  /** Says who takes what comes from now on; until then it is dropped. */
  deliverTo(handlers: LinkHandlers): void {
    this.#handlers = handlers;
  }

  /** A channel for requests that are waited for so patiently. */
  channel(patience: StunPatience): StunChannel {
    return {
      local: this.local,
      transact: (request, accept) => this.#transact(request, accept, patience),
    };
  }

  /** @throws {NetworkError} if the network does not take it */
  send(message: Uint8Array): Promise<void> {
    return this.#carrier.send(message);
  }

  /** As {@linkcode Carrier.refer}. */
  refer(isReferenced: boolean): void {
    this.#carrier.refer(isReferenced);
  }

  /** Ends the requests that wait; idempotent. */
  close(): void {
    this.#end(
      new NetworkError(
        `Cannot talk to ${formatTransportAddress(this.#carrier.remote)}: the relay is closed`,
        "closed",
      ),
    );
  }

  async #transact<T>(
    request: Uint8Array,
    accept: (message: Uint8Array) => T | undefined,
    { waitsMs, signal }: StunPatience,
  ) {
    const { remote, isReliable } = this.#carrier;
    const responses = new WaitQueue<Datagram>(MAX_RESPONSES);
    const socket = {
      // Not waited for: a peer that reads nothing must not hold back the end of the wait.
      send: (message: Uint8Array) => {
        this.#carrier.send(message).catch((error) => responses.close(error));
        return Promise.resolve();
      },
      receive: (options?: { signal?: AbortSignal }) => responses.next(options?.signal),
    };
    const id = transactionKey(request);
    this.#responses.set(id, responses);
    try {
      return await exchangeMessages(socket, {
        server: remote,
        request,
        accept,
        // RFC 8489 §6.2.2: over a stream a request is sent once, and waited for as long as over UDP.
        waitsMs: isReliable ? [waitsMs.reduce((sum, waitMs) => sum + waitMs, 0)] : waitsMs,
        signal,
      });
    } finally {
      this.#responses.delete(id);
    }
  }

  async #listen(): Promise<void> {
    try {
      while (true) this.#dispatch(await this.#carrier.receive());
    } catch (error) {
      if (this.#isClosed) return;
      this.#end(error);
      throw error;
    }
  }

  /** What is malformed is dropped: over UDP anybody may have sent it, and in a stream the next one is not lost. */
  #dispatch(message: Uint8Array): void {
    try {
      if (startsChannelData(message)) this.#handlers.onChannelData(decodeChannelData(message));
      else if (message.length < HEADER_LENGTH) return;
      else if (isResponse(message)) {
        const from = this.#carrier.remote;
        this.#responses.get(transactionKey(message))?.push({ data: message, from });
      } else this.#handlers.onIndication(decodeMessage(message));
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }

  #end(reason: unknown): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#carrier.close();
    for (const responses of this.#responses.values()) responses.close(reason);
  }
}

/** RFC 8489 §5: the C1 bit of the class. */
function isResponse(message: Uint8Array): boolean {
  return (message[0]! & 0x01) !== 0;
}

function transactionKey(message: Uint8Array): string {
  return toHex(message.subarray(HEADER_LENGTH - 12, HEADER_LENGTH));
}

const NOBODY: LinkHandlers = { onChannelData() {}, onIndication() {} };

/** Ours: a request has one response, and over UDP one for each time it was sent. */
const MAX_RESPONSES = 16;
