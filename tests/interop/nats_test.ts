import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { Network } from "../../lib/net/network.ts";
import { systemNetwork as network } from "../../lib/net/system.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { openNatsBus } from "../../lib/signal/nats/bus.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { TEST_CA, tlsFixture } from "../net/tls_fixtures.ts";
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
  "a bus speaks TLS with a server that requires it, and checks the certificate",
  NATS_SERVER,
  async () => {
    const [cert, key] = [tlsFixture("server.pem"), tlsFixture("server.key")];
    await using server = await startNats({ login: ["ann", "p w"], tls: { cert, key } });
    const open = (url: string, caCerts?: string[]) =>
      openNatsBus({ network, urls: [url], key: KEY, caCerts });
    // Whether the URL asks for it or not; by name and by address.
    const login = "ann:p%20w";
    await using one = await open(`nats://${login}@127.0.0.1:${server.port}`, [TEST_CA]);
    await using other = await open(`tls://${login}@localhost:${server.port}`, [TEST_CA]);
    const received: number[] = [];
    other.subscribe("a", (message) => void received.push(message[0]!));
    await delay(100);
    one.publish("a", Uint8Array.of(7));
    await waitUntil(() => received.length > 0);
    assertEquals(received, [7]);

    const refused = async (url: string, why: string, caCerts?: string[]) => {
      const error = await assertRejects(() => open(url, caCerts), NetworkError, why);
      assertEquals(error.reason, "tls", error.message);
      return error.remedy ?? "";
    };
    const url = (port: number, ip = "127.0.0.1") => `tls://${login}@${ip}:${port}`;
    const remedy = await refused(url(server.port), "unknown authority");
    assertStringIncludes(remedy, "DENO_TLS_CA_STORE=system");
    const expired = { cert: tlsFixture("expired.pem"), key };
    await using old = await startNats({ tls: expired });
    await refused(url(old.port, "localhost"), "has expired", [TEST_CA]);
    await using elsewhere = await startNats({ ip: "127.0.0.2", tls: { cert, key } });
    await refused(url(elsewhere.port, "127.0.0.2"), "127.0.0.2", [TEST_CA]);
    await using plain = await startNats();
    await refused(url(plain.port), "offers none", [TEST_CA]);
  },
);

