/**
 * The topics of a rendezvous server: who subscribes to which, and how much each client may publish.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";
import { TokenBucket } from "../../base/rate_limiter.ts";
import { sourceKeys } from "../../net/source.ts";
import { MAX_SIGNAL_BYTES } from "../channel.ts";
import type { WebSocketMessage } from "../websocket/connection.ts";
import {
  decodeNumberNotice,
  decodeTopicMessage,
  encodeNumberNotice,
  encodeTopicMessage,
  TOPIC_HEADER_BYTES,
  type TopicMessage,
} from "./message.ts";
import { ALLOCATION_COST, NumberReservations, type NumberShare } from "./numbers.ts";
import { encodeWebSocketFrame } from "../websocket/frame.ts";
import { type RendezvousBus, subjectOf } from "./bus.ts";
import type { ClientSocket, MessageHandler } from "./session.ts";

/** Limits of topics and their subscribers; see {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
export interface TopicLimits {
  /** Topics with a subscriber. */
  readonly maxTopics: number;
  /** Topics that one client may subscribe to. */
  readonly maxTopicsPerMember: number;
  /** Subscribers of one topic: a published message is sent so often. */
  readonly maxMembersPerTopic: number;
  /** Subscribers of one topic from one IPv4 address or IPv6 /64; from an IPv6 /56 or /48 twice as many. */
  readonly maxMembersPerTopicAndSource: number;
  /** Messages that one client may send at once. */
  readonly topicBurst: number;
  /** Messages that one client may send per second in the long run. */
  readonly topicMessagesPerSecond: number;
  /** Which of the numbers are this node's to allocate. Default: all. */
  readonly numberShare?: NumberShare;
}

/** A client that subscribes to topics and publishes under others. */
export class TopicSubscriber implements MessageHandler {
  readonly maxMessageBytes = TOPIC_HEADER_BYTES + MAX_SIGNAL_BYTES;
  readonly #client: ClientSocket;
  readonly #ip: string;
  readonly #topics: RendezvousTopics<TopicSubscriber>;
  readonly #bus: RendezvousBus | undefined;

  constructor(client: ClientSocket, ip: string, place: TopicPlace) {
    this.#client = client;
    this.#ip = ip;
    this.#topics = place.topics;
    this.#bus = place.bus;
  }

  /** The topics of one node; other nodes are told, by the bus, which of them have subscribers. */
  static topics(
    limits: TopicLimits,
    bus: RendezvousBus | undefined,
  ): RendezvousTopics<TopicSubscriber> {
    if (bus === undefined) return new RendezvousTopics(limits);
    const topics: RendezvousTopics<TopicSubscriber> = new RendezvousTopics(limits, {
      onFirst: (topic) =>
        bus.subscribe(subjectOf("topic", topic), (message) => {
          const decoded = tryDecode(message);
          if (decoded?.kind !== "publish" || decoded.topic !== topic) return;
          const frame = encodeWebSocketFrame("binary", message);
          for (const receiver of topics.subscribers(topic)) receiver.#client.sendFrame(frame);
        }),
      onLast: (topic) => bus.unsubscribe(subjectOf("topic", topic)),
    });
    return topics;
  }

  enter(): void {
    this.#topics.join(this, this.#ip, performance.now());
  }

  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): number | "end" {
    if (!this.#topics.takeToken(this, performance.now())) return "end";
    if (message.kind === "text") return this.#acceptText(message.text);
    if (message.kind !== "binary") return 0;
    const decoded = tryDecode(message.data);
    if (decoded === undefined) return "end";
    if (decoded.kind === "unsubscribe") this.#topics.unsubscribe(this, decoded.topic);
    if (decoded.kind === "publish") {
      const receivers = this.#topics.receivers(this, decoded.topic);
      // Encoded once: while it waits for many clients that read slowly, it takes the memory of one.
      const frame = encodeWebSocketFrame("binary", message.data);
      for (const receiver of receivers) receiver.#client.sendFrame(frame);
      this.#bus?.publish(subjectOf("topic", decoded.topic), message.data);
      return receivers.length + (this.#bus === undefined ? 0 : 1);
    }
    if (decoded.kind === "subscribe") {
      const isAccepted = this.#topics.subscribe(this, decoded.topic, performance.now());
      const kind = isAccepted ? "subscribe" : "unsubscribe";
      this.#client.send("binary", encodeTopicMessage({ kind, topic: decoded.topic }));
      return 1;
    }
    return 0;
  }

  leave(): void {
    this.#topics.leave(this);
  }

  #acceptText(text: string): number {
    if (decodeNumberNotice(text).kind !== "request") return 0;
    const chance = { nowMs: performance.now(), random: Math.random() };
    const number = this.#topics.reserveNumber(this, chance);
    const notice = encodeNumberNotice({ kind: "allocated", number });
    this.#client.send("text", new TextEncoder().encode(notice));
    return ALLOCATION_COST;
  }
}

