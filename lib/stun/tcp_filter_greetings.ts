/**
 * What a client of the TCP filter test hears while it listens: dials that are the server's, and others.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import type { TransportAddress } from "../net/address.ts";
import type { TcpConnection, TcpListener } from "../net/network.ts";
import { readMessages } from "./framing.ts";
import { decodeMessage, getAttribute } from "./message.ts";

/** Accepts connections and reads from each the greeting by which the server's dials are known. */
export class GreetingListener implements Disposable {
  readonly #listener: TcpListener;
  readonly #transactionId: Uint8Array;
  readonly #origins = new WaitQueue<TransportAddress>(MAX_CONNECTIONS);
  readonly #connections = new Set<TcpConnection>();

  /**
   * @param listener is closed with this
   * @param transactionId of the request, which only the server knows
   */
  constructor(listener: TcpListener, transactionId: Uint8Array) {
    this.#listener = listener;
    this.#transactionId = transactionId;
    this.#accept().catch((error) => this.#origins.close(error));
  }

  /**
   * Where the dials came from, by their own account, once `expected` of them have arrived; or fewer, if they
   * do not arrive within a second: a greeting may take longer than the server's report of it.
   */
  async collect(expected: number, signal?: AbortSignal): Promise<TransportAddress[]> {
    const origins = this.#origins.drain();
    const patience = AbortSignal.timeout(PATIENCE_MS);
    const either = signal === undefined ? patience : AbortSignal.any([signal, patience]);
    while (origins.length < expected) {
      try {
        origins.push(await this.#origins.next(either));
      } catch (error) {
        signal?.throwIfAborted();
        if (error !== patience.reason) throw error;
        break;
      }
    }
    return origins;
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
  }

  async #accept(): Promise<void> {
    for (;;) {
      let connection: TcpConnection;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (error instanceof NetworkError && error.reason === "closed") return;
        throw error;
      }
      if (this.#connections.size >= MAX_CONNECTIONS) {
        connection.reset();
        continue;
      }
      this.#connections.add(connection);
      this.#read(connection).catch((error) => this.#origins.close(error));
    }
  }

  async #read(connection: TcpConnection): Promise<void> {
    try {
      for await (const bytes of readMessages(connection, { maxLength: MAX_GREETING_LENGTH })) {
        const message = decodeMessage(bytes);
        const origin = getAttribute(message, "RESPONSE-ORIGIN");
        const isGreeting = message.class === "indication" && origin !== undefined &&
          equalBytes(message.transactionId, this.#transactionId);
        if (isGreeting) this.#origins.push(origin);
        return;
      }
    } catch (error) {
      // Somebody else's dial, or one that was cut short: no evidence of anything.
      if (!(error instanceof MalformedMessageError || error instanceof NetworkError)) throw error;
    } finally {
      connection.close();
    }
  }
}

/** Ours: the server dials six times at most. */
const MAX_CONNECTIONS = 16;

/** A header and RESPONSE-ORIGIN with an IPv6 address are 44 bytes. */
const MAX_GREETING_LENGTH = 128;

const PATIENCE_MS = 1000;
