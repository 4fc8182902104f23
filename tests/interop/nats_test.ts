import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { RefusedError } from "../../lib/base/errors.ts";
import type { Network } from "../../lib/net/network.ts";
import { systemNetwork as network } from "../../lib/net/system.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { openNatsBus } from "../../lib/signal/nats/bus.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { freePorts } from "./free_ports.ts";
import { NATS_SERVER, startNats } from "./nats.ts";
import { toolTest } from "./tool_test_case.ts";

const CLI = new URL("../../cli.ts", import.meta.url).pathname;
const KEY = "0123456789abcdef";

toolTest("a bus passes on what is signed with its key, and nothing else", NATS_SERVER, async () => {
  await using server = await startNats({ login: ["ann", "p w"] });
  const urls = [`nats://ann:p%20w@127.0.0.1:${server.port}`];
  await using one = await openNatsBus({ network, urls, key: KEY });
  await using other = await openNatsBus({ network, urls, key: KEY });
  await using stranger = await openNatsBus({ network, urls, key: `${KEY} of others` });
  const received: string[] = [];
  const listen = (name: string, bus: typeof one) =>
    bus.subscribe("a", (message) => void received.push(`${name} ${message}`));
  listen("one", one);
  listen("other", other);
  listen("stranger", stranger);
  await delay(100);
  one.publish("a", Uint8Array.of(1));
  one.publish("b", Uint8Array.of(2));
  await waitUntil(() => received.length > 0);
  other.unsubscribe("a");
  await delay(100);
  one.publish("a", Uint8Array.of(3));
  await delay(100);
  assertEquals(received, ["other 1"]);
  const wrong = [`nats://ann:wrong@127.0.0.1:${server.port}`];
  await assertRejects(
    () => openNatsBus({ network, urls: wrong, key: KEY }),
    RefusedError,
    "Authorization Violation",
  );
});

toolTest("a bus comes back after its server, with all subscriptions", NATS_SERVER, async () => {
  const first = await startNats();
  const urls = [`nats://127.0.0.1:${first.port}`];
  await using one = await openNatsBus({ network, urls, key: KEY });
  await using other = await openNatsBus({ network, urls, key: KEY });
  const received: number[] = [];
  other.subscribe("a", (message) => void received.push(message[0]!));
  await first.kill();
  await waitUntil(() => !one.isConnected && !other.isConnected);
  await using _second = await startNats({ port: first.port });
  await waitUntil(() => one.isConnected && other.isConnected);
  await delay(100);
  one.publish("a", Uint8Array.of(7));
  await waitUntil(() => received.length > 0);
  assertEquals(received, [7]);
});

toolTest(
  "peers meet through two nodes, and a node that is killed takes none of the others along",
  NATS_SERVER,
  async () => {
    await using server = await startNats();
    const directory = await Deno.makeTempDir({ prefix: "nodes-" });
    const nodes: Node[] = [];
    try {
      const keyFile = `${directory}/key`;
      await Deno.writeTextFile(keyFile, KEY);
      for (let i = 1; i <= 3; i++) nodes.push(await startNode(server.port, keyFile, `${i}/3`));
      await connect(nodes[0]!.url, nodes[1]!.url);
      await using a = await openWebSocketChannel(nodes[0]!.url, "kitchen");
      await using b = await openWebSocketChannel(nodes[1]!.url, "kitchen");
      await a.send(Uint8Array.of(1));
      assertEquals(await b.receive(), Uint8Array.of(1));

      await nodes[0]!.kill();
      await connect(nodes[1]!.url, nodes[2]!.url);
      await using c = await openWebSocketChannel(nodes[2]!.url, "kitchen"); // in the place of the lost one
      let received: Uint8Array | undefined;
      const receiving = b.receive().then((message) => received = message);
      await waitUntil(async () => {
        await c.send(Uint8Array.of(2));
        return received !== undefined;
      });
      assertEquals(await receiving, Uint8Array.of(2));
    } finally {
      for (const node of nodes) await node.kill();
      await Deno.remove(directory, { recursive: true });
    }
  },
);

interface Node {
  readonly url: string;
  kill(): Promise<void>;
}

/** A node with two threads, as a process. */
async function startNode(nats: number, keyFile: string, node: string): Promise<Node> {
  const [port, alternatePort, rendezvousPort] = freePorts(3);
  const args = [
    ...["serve", "--json", "--port", `${port}`, "--alternate-port", `${alternatePort}`],
    ...["--rendezvous-port", `${rendezvousPort}`, "--workers", "2"],
    ...["--nats", `nats://127.0.0.1:${nats}`, "--nats-key", keyFile, "--node", node],
  ];
  const child = new Deno.Command(Deno.execPath(), {
    args: denoArgs(CLI, args, { permissions: "--allow-net" }).toSpliced(1, 0, "--allow-read"),
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value } = await reader.read();
  if (value === undefined) throw new Error("a node did not start");
  return {
    url: JSON.parse(value).rendezvous,
    kill: async () => {
      try {
        child.kill("SIGKILL");
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // it has ended already
      }
      await child.status;
      await reader.cancel();
    },
  };
}

/** Two peers that know the rendezvous by one name, which leads each to another node. */
async function connect(listening: string, connecting: string): Promise<void> {
  const signal = AbortSignal.timeout(15_000);
  const strategies = ["host"] as const; // over TCP
  const options = { servers: [], signaling: [listening], strategies, signal };
  const [from, to] = [listening, connecting].map((url) => Number(new URL(url).port));
  const elsewhere: Network = {
    ...network,
    canReusePort: network.canReusePort,
    connectTcp: (remote, options) =>
      network.connectTcp(remote.port === from ? { ...remote, port: to! } : remote, options),
  };
  await using listener = await Peer.open(options);
  await using dialer = await Peer.open({ ...options, network: elsewhere, listen: false });
  const [accepted, connection] = await Promise.all([
    listener.nextIncoming({ signal }).then((incoming) => incoming.accept({ signal })),
    dialer.connect(listener.ticket, { signal }),
  ]);
  await connection.write(Uint8Array.of(5));
  const buffer = new Uint8Array(1);
  await accepted.read(buffer);
  assertEquals(buffer[0], 5);
  // At once: each waits for the other.
  await Promise.all([connection[Symbol.asyncDispose](), accepted[Symbol.asyncDispose]()]);
}

async function waitUntil(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await isSo()) return;
    await delay(50);
  }
  throw new Error("Waited for ten seconds in vain");
}