/** All topics of one node, and what leads to others. */
export interface TopicPlace {
  readonly topics: RendezvousTopics<TopicSubscriber>;
  readonly bus: RendezvousBus | undefined;
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
  readonly #numbers: NumberReservations<M>;
  readonly #watch: TopicWatch | undefined;

  /** @param watch learns which topics have subscribers */
  constructor(limits: TopicLimits, watch?: TopicWatch) {
    this.#limits = limits;
    this.#numbers = new NumberReservations(limits.numberShare);
    this.#watch = watch;
  }

  /** How many topics have a subscriber. */
  get size(): number {
    return this.#subscribers.size;
  }

  /** Adds a member without subscriptions. */
  join(member: M, ip: string, nowMs: number): void {
    const { topicBurst: burst, topicMessagesPerSecond: perSecond } = this.#limits;
    const bucket = new TokenBucket({ burst, perSecond }, nowMs);
    this.#members.set(member, { sources: sourceKeys(ip), topics: new Set(), bucket });
  }

  /** Removes a member with its subscriptions. */
  leave(member: M): void {
    for (const topic of this.#members.get(member)?.topics ?? []) this.#remove(member, topic);
    this.#members.delete(member);
    this.#numbers.leave(member);
  }

  /** Reserves a number whose meeting place has no subscriber. */
  reserveNumber(member: M, chance: { nowMs: number; random: number }): number | undefined {
    return this.#numbers.reserve(member, (topic) => this.#subscribers.has(topic), chance);
  }

  /** Whether a member may send another message; counts it. */
  takeToken(member: M, nowMs: number): boolean {
    return this.#members.get(member)?.bucket.take(nowMs) ?? false;
  }

  /** Subscribes a member; whether the limits allow it. */
  subscribe(member: M, topic: string, nowMs: number): boolean {
    const { sources = [], topics } = this.#members.get(member) ?? {};
    if (topics === undefined || topics.size >= this.#limits.maxTopicsPerMember) {
      return topics?.has(topic) ?? false;
    }
    const subscribers = this.#subscribers.get(topic) ?? new Set();
    if (!subscribers.has(member) && !this.#hasSpace(subscribers, sources)) return false;
    if (!this.#numbers.take(member, topic, nowMs)) return false;
    topics.add(topic);
    if (subscribers.size === 0) this.#watch?.onFirst(topic);
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

  /** All subscribers. */
  subscribers(topic: string): Iterable<M> {
    return this.#subscribers.get(topic) ?? [];
  }

  #hasSpace(subscribers: ReadonlySet<M>, sources: readonly string[]): boolean {
    const { maxTopics, maxMembersPerTopic, maxMembersPerTopicAndSource } = this.#limits;
    if (subscribers.size === 0) return this.#subscribers.size < maxTopics;
    if (subscribers.size >= maxMembersPerTopic) return false;
    return sources.every((source, wider) => {
      const same = [...subscribers].filter((each) =>
        this.#members.get(each)?.sources[wider] === source
      );
      return same.length < maxMembersPerTopicAndSource * (wider === 0 ? 1 : 2);
    });
  }

  #remove(member: M, topic: string): void {
    const subscribers = this.#subscribers.get(topic);
    subscribers?.delete(member);
    if (subscribers?.size !== 0) return;
    this.#subscribers.delete(topic);
    this.#watch?.onLast(topic);
  }
}

/** Learns when a topic gets its first subscriber, and when it loses the last one. */
export interface TopicWatch {
  onFirst(topic: string): void;
  onLast(topic: string): void;
}

interface TopicMembership {
  readonly sources: readonly string[];
  readonly topics: Set<string>;
  readonly bucket: TokenBucket;
}
