import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { RendezvousBus } from "../../lib/signal/rendezvous/bus.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import {
  decodeRoomNodeMessage,
  encodeRoomNodeMessage,
  type RemotePeerEvent,
  type RemotePeerState,
  type RoomNodeMessage,
  stepRemotePeer,
} from "../../lib/signal/rendezvous/remote_peer.ts";
import { openRelayConnection } from "../../lib/signal/rendezvous/relay_connection.ts";
import { urlOfNode } from "../../lib/signal/rendezvous/relay_nodes.ts";
import { type RendezvousServer, serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { webSocketTransport } from "../../lib/signal/rendezvous/transport.ts";
import type { Host } from "../simnet/host.ts";
import { simulate } from "../simnet/simulate.ts";

const ME = "A".repeat(21) + "Q";
const YOU = "B".repeat(21) + "Q";
const SHE = "C".repeat(21) + "Q";
const ALL = "A".repeat(22);
const LONE: RemotePeerState = {
  own: ME,
  hasLocalPeer: false,
  peer: undefined,
  newcomer: undefined,
};

Deno.test("who a member's peer is, by what the nodes tell each other", () => {
  const taken = { ...LONE, peer: YOU };
  const asking = { ...taken, newcomer: SHE };
  const local = { ...LONE, hasLocalPeer: true };
  const text = { kind: "text", from: YOU, to: ME, data: Uint8Array.of(1) } as const;
  const rows: [string, RemotePeerState, RemotePeerEvent, RemotePeerState, string[]][] = [
    ["alone", LONE, { kind: "local-peer", isPresent: false }, LONE, ["hello"]],
    ["a hello", LONE, from(YOU, "hello"), taken, ["welcome", "present"]],
    ["a welcome", LONE, from(YOU, "welcome"), taken, ["present"]],
    ["for another", LONE, received({ kind: "welcome", from: YOU, to: SHE }), LONE, []],
    ["the room is full", LONE, from(YOU, "full"), LONE, ["end"]],
    ["full, but not for us", taken, from(SHE, "full"), taken, []],
    ["the peer is turned away", taken, from(YOU, "full"), LONE, ["end"]],
    ["a second welcome", taken, from(YOU, "welcome"), taken, []],
    ["a third member", taken, from(SHE, "hello"), asking, ["check", "wait"]],
    ["a fourth one", asking, from("D".repeat(21) + "Q", "hello"), asking, ["full"]],
    ["the peer is there", asking, from(YOU, "welcome"), taken, ["full"]],
    ["the peer is not", asking, { kind: "timeout" }, { ...LONE, peer: SHE }, [
      ...["welcome", "absent", "present"],
    ]],
    ["too late", taken, { kind: "timeout" }, taken, []],
    ["a third welcome", taken, from(SHE, "welcome"), taken, ["full"]],
    ["a check", taken, from(YOU, "check"), taken, ["welcome"]],
    ["a check of another", taken, from(SHE, "check"), taken, []],
    ["bye", taken, from(YOU, "bye"), LONE, ["absent"]],
    ["bye of another", taken, from(SHE, "bye"), taken, []],
    ["a text", taken, received(text), taken, ["deliver"]],
    ["a text of another", taken, received({ ...text, from: SHE }), taken, []],
    ["a local peer", LONE, { kind: "local-peer", isPresent: true }, local, []],
    ["a hello to two", local, from(SHE, "hello"), local, ["full"]],
    ["the local peer leaves", local, { kind: "local-peer", isPresent: false }, LONE, ["hello"]],
    ["left", taken, { kind: "left" }, LONE, ["bye"]],
    ["left alone", LONE, { kind: "left" }, LONE, []],
  ];
  for (const [name, before, event, after, expected] of rows) {
    const { state, actions } = stepRemotePeer(before, event);
    assertEquals(state, after, name);
    const done = actions.map((action) =>
      action.kind === "publish"
        ? action.message.kind
        : action.kind === "notify"
        ? action.isPresent ? "present" : "absent"
        : action.kind
    );
    assertEquals(done, expected, name);
  }
});

Deno.test("encodeRoomNodeMessage() writes the documented layout", () => {
  const data = Uint8Array.of(9, 8);
  const message: RoomNodeMessage = { kind: "binary", from: ME, to: YOU, data };
  const bytes = encodeRoomNodeMessage(message);
  assertEquals([bytes[0], bytes.length, ...bytes.subarray(33)], [7, 35, 9, 8]);
  assertEquals(decodeRoomNodeMessage(bytes), message);
  const hello: RoomNodeMessage = { kind: "hello", from: ME, to: ALL };
  assertEquals(decodeRoomNodeMessage(encodeRoomNodeMessage(hello)), hello);
});

Deno.test("topics and rooms span two nodes, and survive the loss of one", async () => {
  await simulate(async ({ internet }) => {
    const buses = memoryBuses(2);
    const serverOn = (host: Host, i: number) =>
      serveRendezvous({
        network: host.network,
        local: { ip: host.addresses[0]!, port: 3480 },
        bus: buses[i]!,
      });
    const first = await serverOn(internet.host("node 0"), 0);
    await using second = await serverOn(internet.host("node 1"), 1);
    const clientOf = (name: string) => internet.host(name).network;

    const topic = "A".repeat(22);
    const heard: number[] = [];
    await using subscriber = await webSocketTransport(first.url).open({
      network: clientOf("subscriber"),
    });
    await subscriber.subscribe(topic, (message) => void heard.push(message[0]!));
    await using publisher = await webSocketTransport(second.url).open({
      network: clientOf("publisher"),
    });
    await publisher.publish(topic, Uint8Array.of(7));
    await new Promise((resolve) => setTimeout(resolve, 100));
    assertEquals(heard, [7]);

    await using a = await openWebSocketChannel(first.url, "kitchen", { network: clientOf("a") });
    await using b = await openWebSocketChannel(second.url, "kitchen", { network: clientOf("b") });
    await a.send(Uint8Array.of(1));
    assertEquals(await b.receive(), Uint8Array.of(1));
    await b.send(Uint8Array.of(2));
    assertEquals(await a.receive(), Uint8Array.of(2));
    await assertRejects(
      () => openWebSocketChannel(second.url, "kitchen", { network: clientOf("c") }),
      RefusedError,
      "409",
    );

    buses[0]!.isCut = true; // as if its node had been killed: no bye
    await first[Symbol.asyncDispose]();
    await using d = await openWebSocketChannel(second.url, "pantry", { network: clientOf("d") });
    await using e = await openWebSocketChannel(second.url, "pantry", { network: clientOf("e") });
    await d.send(Uint8Array.of(3));
    assertEquals(await e.receive(), Uint8Array.of(3));
    await assertRejects(() => a.receive(), NetworkError);
  });
});

Deno.test("a newcomer takes the place of a peer whose node was killed", async () => {
  await simulate(async ({ internet }) => {
    const buses = memoryBuses(3);
    const servers: RendezvousServer[] = [];
    for (const [i, bus] of buses.entries()) {
      const { network, addresses } = internet.host(`node ${i}`);
      servers.push(
        await serveRendezvous({ network, local: { ip: addresses[0]!, port: 3480 }, bus }),
      );
    }
    const open = (node: number, name: string) =>
      openWebSocketChannel(servers[node]!.url, "kitchen", {
        network: internet.host(name).network,
      });
    await using a = await open(0, "a");
    await using b = await open(1, "b");
    await a.send(Uint8Array.of(1));
    await b.receive();
    buses[1]!.isCut = true;
    await using c = await open(2, "c");
    await a.send(Uint8Array.of(2));
    const received = c.receive();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await a.send(Uint8Array.of(3));
    assertEquals((await received)[0]! >= 2, true);
    for (const server of servers) await server[Symbol.asyncDispose]();
  });
});

Deno.test("a pair of the relay meets at one node, whichever each half came to first", async () => {
  await simulate(async ({ internet }) => {
    const buses = memoryBuses(2);
    const servers: RendezvousServer[] = [];
    // One name, two ports: what a name with two addresses is in this internet.
    const { network, addresses } = internet.host("nodes");
    for (const [i, bus] of buses.entries()) {
      const local = { ip: addresses[0]!, port: 3480 + i };
      const nodeHost = `${addresses[0]}:${3480 + i}`;
      servers.push(await serveRendezvous({ network, local, bus, nodeHost }));
    }
    for (const order of [[0, 1], [1, 0]]) {
      const token = crypto.getRandomValues(new Uint8Array(32));
      const open = (node: number) =>
        openRelayConnection(servers[node]!.url, {
          network: internet.host(`${order} ${node}`).network,
          token,
        });
      using a = await open(order[0]!);
      await a.write(Uint8Array.of(1, 2));
      await new Promise((resolve) => setTimeout(resolve, 1000));
      using b = await open(order[1]!);
      await b.write(Uint8Array.of(3));
      const buffers = [new Uint8Array(9), new Uint8Array(9)] as const;
      const read = Promise.all([a.read(buffers[0]), b.read(buffers[1])]);
      assertEquals(await read, [1, 2]);
      assertEquals([buffers[0][0], buffers[1][0], buffers[1][1]], [3, 1, 2]);
      await a.write(Uint8Array.of(4));
      await b.read(buffers[1]);
      assertEquals(buffers[1][0], 4);
      assertEquals(servers.map(({ relays }) => relays), [1, 0]);
      a.close();
      await b.read(buffers[1]).catch(() => {}); // its end
    }
    for (const server of servers) await server[Symbol.asyncDispose]();
  });
});

Deno.test("a node may send clients to names below its own only, and to ports of its host", () => {
  const rows: [string, string, string | undefined][] = [
    ["wss://meet.example/KEY/relay/1", "n1.meet.example", "wss://n1.meet.example/KEY/relay/1"],
    ["wss://meet.example/relay/1", "n1.meet.example:8443", "wss://n1.meet.example:8443/relay/1"],
    ["ws://192.0.2.1:1/relay/1", "192.0.2.1:2", "ws://192.0.2.1:2/relay/1"],
    ["wss://meet.example/relay/1", "meet.example:22", "wss://meet.example:22/relay/1"],
    ["wss://meet.example/relay/1", "evil.example", undefined],
    ["wss://meet.example/relay/1", "notmeet.example", undefined],
    ["ws://192.0.2.1/relay/1", "9.192.0.2.1", undefined],
    ["ws://192.0.2.1/relay/1", "192.0.2.2", undefined],
    ["wss://meet.example/relay/1", "n1.meet.example/other", undefined],
    ["wss://meet.example/relay/1", "a@n1.meet.example", undefined],
    ["wss://meet.example/relay/1", "", undefined],
  ];
  for (const [url, host, expected] of rows) {
    assertEquals(urlOfNode(url, host)?.href, expected, host);
  }
});

function from(who: string, kind: "hello" | "welcome" | "full" | "check" | "bye"): RemotePeerEvent {
  return received({ kind, from: who, to: kind === "hello" ? ALL : ME });
}

function received(message: RoomNodeMessage): RemotePeerEvent {
  return { kind: "received", message };
}

/** Buses that pass on at once. */
function memoryBuses(count: number): (RendezvousBus & { isCut: boolean })[] {
  const all = Array.from({ length: count }, () => {
    const subscribed = new Map<string, (message: Uint8Array<ArrayBuffer>) => void>();
    const bus = {
      isCut: false,
      subscribed,
      subscribe(subject: string, receive: (message: Uint8Array<ArrayBuffer>) => void) {
        subscribed.set(subject, receive);
      },
      unsubscribe: (subject: string) => void subscribed.delete(subject),
      publish(subject: string, message: Uint8Array<ArrayBuffer>) {
        if (bus.isCut) return;
        for (const other of all) {
          if (other !== bus && !other.isCut) other.subscribed.get(subject)?.(message.slice());
        }
      },
    };
    return bus;
  });
  return all;
}
