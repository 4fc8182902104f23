/**
 * A client of a rendezvous server that has come for topics.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";
import type { ClientSocket, Visit } from "./rendezvous/session.ts";
import type { RendezvousTopics } from "./rendezvous/topics.ts";
import {
  decodeTopicMessage,
  encodeTopicMessage,
  TOPIC_HEADER_BYTES,
  type TopicMessage,
} from "./topic_message.ts";
import type { WebSocketMessage } from "./websocket/connection.ts";

/** Somebody who listens to topics, and says something under others. */
export class TopicVisit implements Visit {
  readonly maxMessageBytes = TOPIC_HEADER_BYTES + MAX_SIGNAL_BYTES;
  readonly #client: ClientSocket;
  readonly #topics: RendezvousTopics<TopicVisit>;

  constructor(client: ClientSocket, topics: RendezvousTopics<TopicVisit>) {
    this.#client = client;
    this.#topics = topics;
  }

  enter(): void {
    this.#topics.join(this, this.#client.source, performance.now());
  }

  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): "go-on" | "end" {
    if (!this.#topics.takes(this, performance.now())) return "end";
    if (message.kind !== "binary") return "go-on";
    const said = tryDecode(message.data);
    if (said === undefined) return "end"; // whoever does not keep to this is no client of ours
    if (said.kind === "unsubscribe") this.#topics.unsubscribe(this, said.topic);
    if (said.kind === "publish") {
      for (const listener of this.#topics.listeners(this, said.topic)) {
        listener.#client.send("binary", message.data);
      }
    }
    if (said.kind === "subscribe") {
      const kind = this.#topics.subscribe(this, said.topic) ? "subscribe" : "unsubscribe";
      this.#client.send("binary", encodeTopicMessage({ kind, topic: said.topic }));
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
