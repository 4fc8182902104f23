import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  MalformedMessageError,
  messageOf,
  NetworkError,
  RefusedError,
} from "../../lib/base/errors.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { forward, type ForwardOptions, serveForwards } from "../../lib/peer/forward.ts";
import { explained, FORWARD_CODES, type ForwardEvent } from "../../lib/peer/forward_outcome.ts";
import {
  decodeForwardRequest,
  encodeForwardRequest,
  type ForwardRequest,
} from "../../lib/peer/forward_message.ts";
import type { SessionStream } from "../../lib/session/stream.ts";
import { StreamSession } from "../../lib/session/streams.ts";
import { inVirtualTime, readAll } from "../session/fixtures.ts";
import { testPathPair } from "../session/test_path.ts";
import { abortable } from "@std/async/abortable";

const HELLO = new TextEncoder().encode("hello");

Deno.test("a connection is forwarded to the first target, or to the one that it names", async () => {
  await withForwarding({ services: 2 }, async ({ visit, ports }) => {
    assertEquals(await visit({}), `${ports[0]} hello`);
    assertEquals(await visit({ target: `${ports[1]}` }), `${ports[1]} hello`);
  });
});

Deno.test("a hundred connections are forwarded at once", async () => {
  await withForwarding({}, async ({ visit, ports }) => {
    const answers = await Promise.all(Array.from({ length: 100 }, () => visit({})));
    assertEquals(answers, Array(100).fill(`${ports[0]} hello`));
  });
});

Deno.test("what is not offered is refused with a code, and never dialled", async () => {
  await withForwarding({}, async ({ visit, dialled }) => {
    for (const options of [{ target: "1" }, { target: "x" }, { dial: { host: "a.b", port: 80 } }]) {
      const error = await assertRejects(() => visit(options), RefusedError);
      assertEquals(error.code, FORWARD_CODES.notOffered);
    }
    assertEquals(dialled, []);
  });
});

Deno.test("a connection of Deno's is forwarded, and may be closed by whoever else has it", async () => {
  await withForwarding({}, async ({ connection, ports }) => {
    const { near, far } = await denoPair();
    const forwarding = forward(connection, near);
    await far.write(HELLO);
    await far.closeWrite();
    assertEquals(await new Response(far.readable).text(), `${ports[0]} hello`);
    await forwarding;

    const refused = await denoPair();
    const error = await assertRejects(
      () => forward(connection, refused.near, { target: "1" }),
      RefusedError,
    );
    assertEquals(error.code, FORWARD_CODES.notOffered);
    assertEquals(await refused.far.read(new Uint8Array(1)), null);
    refused.far.close();

    const closed = await denoPair();
    const broken = forward(connection, closed.near);
    await settled();
    closed.near.close();
    await assertRejects(() => broken, NetworkError, "the connection of this side broke");
    closed.far.close();
  });
});

Deno.test("the side that offers learns why a name that it allows is refused", async () => {
  const allow = ["private.example:80", "*:80"];
  await withForwarding({ allow }, async ({ visit, failures }) => {
    const dial = { host: "private.example", port: 80 };
    await assertRejects(() => visit({ dial }), RefusedError);
    assertEquals(failures, [
      "Cannot forward to private.example:80: 10.0.0.7 must be allowed by its address",
    ]);
  });
});

Deno.test("a service that does not run is told apart from one that is not offered", async () => {
  await withForwarding({}, async ({ visit, stopServices }) => {
    stopServices();
    const error = await assertRejects(() => visit({}), RefusedError);
    assertEquals(error.code, FORWARD_CODES.unreachable);
  });
});

