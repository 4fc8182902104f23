/**
 * Signaling through an MQTT broker.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { optionalResolvers } from "../../base/tasks.ts";
import {
  type OpenSignalingOptions,
  requirePublishable,
  requireSubscribable,
  type SignalingConnection,
  type SignalTransport,
  type TopicListener,
  TopicListeners,
} from "../transport.ts";
import { MqttClient } from "./client.ts";
import type { MqttVersion } from "./packet.ts";
import { parseBrokerUrl } from "./pipe.ts";
import { abortable } from "@std/async/abortable";

/** How to use a broker. */
export interface MqttTransportOptions {
  /** 4 for MQTT 3.1.1, 5 for MQTT 5. By default 4, and 5 if the broker does not speak 4. */
  readonly version?: MqttVersion;
  /** Certificate authorities to trust in addition to the platform's, PEM. */
  readonly caCerts?: readonly string[];
}

/**
 * Signals through a broker, public or your own. The broker learns when messages are published and how long they are;
 * peers encrypt their messages, and change their topics.
 *
 * @example
 * ```ts ignore
 * import { Peer } from "@punchline/punchline";
 * import { mqttTransport } from "@punchline/punchline/signal/mqtt";
 *
 * const broker = mqttTransport("mqtts://USER:PASSWORD@broker.example:8883");
 * await using peer = await Peer.open({ signaling: [broker] }); // or the URL; tickets contain the login
 * ```
 *
 * @param url `mqtt://` (TCP), `mqtts://` (TLS), `mqtt+ws://` or `mqtt+wss://` (WebSocket), as {@linkcode parseBrokerUrl} reads it
 * @throws {TypeError} if the URL has another form
 */
export function mqttTransport(url: string, options: MqttTransportOptions = {}): SignalTransport {
  const broker = parseBrokerUrl(url);
  return {
    url,
    async open({ network, signal }: OpenSignalingOptions): Promise<SignalingConnection> {
      const listeners = new TopicListeners();
      const deliver = (topic: string, payload: Uint8Array) => {
        if (topic.startsWith(PREFIX)) listeners.deliver(topic.slice(PREFIX.length), payload);
      };
      const client = await MqttClient.open(broker, { ...options, network, signal }, deliver);
      return new MqttSignaling(url, client, listeners);
    },
  };
}

class MqttSignaling implements SignalingConnection {
  readonly url: string;
  readonly finished: Promise<void>;
  readonly #client: MqttClient;
  readonly #listeners: TopicListeners;
  /** The outcome of subscribing to each topic that has a listener. */
  readonly #subscribed = new Map<string, Promise<void>>();

  constructor(url: string, client: MqttClient, listeners: TopicListeners) {
    this.url = url;
    this.finished = client.finished;
    this.#client = client;
    this.#listeners = listeners;
  }

  get rttMs(): number {
    return this.#client.rttMs;
  }

  check(withinMs?: number): void {
    this.#client.check(withinMs);
  }

  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    await this.#client.publish(PREFIX + topic, message);
  }

  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    requireSubscribable(topic, signal);
    if (this.#listeners.add(topic, onMessage)) {
      const subscribed = optionalResolvers<void>();
      this.#client.subscribe(PREFIX + topic).then(subscribed.resolve, subscribed.reject);
      this.#subscribed.set(topic, subscribed.promise);
    }
    try {
      const subscribed = this.#subscribed.get(topic)!;
      await (signal === undefined ? subscribed : abortable(subscribed, signal));
    } catch (error) {
      await this.#unsubscribe(topic, onMessage);
      throw error;
    }
    return { [Symbol.asyncDispose]: () => this.#unsubscribe(topic, onMessage) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.close();
  }

  async #unsubscribe(topic: string, onMessage: TopicListener): Promise<void> {
    if (!this.#listeners.remove(topic, onMessage)) return;
    this.#subscribed.delete(topic);
    try {
      await this.#client.unsubscribe(PREFIX + topic);
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // lost, and the subscription with it
    }
  }
}

/** Chosen by us. Part of the protocol between peers, and of the rights that a broker has to grant. */
const PREFIX = "punchline/1/";