toolTest(
  "nodes trust the authorities that DENO_CERT and DENO_TLS_CA_STORE choose",
  NATS_SERVER,
  async () => {
    const [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(tlsFixture);
    await using server = await startNats({ tls: { cert: cert!, key: key! } });
    const keyFile = await Deno.makeTempFile({ prefix: "nats-key-" });
    await Deno.writeTextFile(keyFile, KEY);
    const nats = `tls://127.0.0.1:${server.port}`;
    try {
      await using _one = await startNode(nats, keyFile, "1/2", { env: { DENO_CERT: ca! } });
      const env = { DENO_TLS_CA_STORE: "system", SSL_CERT_FILE: ca! };
      await using _other = await startNode(nats, keyFile, "2/2", { env, workers: 1 });
      const { code, text } = await failureOf(nodeArgs(nats, keyFile, "1/2", 1));
      assertEquals(code, 1, text);
      assertStringIncludes(text, "certificate is of an unknown authority");
      assertStringIncludes(text, "DENO_CERT");
    } finally {
      await Deno.remove(keyFile);
    }
  },
);

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
      for (let i = 1; i <= 3; i++) {
        nodes.push(await startNode(`nats://127.0.0.1:${server.port}`, keyFile, `${i}/3`));
      }
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

toolTest(
  "pairs that come to different nodes are relayed by one of them; when it is killed, they go on with the other",
  NATS_SERVER,
  async () => {
    await using nats = await startNats();
    const keyFile = await Deno.makeTempFile({ prefix: "nodes-" });
    await Deno.writeTextFile(keyFile, KEY);
    const nodes: Node[] = [];
    try {
      const start = (node: string) =>
        startNode(`nats://127.0.0.1:${nats.port}`, keyFile, node, { hasName: true });
      nodes.push(...await Promise.all([start("1/2"), start("2/2")]));
      // The pair meets at the node whose name comes first.
      const [first, second] = nodes.toSorted((a, b) => a.url < b.url ? -1 : 1) as [Node, Node];
      const name = new RendezvousName();
      name.leadsTo(first);
      await using one = await name.pair({ to: [first, second] });
      assertEquals(one.relayPort, first.port);
      await using other = await name.pair({ to: [second, second] });
      assertEquals(other.relayPort, second.port);
      await one.exchange(1);
      await other.exchange(1);

      await first.kill();
      name.leadsTo(second);
      for (let i = 2; i < 10; i++) await other.exchange(i); // as if nothing had happened
      await one.exchange(2); // over the node that is left
      assertEquals(one.relayPort, second.port);
    } finally {
      for (const node of nodes) await node.kill();
      await Deno.remove(keyFile);
    }
  },
);

/** A name that leads to one node or another, as DNS would have it: here a port on which nothing listens. */
class RendezvousName {
  readonly #port = freePorts(1)[0]!;
  #node: Node | undefined;

  /** Where the name leads those that are not told otherwise. */
  leadsTo(node: Node): void {
    this.#node = node;
  }

  /** Two peers with nothing but relays. The name leads each of them to its own node, until that is gone. */
  async pair({ to }: { to: readonly [Node, Node] }): Promise<Pair> {
    const signal = AbortSignal.timeout(15_000);
    const open = (node: Node) =>
      Peer.open({
        ...{ servers: [], relayOnly: true, signal },
        signaling: [`ws://127.0.0.1:${this.#port}`],
        network: this.#networkTo(node),
      });
    await using opened = new AsyncDisposableStack();
    const listener = opened.use(await open(to[0]));
    const dialer = opened.use(await open(to[1]));
    const [accepted, connection] = await Promise.all([
      listener.nextIncoming({ signal }).then((incoming) => incoming.accept({ signal })),
      dialer.connect(listener.ticket, { signal }),
    ]);
    const peers = opened.move();
    return {
      get relayPort() {
        return Number(connection.path!.remote!.split(":").at(-1));
      },
      exchange: async (value) => {
        const buffer = new Uint8Array(1);
        await connection.write(Uint8Array.of(value));
        await accepted.read(buffer);
        await accepted.write(buffer);
        buffer[0] = 0;
        await connection.read(buffer);
        assertEquals(buffer[0], value);
      },
      [Symbol.asyncDispose]: async () => {
        await Promise.all([connection[Symbol.asyncDispose](), accepted[Symbol.asyncDispose]()]);
        await peers.disposeAsync();
      },
    };
  }

  #networkTo(node: Node): Network {
    return {
      ...network,
      canReusePort: network.canReusePort,
      connectTcp: (remote, options) => {
        const { port } = node.isKilled ? this.#node! : node;
        return network.connectTcp(
          remote.port === this.#port ? { ...remote, port } : remote,
          options,
        );
      },
    };
  }
}

interface Pair extends AsyncDisposable {
  /** The port of the relay that carries the connection. */
  readonly relayPort: number;
  /** Sends a byte there and back. */
  exchange(value: number): Promise<void>;
}

interface Node extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly isKilled: boolean;
  kill(): Promise<void>;
}

/** A node as a process. */
async function startNode(
  nats: string,
  keyFile: string,
  node: string,
  { workers = 2, env = {}, hasName = false }: {
    workers?: number;
    env?: Record<string, string>;
    /** Whether it tells clients where they reach it alone. */
    hasName?: boolean;
  } = {},
): Promise<Node> {
  const child = new Deno.Command(Deno.execPath(), {
    args: nodeArgs(nats, keyFile, node, workers, hasName),
    env,
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value } = await reader.read();
  if (value === undefined) throw new Error("a node did not start");
  let isKilled = false;
  const kill = async () => {
    isKilled = true;
    try {
      child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await child.status;
    await reader.cancel();
  };
  const url: string = JSON.parse(value).rendezvous;
  return {
    ...{ url, port: Number(new URL(url).port), kill, [Symbol.asyncDispose]: kill },
    get isKilled() {
      return isKilled;
    },
  };
}

function nodeArgs(
  nats: string,
  keyFile: string,
  node: string,
  workers: number,
  hasName = false,
): string[] {
  const [port, alternatePort, rendezvousPort] = freePorts(3);
  const args = [
    ...["serve", "--json", "--port", `${port}`, "--alternate-port", `${alternatePort}`],
    ...["--rendezvous-port", `${rendezvousPort}`, "--workers", `${workers}`],
    ...["--nats", nats, "--nats-key", keyFile, "--node", node],
    ...hasName ? ["--node-host", `127.0.0.1:${rendezvousPort}`] : [],
  ];
  return denoArgs(CLI, args, { permissions: "--allow-net" }).toSpliced(1, 0, "--allow-read");
}

async function failureOf(args: string[]): Promise<{ code: number; text: string }> {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    stdout: "null",
    signal: AbortSignal.timeout(20_000),
  }).output();
  return { code, text: new TextDecoder().decode(stderr) };
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