Deno.test("a request that is malformed, of another version or cut off is told as such", async () => {
  await using one = new StreamSession({ role: "controlling" });
  await using other = new StreamSession({ role: "controlled" });
  const [path, otherPath] = testPathPair();
  await Promise.all([one.attach(path), other.attach(otherPath)]);
  const errors: unknown[] = [];
  const onEvent = ({ error }: ForwardEvent) => errors.push(error);
  const serving = serveForwards(other, { targets: [9], onEvent });
  const requests = [
    "02000000",
    "01090000",
    "0100ffff",
    "010000010a",
    "0101000161",
    "0100",
    "01000002",
    "",
  ];
  for (const hex of requests) {
    const stream = await one.openStream();
    await stream.write(Uint8Array.fromHex(hex));
    await stream.closeWrite();
    await assertRejects(() => stream.read(new Uint8Array(1)), NetworkError);
    assertEquals(stream.resetCode, FORWARD_CODES.malformed, hex);
  }
  assertEquals(
    errors.filter((error) => error instanceof MalformedMessageError).length,
    requests.length,
  );
  const told = explained(new Error("reset"), { resetCode: FORWARD_CODES.malformed });
  assert(told instanceof RefusedError);
  assertEquals(
    told.message,
    "Cannot forward: the peer does not understand what this side asks for",
  );
  one.reset();
  await serving;
});

