/**
 * The side that a ticket leads to: receives connection requests, and shows those that pass all checks to the application.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { generateKeyPair } from "../noise/key_pair.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import { AcceptedConnections } from "./accepted_connections.ts";
import type { PeerContext } from "./context.ts";
import { type IncomingConnection, IncomingRequest } from "./incoming.ts";
import type { TicketSecrets } from "./keys.ts";
import { hasRoomForRequest } from "./listener_engine.ts";
import { ReplayGuard } from "./replay_guard.ts";
import { ephemeralKeyOf, isAuthenticRequest, ResponderHandshake } from "./signaling_handshake.ts";
import {
  type ConnectionRequest,
  decodeConnectionRequest,
  decodeEnvelope,
  type HandshakeEnvelope,
  SESSION_ID_LENGTH,
} from "./signaling_message.ts";

/** Which requests to accept. */
export interface ListenerOptions {
  readonly secrets: TicketSecrets;
  /** Whether a peer may connect, by its public key. */
  readonly allows: (remoteKey: Uint8Array) => boolean | Promise<boolean>;
  /** The application's protocol. Default: any. */
  readonly protocol?: string;
  /** Whether a connection without a path waits for the other side to request it again. */
  readonly reconnects: boolean;
  /** Shows a request to the application; whether there was room for it. */
  readonly show: (incoming: IncomingConnection) => boolean;
}

/** Receives connection requests until the peer is closed. */
export class Listener {
  readonly #context: PeerContext;
  readonly #options: ListenerOptions;
  readonly #guard = new ReplayGuard();
  /** Requests under way, by session ID. */
  readonly #requests = new Map<string, IncomingRequest>();
  readonly #connections = new AcceptedConnections();

  constructor(context: PeerContext, options: ListenerOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Takes a message from a signaling connection. */
  onMessage(message: Uint8Array, signaling: SignalingConnection): void {
    if (this.#context.closed.aborted) return;
    try {
      const envelope = decodeEnvelope(message);
      if (envelope.kind === "request") this.#onRequest(envelope, signaling);
      if (envelope.kind !== "transport") return;
      const request = this.#requests.get(toHex(envelope.sessionId));
      request?.use(signaling);
      request?.session.receive(envelope);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error; // anyone can publish anything
    }
  }

  /** The cheapest checks come first: the MAC turns away everyone without the ticket, and replays are not decrypted. */
  #onRequest(envelope: HandshakeEnvelope, signaling: SignalingConnection): void {
    const { secrets } = this.#options;
    if (!isAuthenticRequest(envelope, secrets)) return;
    const ephemeralKey = ephemeralKeyOf(envelope);
    const sessionId = toHex(ephemeralKey.subarray(0, SESSION_ID_LENGTH));
    const nowMs = Date.now();
    if (this.#guard.isReplay(ephemeralKey, nowMs)) {
      const request = this.#requests.get(sessionId);
      request?.use(signaling);
      return request?.session.repeatAnswer();
    }
    if (!hasRoomForRequest(this.#requests.size)) return;
    const { staticKey, logger } = this.#context;
    const keys = { secrets, staticKey, ephemeralKey: generateKeyPair() };
    const handshake = new ResponderHandshake(envelope, keys);
    const request = decodeOrDispose(handshake);
    const { remoteKey } = handshake;
    const { sentAtMs } = request;
    const verdict = this.#guard.judge({ ephemeralKey, remoteKey, sentAtMs }, nowMs);
    if (verdict === "too-many") {
      logger?.debug("connect: dropped a request: too many at once, or too many of one key");
      return handshake[Symbol.dispose]();
    }
    const incoming = new IncomingRequest(handshake, {
      ...this.#options,
      context: this.#context,
      connections: this.#connections,
      request,
      replyTopic: secrets.replyTopic(ephemeralKey),
      signaling,
      onClosed: () => this.#requests.delete(sessionId),
    });
    this.#requests.set(sessionId, incoming);
    incoming.start(verdict);
  }
}

function decodeOrDispose(handshake: ResponderHandshake): ConnectionRequest {
  try {
    return decodeConnectionRequest(handshake.content.body);
  } catch (error) {
    handshake[Symbol.dispose]();
    throw error;
  }
}
