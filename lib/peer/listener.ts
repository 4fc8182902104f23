/**
 * The side that a ticket leads to: receives connection requests, and shows those that pass all checks to the application.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { withoutLogin } from "../base/login.ts";
import { TokenBucket } from "../base/rate_limiter.ts";
import { readClocks } from "../base/timers.ts";
import { generateKeyPair } from "../noise/handshake.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import { AcceptedConnections } from "./accepted_connections.ts";
import type { PeerConnection } from "./connection.ts";
import type { AllowList, PeerContext } from "./context.ts";
import { type AcceptEarlier, CrossingRequests } from "./crossing_requests.ts";
import { type IncomingConnection, IncomingRequest } from "./incoming.ts";
import { type PlacedRequest, requestsToDisplace } from "./listener_engine.ts";
import { ReplayGuard } from "./replay_guard.ts";
import { ephemeralKeyOf, isAuthenticRequest, ResponderHandshake } from "./signaling_handshake.ts";
import {
  type ConnectionRequest,
  decodeConnectionRequest,
  decodeEnvelope,
  encodeRejection,
  type HandshakeEnvelope,
  type Rejection,
  SESSION_ID_LENGTH,
} from "./signaling_message.ts";
import { CHANNELS } from "./signaling_session.ts";
import type { ListenedTicket } from "./tickets.ts";

/** Which requests to accept. */
export interface ListenerOptions {
  readonly allows: AllowList;
  /** The application's protocol. Default: any. */
  readonly protocol?: string;
  /** Whether a connection without a path waits for the other side to request it again. */
  readonly reconnects: boolean;
  /** Shows a request to the application; whether there was room for it. */
  readonly show: (incoming: IncomingConnection) => boolean;
  /** Takes a request back that the application has not seen yet. */
  readonly withdraw: (incoming: IncomingConnection) => void;
  /** As of {@linkcode CrossingRequests}. */
  readonly acceptEarlier: AcceptEarlier;
  /** Takes note of a connection before the application gets it. */
  readonly onAccepted: (connection: PeerConnection) => void;
}

/** Receives connection requests until the peer is closed. */
export class Listener {
  /** Which of them cross a dial of this side's. */
  readonly crossing: CrossingRequests;
  readonly #context: PeerContext;
  readonly #options: ListenerOptions;
  readonly #guard = new ReplayGuard();
  /** Requests under way, by session ID; the oldest first. */
  readonly #requests = new Map<string, IncomingRequest>();
  readonly #connections: AcceptedConnections;
  /** Rejections that are sent at once and not remembered. */
  readonly #rejections = new TokenBucket(REJECTION_RATE, performance.now());