Deno.test("serveForwards() stops connecting once the stream is reset", async () => {
  await using one = new StreamSession({ role: "controlling" });
  await using other = new StreamSession({ role: "controlled" });
  const [path, otherPath] = testPathPair();
  await Promise.all([one.attach(path), other.attach(otherPath)]);
  let pending = 0;
  const network: Network = networkWith(systemNetwork, {
    connectTcp: async (_remote, { signal } = {}) => {
      pending++;
      try {
        return await abortable(new Promise<never>(() => {}), signal!);
      } finally {
        pending--;
      }
    },
  });
  const serving = serveForwards(other, { targets: [9], allow: ["*:80"], network });
  const requests: ForwardRequest[] = [
    { kind: "target", name: "9" },
    { kind: "dial", host: "198.51.100.1", port: 80 },
  ];
  for (const request of requests) {
    const stream = await one.openStream();
    await stream.write(encodeForwardRequest(request));
    while (pending === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    stream.reset();
    while (pending > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  one.reset();
  await serving;
});

Deno.test("serveForwards() says that the other side has not asked for anything in time", () =>
  inVirtualTime(async () => {
    const [one, other] = [
      new StreamSession({ role: "controlling" }),
      new StreamSession({ role: "controlled" }),
    ];
    const [path, otherPath] = testPathPair();
    await Promise.all([one.attach(path), other.attach(otherPath)]);
    const errors: unknown[] = [];
    const onEvent = ({ error }: ForwardEvent) => errors.push(error);
    const serving = serveForwards(other, { targets: [9], onEvent });
    const stream = await one.openStream();
    await assertRejects(() => stream.finished, NetworkError, "reset");
    assertEquals(errors.map(messageOf), [
      "Cannot forward: the other side has not said in time to what",
    ]);
    one.reset();
    other.reset();
    await serving;
  }));

for (
  const [what, allow, host, expected] of [
    ["a host that is named", ["a.example:80"], "a.example", ["198.51.100.1"]],
    ["the same in capitals", ["A.example:80"], "a.EXAMPLE", ["198.51.100.1"]],
    ["any host", ["*:80"], "a.example", ["198.51.100.1"]],
    ["an address that is named", ["10.0.0.7:80"], "10.0.0.7", ["10.0.0.7"]],
    [
      "a private address by a name, if both are named",
      [
        "private.example:80",
        "10.0.0.7:80",
      ],
      "private.example",
      ["10.0.0.7"],
    ],
    ["nothing at another port", ["a.example:81", "*:443"], "a.example", []],
    ["nothing that is not named", ["b.example:80"], "a.example", []],
    ["no private address by any host", ["*:80"], "10.0.0.7", []],
    ["no loopback by any host", ["*:80"], "127.0.0.1", []],
    ["no loopback in another spelling", ["*:80"], "::ffff:127.0.0.1", []],
    ["no metadata service by any host", ["*:80"], "169.254.169.254", []],
    ["no NAT64 address of a private one", ["*:80"], "64:ff9b::a00:7", []],
    ["no private address by a name", ["private.example:80", "*:80"], "private.example", []],
  ] as [string, string[], string, string[]][]
) {
  Deno.test(`serveForwards() lets the other side reach ${what}`, async () => {
    await withForwarding({ allow }, async ({ visit, dialled }) => {
      const visiting = visit({ dial: { host, port: 80 } });
      if (expected.length > 0) assertEquals(await visiting, "dialled hello");
      else {
        const error = await assertRejects(() => visiting, RefusedError);
        assertEquals(error.code, FORWARD_CODES.notOffered);
      }
      assertEquals(dialled, expected);
    });
  });
}

for (
  const text of ["a.example", "a.example:0", "a.example:70000", "*.example:80", ":80", "a b:1"]
) {
  Deno.test(`serveForwards() rejects "${text}" as a host to allow`, async () => {
    await using session = new StreamSession({ role: "controlled" });
    await assertRejects(
      () => serveForwards(session, { allow: [text] }),
      TypeError,
      "not HOST:PORT",
    );
    session.reset();
  });
}

Deno.test("serveForwards() ends when it is aborted, also while no stream is open", async () => {
  await using one = new StreamSession({ role: "controlling" });
  await using other = new StreamSession({ role: "controlled" });
  const [path, otherPath] = testPathPair();
  await Promise.all([one.attach(path), other.attach(otherPath)]);
  const ending = new AbortController();
  const serving = serveForwards(other, { targets: [1], signal: ending.signal });
  await settled();
  ending.abort();
  await serving;
  await serveForwards(other, { targets: [1], signal: ending.signal });
  const late = await one.openStream();
  const next = await other.streams[Symbol.asyncIterator]().next(); // it was not taken away
  assertEquals((next.value as SessionStream).id, late.id);
  one.reset();
});

Deno.test("serveForwards() that was aborted does not keep the connection open", () =>
  inVirtualTime(async () => {
    const one = new StreamSession({ role: "controlling" });
    const other = new StreamSession({ role: "controlled" });
    const [path, otherPath] = testPathPair();
    await Promise.all([one.attach(path), other.attach(otherPath)]);
    const ending = new AbortController();
    const serving = serveForwards(other, { targets: [1], signal: ending.signal });
    const stream = await one.openStream();
    await settled();
    stream.close();
    ending.abort();
    await serving;
    for (const session of [one, other]) await session.closeWrite();
    for (const session of [one, other]) await readAll(session);
    await Promise.all([one.finished, other.finished]); // both are idle
  }));

Deno.test("forward() opens no stream for a target whose name is too long", async () => {
  await using session = new StreamSession({ role: "controlling" });
  const [local] = testPathPair();
  const target = "x".repeat(513);
  await assertRejects(() => forward(session, local, { target }), RangeError);
  assertEquals(session.openStreams, 1);
  session.reset();
});

Deno.test("forward() tells once that the connection to the peer has ended before its request went out", async () => {
  await using session = new StreamSession({ role: "controlling" }); // without a path, nothing goes out
  const filling = assertRejects(() => session.write(new Uint8Array(1_000_000)), NetworkError);
  const [local] = testPathPair();
  const forwarding = forward(session, local, { dial: { host: "a.example", port: 80 } });
  const failing = assertRejects(() => forwarding, NetworkError);
  await settled();
  session.reset();
  await Promise.all([filling, failing]);
});

Deno.test("a forward request round-trips, and decoding throws nothing but MalformedMessageError", () => {
  const name = fc.string({ maxLength: 60 }).filter((text) => !/\p{Cc}/u.test(text));
  const request: fc.Arbitrary<ForwardRequest> = fc.oneof(
    name.map((name) => ({ kind: "target" as const, name })),
    name.map((name) => ({ kind: "udp" as const, name })),
    fc.tuple(fc.stringMatching(/^[a-z0-9.-]{1,60}$/), fc.integer({ min: 1, max: 65_535 }))
      .map(([host, port]) => ({ kind: "dial" as const, host, port })),
  );
  fc.assert(fc.property(request, (request) => {
    assertEquals(decodeForwardRequest(encodeForwardRequest(request)), request);
  }));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
    for (const each of [bytes, new Uint8Array([1, bytes.length % 4, 0, bytes.length, ...bytes])]) {
      try {
        decodeForwardRequest(each);
      } catch (error) {
        assert(error instanceof MalformedMessageError);
      }
    }
  }));
  assertEquals(encodeForwardRequest({ kind: "target", name: "22" }).toHex(), "010000023232");
  assertEquals(
    encodeForwardRequest({ kind: "dial", host: "a", port: 80 }).toHex(),
    "0101000438302061",
  );
  assertEquals(encodeForwardRequest({ kind: "udp", name: "53" }).toHex(), "010200023533");
  assertThrows(() => encodeForwardRequest({ kind: "target", name: "x".repeat(513) }), RangeError);
});

