/**
 * Signalling by an MQTT broker.
 *
 * @module
 */

import { requirePublishable, type TopicListener, TopicListeners, topicToBytes } from "../topic.ts";
import type { OpenSignalingOptions, SignalingConnection, SignalTransport } from "../transport.ts";
import { MqttClient } from "./client.ts";
import type { MqttVersion } from "./packet.ts";
import { parseBrokerUrl } from "./pipe.ts";
import { abortable } from "@std/async/abortable";

/** How to use a broker. */
export interface MqttTransportOptions {
  /** 4 for MQTT 3.1.1, 5 for MQTT 5; 4 and, where that is not spoken, 5 unless given. */
  readonly version?: MqttVersion;
  /** Certificate authorities to trust beside the platform's, PEM. */
  readonly caCerts?: readonly string[];
}

/**
 * A broker, public or one's own. It learns when somebody says something, and how long that is; the messages of peers
 * are sealed, and their topics change.
 *
 * @example
 * ```ts ignore
 * import { Peer } from "@punchline/punchline";
 * import { mqttTransport } from "@punchline/punchline/signal/mqtt";
 *
 * const broker = mqttTransport("mqtts://USER:PASSWORD@broker.example:8883");
 * await using peer = await Peer.open({ signaling: [broker] }); // or the URL, with the name and password in the ticket
 * ```
 *
 * @param url `mqtt://` (TCP), `mqtts://` (TLS), `mqtt+ws://` or `mqtt+wss://` (WebSocket), as {@linkcode parseBrokerUrl} reads it
 * @throws {TypeError} if the URL is none of those
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
  readonly #agreed = new Map<string, Promise<void>>();

  constructor(url: string, client: MqttClient, listeners: TopicListeners) {
    this.url = url;
    this.finished = client.finished;
    this.#client = client;
    this.#listeners = listeners;
  }

  get rttMs(): number {
    return this.#client.rttMs;
  }

  check(): void {
    this.#client.check();
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
    topicToBytes(topic);
    signal?.throwIfAborted();
    if (this.#listeners.add(topic, onMessage)) {
      const agreed = this.#client.subscribe(PREFIX + topic);
      agreed.catch(() => {});
      this.#agreed.set(topic, agreed);
    }
    try {
      const agreed = this.#agreed.get(topic)!;
      await (signal === undefined ? agreed : abortable(agreed, signal));
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
    this.#agreed.delete(topic);
    await this.#client.unsubscribe(PREFIX + topic).catch(() => {}); // with the connection all ends
  }
}

/** Ours: a corner of the broker's topics for ourselves. */
const PREFIX = "punchline/1/";