  constructor(context: PeerContext, options: ListenerOptions) {
    this.#context = context;
    this.#connections = new AcceptedConnections(context.maxConnections);
    const { protocol = "", show, acceptEarlier } = options;
    const ownKey = context.staticKey.publicKey.slice();
    const crossing = this.crossing = new CrossingRequests(ownKey, {
      protocol,
      show,
      acceptEarlier,
    });
    this.#options = {
      ...options,
      show: (incoming) => crossing.take(incoming),
      withdraw: (incoming) => {
        crossing.withdraw(incoming);
        options.withdraw(incoming);
      },
    };
  }

  /**
   * The topics to listen to, each with its ticket: those of the wall clock, and after it was set, those of the time at
   * which connections were made and of their age since then. The other sides of these connections come back there.
   */
  topicsOf(tickets: Iterable<ListenedTicket>): Map<string, ListenedTicket> {
    const clocks = readClocks();
    const topics = new Map<string, ListenedTicket>();
    const others = new Map<string, ListenedTicket>();
    for (const ticket of tickets) {
      const { secrets } = ticket;
      for (const topic of secrets.topicsAround(clocks.wallMs)) topics.set(topic, ticket);
      for (const timeMs of this.#connections.otherTimesMs(ticket, clocks)) {
        for (const topic of secrets.topicsAround(timeMs)) others.set(topic, ticket);
        if (others.size >= MAX_OTHER_TOPICS) break;
      }
    }
    return new Map([...topics, ...[...others].slice(0, MAX_OTHER_TOPICS)]);
  }

  /** Takes a message from a signaling connection, and the ticket whose topic it was published under. */
  onMessage(message: Uint8Array, signaling: SignalingConnection, ticket: ListenedTicket): void {
    if (this.#context.closed.aborted) return;
    try {
      const envelope = decodeEnvelope(message);
      if (envelope.kind === "request") this.#onRequest(envelope, signaling, ticket);
      if (envelope.kind !== "transport") return;
      const request = this.#requests.get(toHex(envelope.sessionId));
      request?.use(signaling);
      request?.session.receive(envelope);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error; // anyone can publish anything
    }
  }

  /**
   * The cheapest checks come first: the MAC turns away everyone without the ticket, and replays are not decrypted. Nothing
   * is remembered about requests that are certain to be rejected: they can be sent in any number.
   */
  #onRequest(
    envelope: HandshakeEnvelope,
    signaling: SignalingConnection,
    ticket: ListenedTicket,
  ): void {
    const { secrets } = ticket;
    if (ticket.revoked.aborted || !isAuthenticRequest(envelope, secrets)) return;
    const ephemeralKey = ephemeralKeyOf(envelope);
    const sessionId = toHex(ephemeralKey.subarray(0, SESSION_ID_LENGTH));
    const clocks = readClocks();
    if (this.#guard.isReplay(ephemeralKey, clocks.nowMs)) {
      const request = this.#requests.get(sessionId);
      request?.use(signaling);
      return request?.session.repeatAnswer();
    }
    const keys = { secrets, staticKey: this.#context.staticKey, ephemeralKey: generateKeyPair() };
    const handshake = new ResponderHandshake(envelope, keys);
    const request = decodeOrDispose(handshake);
    const { remoteKey } = handshake;
    const replyTopic = secrets.replyTopic(ephemeralKey);
    const reject = (reason: Rejection["reason"]) => {
      this.#rejectAtOnce(handshake, reason, { replyTopic, signaling });
    };
    const rejection = this.#certainRejection(request, remoteKey, ticket);
    if (rejection !== undefined) return reject(rejection);
    const key = toHex(remoteKey);
    const displaced = requestsToDisplace(this.#placedRequests(), key);
    if (displaced === undefined) return reject("busy");
    const verdict = this.#guard.judge(
      {
        ephemeralKey,
        remoteKey,
        sentAtMs: request.sentAtMs,
        resumed: this.#connections.resumedBy(request),
      },
      clocks,
    );
    if (verdict === "replay") return handshake[Symbol.dispose]();
    if (verdict === "wrong-clock") return reject("clock");
    if (verdict === "too-many") { // the other side repeats it in a second
      this.#context.logger?.debug("connect: dropped a request: too many of one key");
      return handshake[Symbol.dispose]();
    }
    this.#connections.noteRequest(request);
    for (const id of displaced) this.#displace(id);
    const incoming = new IncomingRequest(handshake, {
      ...this.#options,
      context: this.#context,
      connections: this.#connections,
      request,
      ticket,
      replyTopic,
      signaling,
      onClosed: () => {
        if (this.#requests.get(sessionId) === incoming) this.#requests.delete(sessionId);
      },
    });
    this.#requests.set(sessionId, incoming);
    incoming.start();
  }

  /** Why the request leads to nothing, if that is known without asking the application. */
  #certainRejection(
    { resumes }: ConnectionRequest,
    remoteKey: Uint8Array,
    ticket: ListenedTicket,
  ): Rejection["reason"] | undefined {
    if (this.#options.allows.atOnce(remoteKey) === false) return "refused";
    // A connection goes on after its ticket is used or expired.
    if (resumes !== null) {
      return this.#connections.whyNotResumed(resumes, remoteKey);
    }
    if (!ticket.isValid) return "refused";
    return this.#connections.hasRoomFor(remoteKey) ? undefined : "busy";
  }

  #placedRequests(): PlacedRequest[] {
    return Array.from(this.#requests, ([id, request]) => request.placed(id));
  }

  /** It says goodbye by itself; its place is free at once. */
  #displace(sessionId: string): void {
    const request = this.#requests.get(sessionId);
    this.#requests.delete(sessionId);
    request?.displace();
  }

  /** Answers once, and forgets the request. The other side repeats it if the answer gets lost. */
  #rejectAtOnce(
    handshake: ResponderHandshake,
    reason: Rejection["reason"],
    { replyTopic, signaling }: { replyTopic: string; signaling: SignalingConnection },
  ): void {
    using answering = handshake;
    if (!this.#rejections.take(performance.now())) return;
    const body = encodeRejection({ reason, timeMs: Date.now() });
    const { message } = answering.writeAnswer({ channel: CHANNELS.control, body }, {
      isPadded: !signaling.isManual,
    });
    signaling.publish(replyTopic, message)
      .catch((error) =>
        this.#context.logger?.debug(`connect: ${withoutLogin(signaling.url)}: ${error}`)
      );
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

/** Chosen by us: with those of 17 tickets, a rendezvous server's limit for one subscriber. */
const MAX_OTHER_TOPICS = 12;

/** Chosen by us: far more than people cause, and less than a server passes on. */
const REJECTION_RATE = { burst: 256, perSecond: 64 };
