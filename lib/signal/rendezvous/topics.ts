/**
 * The topics of a rendezvous server: who subscribes to which, and how much each client may publish.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";
import { TokenBucket } from "../../base/rate_limiter.ts";
import { MAX_SIGNAL_BYTES } from "../channel.ts";
import type { WebSocketMessage } from "../websocket/connection.ts";
import {
  decodeTopicMessage,
  encodeTopicMessage,
  TOPIC_HEADER_BYTES,
  type TopicMessage,
} from "./message.ts";
import type { ClientSocket, MessageHandler } from "./session.ts";

/** Limits of topics and their subscribers; see {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
export interface TopicLimits {
  /** Topics with a subscriber. */
  readonly maxTopics: number;
  /** Topics that one client may subscribe to. */
  readonly maxTopicsPerMember: number;
  /** Subscribers of one topic: a published message is sent so often. */
  readonly maxMembersPerTopic: number;
  /** Subscribers of one topic from one source, an IPv4 address or an IPv6 /64. */
  readonly maxMembersPerTopicAndSource: number;
  /** Messages that one client may send at once. */
  readonly topicBurst: number;
  /** Messages that one client may send per second in the long run. */
  readonly topicMessagesPerSecond: number;
}

/** A client that subscribes to topics and publishes under others. */
export class TopicSubscriber implements MessageHandler {
  readonly maxMessageBytes = TOPIC_HEADER_BYTES + MAX_SIGNAL_BYTES;
  readonly #client: ClientSocket;
  readonly #topics: RendezvousTopics<TopicSubscriber>;

  constructor(client: ClientSocket, topics: RendezvousTopics<TopicSubscriber>) {
    this.#client = client;
    this.#topics = topics;
  }

  enter(): void {
    this.#topics.join(this, this.#client.source, performance.now());
  }

  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): "go-on" | "end" {
    if (!this.#topics.takeToken(this, performance.now())) return "end";
    if (message.kind !== "binary") return "go-on";
    const decoded = tryDecode(message.data);
    if (decoded === undefined) return "end";
    if (decoded.kind === "unsubscribe") this.#topics.unsubscribe(this, decoded.topic);
    if (decoded.kind === "publish") {
      for (const receiver of this.#topics.receivers(this, decoded.topic)) {
        receiver.#client.send("binary", message.data);
      }
    }
    if (decoded.kind === "subscribe") {
      const kind = this.#topics.subscribe(this, decoded.topic) ? "subscribe" : "unsubscribe";
      this.#client.send("binary", encodeTopicMessage({ kind, topic: decoded.topic }));
    }
    return "go-on";
  }

  leave(): void {
    this.#topics.leave(this);
  }
}

function tryDecode(bytes: Uint8Array): TopicMessage | undefined {
  try {
    return decodeTopicMessage(bytes);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}

/** Topics and their subscribers. A topic exists while it has a subscriber, and stores nothing. */
export class RendezvousTopics<M> {
  readonly #limits: TopicLimits;
  readonly #subscribers = new Map<string, Set<M>>();
  readonly #members = new Map<M, TopicMembership>();

  constructor(limits: TopicLimits) {
    this.#limits = limits;
  }

  /** How many topics have a subscriber. */
  get size(): number {
    return this.#subscribers.size;
  }

  /** Adds a member without subscriptions. */
  join(member: M, source: string, nowMs: number): void {
    const { topicBurst: burst, topicMessagesPerSecond: perSecond } = this.#limits;
    const bucket = new TokenBucket({ burst, perSecond }, nowMs);
    this.#members.set(member, { source, topics: new Set(), bucket });
  }

  /** Removes a member with its subscriptions. */
  leave(member: M): void {
    for (const topic of this.#members.get(member)?.topics ?? []) this.#remove(member, topic);
    this.#members.delete(member);
  }

  /** Whether a member may send another message; counts it. */
  takeToken(member: M, nowMs: number): boolean {
    return this.#members.get(member)?.bucket.take(nowMs) ?? false;
  }

  /** Subscribes a member; whether the limits allow it. */
  subscribe(member: M, topic: string): boolean {
    const { source, topics } = this.#members.get(member) ?? {};
    if (topics === undefined || topics.size >= this.#limits.maxTopicsPerMember) {
      return topics?.has(topic) ?? false;
    }
    const subscribers = this.#subscribers.get(topic) ?? new Set();
    if (!subscribers.has(member) && !this.#hasSpace(subscribers, source)) return false;
    topics.add(topic);
    this.#subscribers.set(topic, subscribers.add(member));
    return true;
  }

  /** Ends a subscription. */
  unsubscribe(member: M, topic: string): void {
    if (this.#members.get(member)?.topics.delete(topic)) this.#remove(member, topic);
  }

  /** Who receives what the member publishes: all subscribers but itself. */
  receivers(member: M, topic: string): M[] {
    return [...this.#subscribers.get(topic) ?? []].filter((other) => other !== member);
  }

  #hasSpace(subscribers: ReadonlySet<M>, source: string | undefined): boolean {
    const { maxTopics, maxMembersPerTopic, maxMembersPerTopicAndSource } = this.#limits;
    if (subscribers.size === 0) return this.#subscribers.size < maxTopics;
    const same = [...subscribers].filter((each) => this.#members.get(each)?.source === source);
    return subscribers.size < maxMembersPerTopic && same.length < maxMembersPerTopicAndSource;
  }

  #remove(member: M, topic: string): void {
    const subscribers = this.#subscribers.get(topic);
    subscribers?.delete(member);
    if (subscribers?.size === 0) this.#subscribers.delete(topic);
  }
}

interface TopicMembership {
  readonly source: string;
  readonly topics: Set<string>;
  readonly bucket: TokenBucket;
}
