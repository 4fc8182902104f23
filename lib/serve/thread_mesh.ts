/**
 * What connects the threads of a rendezvous: each has a port to every other. A thread tells all others what its clients wait
 * for, so that a message goes only to those that have use for it; and a pair of the relay meets in the thread that its
 * token chooses.
 *
 * @module
 */

import { fromBase64url } from "../base/bytes.ts";
import type { ReleasedConnection, TcpConnection } from "../net/network.ts";
import type { RendezvousBus } from "../signal/rendezvous/bus.ts";
import type { RelayClient, RelayPlaces } from "../signal/rendezvous/relay.ts";
import { type HandedConnection, handOver, takeOver } from "./hand_over.ts";

/** The place of a thread among the others. */
export interface ThreadPlace {
  /** From 0. */
  readonly index: number;
  /** A port to each thread, in the order of their indices; `null` in its own place. */
  readonly ports: readonly (MessagePort | null)[];
}

/** What a thread does with what others send it. */
export interface ThreadMeshOptions {
  /** Makes a connection from a file descriptor. */
  readonly attach: (fd: number) => TcpConnection | undefined;
  /** Serves a client of the relay whose pair meets in this thread. */
  readonly onClient: (connection: TcpConnection, client: RelayClient) => void;
}

/** One thread, as seen by its own server. */
export class ThreadMesh implements RendezvousBus, RelayPlaces {
  readonly #place: ThreadPlace;
  readonly #options: ThreadMeshOptions;
  readonly #own = new Map<string, (message: Uint8Array<ArrayBuffer>) => void>();
  /** Which other threads wait for a subject. */
  readonly #others = new Map<string, Set<MessagePort>>();

  constructor(place: ThreadPlace, options: ThreadMeshOptions) {
    this.#place = place;
    this.#options = options;
    for (const port of this.#ports()) {
      port.onmessage = ({ data }: MessageEvent<MeshMessage>) => this.#accept(port, data);
    }
  }

  subscribe(subject: string, receive: (message: Uint8Array<ArrayBuffer>) => void): void {
    this.#own.set(subject, receive);
    this.#tellAll({ kind: "subscribe", subject });
  }

  unsubscribe(subject: string): void {
    this.#own.delete(subject);
    this.#tellAll({ kind: "unsubscribe", subject });
  }

  publish(subject: string, message: Uint8Array<ArrayBuffer>): void {
    for (const port of this.#others.get(subject) ?? []) {
      tell(port, { kind: "publish", subject, message });
    }
  }

  isHere(token: string): boolean {
    return this.#indexFor(token) === this.#place.index;
  }

  async take(connection: ReleasedConnection, client: RelayClient): Promise<void> {
    const port = this.#place.ports[this.#indexFor(client.token)]!;
    await handOver(connection, (handed, transfer) => {
      tell(port, { kind: "client", client, handed }, transfer);
    });
  }

  /** Ends the ports. */
  close(): void {
    for (const port of this.#ports()) port.close();
  }

  #ports(): MessagePort[] {
    return this.#place.ports.filter((port) => port !== null);
  }

  #indexFor(token: string): number {
    return fromBase64url(token)![0]! % this.#place.ports.length;
  }

  #tellAll(message: MeshMessage): void {
    for (const port of this.#ports()) tell(port, message);
  }

  #accept(from: MessagePort, message: MeshMessage): void {
    switch (message.kind) {
      case "subscribe":
        this.#others.set(
          message.subject,
          (this.#others.get(message.subject) ?? new Set()).add(from),
        );
        break;
      case "unsubscribe": {
        const others = this.#others.get(message.subject);
        others?.delete(from);
        if (others?.size === 0) this.#others.delete(message.subject);
        break;
      }
      case "publish":
        this.#own.get(message.subject)?.(message.message);
        break;
      case "client": {
        const connection = takeOver(message.handed, this.#options.attach);
        if (connection !== undefined) this.#options.onClient(connection, message.client);
      }
    }
  }
}

type MeshMessage =
  | { readonly kind: "subscribe" | "unsubscribe"; readonly subject: string }
  | {
    readonly kind: "publish";
    readonly subject: string;
    readonly message: Uint8Array<ArrayBuffer>;
  }
  | {
    readonly kind: "client";
    readonly client: RelayClient;
    readonly handed: HandedConnection;
  };

function tell(port: MessagePort, message: MeshMessage, transfer: MessagePort[] = []): void {
  port.postMessage(message, transfer);
}