function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Both ends of a connection of Deno's. */
async function denoPair(): Promise<{ near: Deno.TcpConn; far: Deno.TcpConn }> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const [near, far] = await Promise.all([listener.accept(), Deno.connect({ port })]);
  return { near, far };
}

interface Forwarding {
  /** The connection to the side that offers. */
  readonly connection: StreamSession;
  readonly ports: readonly number[];
  /** The addresses that were dialled for the other side. */
  readonly dialled: string[];
  /** What the side that offers learns of streams that fail. */
  readonly failures: string[];
  /** Says hello over a forwarded connection; returns the answer. */
  visit(options: ForwardOptions): Promise<string>;
  stopServices(): void;
}

/** Two sides in this process, and services on loopback that answer with their port and what they were told. */
async function withForwarding(
  { services = 1, allow }: { readonly services?: number; readonly allow?: readonly string[] },
  job: (forwarding: Forwarding) => Promise<void>,
): Promise<void> {
  await using one = new StreamSession({ role: "controlling" });
  await using other = new StreamSession({ role: "controlled" });
  const [path, otherPath] = testPathPair();
  await Promise.all([one.attach(path), other.attach(otherPath)]);
  const listeners = await Promise.all(
    Array.from({ length: services }, () => systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 })),
  );
  const serving = listeners.map((listener) => serveAll(listener, `${listener.local.port}`));
  using dialledService = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const servingDialled = serveAll(dialledService, "dialled");
  const ports = listeners.map(({ local }) => local.port);
  const dialled: string[] = [];
  const network: Network = networkWith(systemNetwork, {
    resolve: (hostname, family) => {
      const ip = family === 4 ? NAMES[hostname] : undefined;
      return ip === undefined ? Promise.reject(new Error("no such name")) : Promise.resolve([ip]);
    },
    connectTcp: (remote, options) => {
      if (ports.includes(remote.port)) return systemNetwork.connectTcp(remote, options);
      dialled.push(remote.ip);
      return systemNetwork.connectTcp(dialledService.local, options);
    },
  });
  const failures: string[] = [];
  const onEvent = ({ error }: ForwardEvent) => {
    if (error !== undefined) failures.push(messageOf(error));
  };
  const answering = serveForwards(other, { targets: ports, allow, network, onEvent });
  using front = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const stopServices = () => {
    for (const listener of listeners) listener.close();
  };
  try {
    await job({
      connection: one,
      ports,
      dialled,
      failures,
      stopServices,
      visit: async (options) => {
        const [client, local] = await Promise.all([
          systemNetwork.connectTcp(front.local),
          front.accept(),
        ]);
        const forwarding = forward(one, local, options);
        const talking = talk(client);
        talking.catch(() => {}); // forwarding says why
        await forwarding;
        return await talking;
      },
    });
  } finally {
    one.close();
    other.close();
    stopServices();
    dialledService.close();
    await Promise.allSettled([answering, ...serving, servingDialled]);
  }
}

async function talk(client: TcpConnection): Promise<string> {
  using _client = client;
  await client.write(HELLO);
  await client.closeWrite();
  return new TextDecoder().decode(await readAll(client));
}

async function serveAll(
  listener: { accept(): Promise<TcpConnection> },
  name: string,
): Promise<void> {
  for (;;) {
    const client = await listener.accept().catch(() => undefined);
    if (client === undefined) return; // it is closed
    (async () => {
      using _client = client;
      const told = await readAll(client);
      await client.write(new TextEncoder().encode(`${name} ${new TextDecoder().decode(told)}`));
      await client.closeWrite();
    })().catch(() => {});
  }
}

const NAMES: Readonly<Record<string, string>> = {
  "a.example": "198.51.100.1",
  "private.example": "10.0.0.7",
};
