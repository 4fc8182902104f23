import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { NetworkError, type NetworkErrorReason } from "../../../lib/base/errors.ts";
import { throughProxy, withNames } from "../../../lib/net/proxy/client.ts";
import { MAX_ANSWER_BYTES } from "../../../lib/net/proxy/message.ts";
import { networkWith } from "../../../lib/net/local_address.ts";
import { resolveHost } from "../../../lib/net/resolve.ts";
import type { Network, TcpConnection } from "../../../lib/net/network.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { openTlsAcceptor } from "../../../lib/net/system/tls_server.ts";
import { tlsFixture, TRUSTING_NETWORK } from "../tls_fixtures.ts";
import { answering, FakeProxy, httpProxy, readText, socksProxy } from "./fake_proxy.ts";

const TARGET = { host: "meet.example", port: 443 };
const REMOTE = { ip: "192.0.2.1", port: 443 };

/** A connection to a name, as a client of the seam opens it. */
async function connectTo(network: Network, { host, port } = TARGET): Promise<TcpConnection> {
  return await network.connectTcp({ ip: await resolveHost(network, host, {}), port });
}

const WORKING = [["http", httpProxy], ["socks5", socksProxy]] as const;

for (const [scheme, make] of WORKING) {
  Deno.test(`names go to a ${scheme} proxy as they are, and bytes both ways through it`, async () => {
    using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
    const targets: string[] = [];
    const routes = new Map([["meet.example:443", listener.local], [
      "192.0.2.1:443",
      listener.local,
    ]]);
    await using fake = await FakeProxy.start(
      make({ routes, onTarget: (each) => targets.push(each) }),
    );
    const proxy = throughProxy(systemNetwork, { url: `${scheme}://${fake.host}` });
    const network = proxy.networkFor(TARGET.host);
    for (const dial of [() => connectTo(network), () => network.connectTcp(REMOTE)]) {
      using client = await dial();
      using server = await listener.accept();
      await client.write(new TextEncoder().encode("to"));
      await server.write(new TextEncoder().encode("from"));
      await client.closeWrite();
      await server.closeWrite();
      assertEquals([await readText(server, () => false), await readText(client, () => false)], [
        "to",
        "from",
      ]);
      assertEquals(`127.0.0.1:${client.remote.port}`, fake.host);
    }
    assertEquals(targets, ["meet.example:443", "192.0.2.1:443"]);
    const other = await assertRejects(
      () => connectTo(network, { host: "other.example", port: 1 }),
      NetworkError,
    );
    assertEquals(other.reason, "unreachable");
  });
}

Deno.test("TLS through a proxy is with the target, whose certificate is checked", async () => {
  using acceptor = await openTlsAcceptor({
    cert: tlsFixture("server.pem"),
    key: tlsFixture("server.key"),
  });
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const routes = new Map([["192.0.2.1:443", listener.local]]);
  await using fake = await FakeProxy.start(httpProxy({ routes }));
  const dial = (network: Network, hostname: string) =>
    throughProxy(network, { url: `http://${fake.host}` }).networkFor(hostname)
      .connectTls(REMOTE, { hostname });
  const accept = async (timeoutMs = 5000) =>
    await acceptor.accept(await listener.accept(), timeoutMs);
  for (const hostname of ["localhost", "127.0.0.1"]) {
    const inner = throughProxy(TRUSTING_NETWORK, { url: `http://${fake.host}` })
      .networkFor("192.0.2.1");
    const [server, client] = await Promise.all([accept(), inner.connectTls(REMOTE, { hostname })]);
    const sent = crypto.getRandomValues(new Uint8Array(60_000));
    const writing = (async () => {
      for (let at = 0; at < sent.length;) at += await server.write(sent.subarray(at));
      await server.closeWrite();
    })();
    let received = 0;
    const buffer = new Uint8Array(65_536);
    for (let length; (length = await client.read(buffer)) !== null;) received += length;
    await writing;
    assertEquals(received, sent.length);
    client.close();
    server.close();
  }
  const failing = async (network: Network, hostname: string) => {
    const accepting = accept(100).then((each) => each.close(), () => {});
    const error = await assertRejects(() => dial(network, hostname), NetworkError);
    await accepting;
    assertEquals(error.reason, "tls");
    assertStringIncludes(error.message, `through the proxy http://${fake.host}`);
    return error;
  };
  assertStringIncludes((await failing(TRUSTING_NETWORK, "meet.example")).message, "meet.example");
  const intercepted = await failing(systemNetwork, "meet.example");
  assertStringIncludes(intercepted.message, "unknown authority");
  assertStringIncludes(intercepted.remedy ?? "", "DENO_TLS_CA_STORE=system");
});

const REFUSALS: readonly {
  readonly scheme: string;
  readonly answers: readonly (string | readonly number[])[];
  readonly reason: NetworkErrorReason;
  readonly says: string;
  readonly remedy?: string;
}[] = [
  {
    scheme: "http",
    answers: ['HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n'],
    reason: "proxy",
    says: "it wants a login (407 Auth)",
    remedy: "USER:PASSWORD",
  },
  {
    scheme: "http://me:se-cret@",
    answers: ["HTTP/1.1 407 Auth\r\n\r\n"],
    reason: "proxy",
    says: "it does not accept this login (407 Auth)",
  },
  {
    scheme: "http",
    answers: ["HTTP/1.1 407 Auth\r\nProxy-Authenticate: NTLM\r\n\r\n"],
    reason: "proxy",
    says: "it accepts logins by ntlm only",
  },
  {
    scheme: "http",
    answers: ["HTTP/1.1 403 Filtered\r\n\r\n<html>"],
    reason: "proxy",
    says: "the proxy forbids it (403 Filtered)",
    remedy: "port 443",
  },
  {
    scheme: "http",
    answers: ["HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n"],
    reason: "proxy",
    says: "a redirection (302 Found)",
    remedy: "browser",
  },
  { scheme: "http", answers: ["HTTP/1.1 502 No\r\n\r\n"], reason: "unreachable", says: "502 No" },
  { scheme: "http", answers: ["HTTP/1.1 504 No\r\n\r\n"], reason: "timed-out", says: "504 No" },
  { scheme: "http", answers: ["HTTP/1.1 999 Huh\r\n\r\n"], reason: "proxy", says: "999 Huh" },
  { scheme: "http", answers: [[5, 0]], reason: "proxy", says: "it does not speak HTTP" },
  {
    scheme: "http",
    answers: [`HTTP/1.1 200 OK\r\nX: ${"a".repeat(2 * MAX_ANSWER_BYTES)}`],
    reason: "proxy",
    says: `its head has more than ${MAX_ANSWER_BYTES} bytes`,
  },
  {
    scheme: "http",
    answers: ["HTTP/1.1 102 Wait\r\n\r\n".repeat(100)],
    reason: "proxy",
    says: "102 Wait",
  },
  { scheme: "socks5", answers: ["HTTP/1.1 400"], reason: "proxy", says: "does not speak SOCKS5" },
  { scheme: "socks5", answers: [[5, 255]], reason: "proxy", says: "it wants a login" },
  { scheme: "socks5", answers: [[5, 2]], reason: "proxy", says: "it wants a login" },
  {
    scheme: "socks5://me:se-cret@",
    answers: [[5, 2], [1, 1]],
    reason: "proxy",
    says: "it does not accept this login",
  },
  {
    scheme: "socks5://:se-cret@",
    answers: [[5, 2]],
    reason: "proxy",
    says: "user and password have 1 to 255 bytes",
  },
  ...([[2, "proxy"], [3, "unreachable"], [5, "refused"], [6, "timed-out"], [77, "proxy"]] as const)
    .map(([code, reason]) => ({
      scheme: "socks5",
      answers: [[5, 0], [5, code, 0, 1, 0, 0, 0, 0, 0, 0]],
      reason,
      says: `(SOCKS ${code})`,
    })),
  {
    scheme: "socks5",
    answers: [[5, 0], [5, 0, 0, 9, 0, 0, 0, 0, 0, 0]],
    reason: "proxy",
    says: "its type of address is unknown",
  },
];

for (const { scheme, answers, reason, says, remedy } of REFUSALS) {
  Deno.test(`${scheme}: ${says}`, async () => {
    await using fake = await FakeProxy.start(answering(...answers));
    const url = scheme.includes("@") ? `${scheme}${fake.host}` : `${scheme}://${fake.host}`;
    const proxy = throughProxy(systemNetwork, { url });
    const network = proxy.networkFor(TARGET.host);
    const error = await assertRejects(() => connectTo(network), NetworkError);
    assertEquals(error.reason, reason);
    assertStringIncludes(error.message, says);
    assertStringIncludes(error.message, "meet.example:443");
    assertStringIncludes(error.message, fake.host);
    assertStringIncludes(error.remedy ?? "", remedy ?? "");
    assert(!`${error.message} ${error.remedy} ${Deno.inspect(error)}`.includes("se-cret"));
  });
}

Deno.test("what is glued to the answer of a proxy is the start of the tunnel", async () => {
  const cases: [string, string | readonly number[], readonly number[] | string][] = [
    [
      "http",
      "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nglued",
      "",
    ],
    ["socks5", [5, 0], [5, 0, 0, 3, 1, 0x61, 0, 0, ...new TextEncoder().encode("glued")]],
  ];
  for (const [scheme, ...answers] of cases) {
    await using fake = await FakeProxy.start(answering(...answers));
    const { networkFor } = throughProxy(systemNetwork, { url: `${scheme}://${fake.host}` });
    using connection = await connectTo(networkFor(TARGET.host));
    assertEquals(await readText(connection, (text) => text.length >= 5), "glued");
  }
});

Deno.test("a proxy that closes without an answer, and one that is not there, are told as such", async () => {
  const port = await (async () => {
    await using fake = await FakeProxy.start(async (connection) => {
      await connection.read(new Uint8Array(999));
    });
    const { networkFor } = throughProxy(systemNetwork, { url: fake.host });
    const error = await assertRejects(() => connectTo(networkFor("a.example")), NetworkError);
    assertEquals(error.reason, "reset");
    assertStringIncludes(error.message, "it closed the connection without an answer");
    return fake.host;
  })();
  const { networkFor } = throughProxy(systemNetwork, { url: `http://${port}` });
  const gone = await assertRejects(() => connectTo(networkFor("a.example")), NetworkError);
  assertEquals(gone.reason, "refused");
  assertStringIncludes(gone.message, `Cannot reach the proxy http://${port}`);
});

Deno.test("an abort ends the wait for a silent proxy, with its reason", async () => {
  const asked = Promise.withResolvers<void>();
  await using fake = await FakeProxy.start(async (connection) => {
    await connection.read(new Uint8Array(999));
    asked.resolve();
    while (await connection.read(new Uint8Array(999)) !== null);
  });
  const network = throughProxy(systemNetwork, { url: fake.host }).networkFor("a.example");
  const controller = new AbortController();
  const dialling = network.connectTcp(REMOTE, { signal: controller.signal });
  await asked.promise;
  const reason = new Error("enough");
  controller.abort(reason);
  assertEquals(await dialling.catch((error) => error), reason);
});

Deno.test("loopback and the hosts of noProxy go direct, by name and by address", async () => {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const proxy = throughProxy(systemNetwork, {
    url: "http://192.0.2.9:1", // nothing may be sent there
    noProxy: "intra.example 198.51.100.0/24",
  });
  for (const host of ["localhost", "127.0.0.1", "a.intra.example", "198.51.100.7"]) {
    assertEquals(proxy.networkFor(host), systemNetwork);
  }
  // A server that is reached through the proxy may name another one, by its address.
  using connection = await proxy.networkFor("meet.example").connectTcp(listener.local);
  assertEquals(connection.remote, listener.local);
  const resolve = () => Promise.resolve(["127.0.0.1"]);
  const finding = throughProxy(networkWith(systemNetwork, { resolve }), {
    url: "http://192.0.2.9:1",
    noProxy: "intra.example",
  });
  using named = await connectTo(finding.networkFor("meet.example"), {
    host: "a.intra.example",
    port: listener.local.port,
  });
  assertEquals(named.remote, listener.local);
});

Deno.test("a tunnel in which the target breaks off TLS, or does not speak it, is told as that", async () => {
  const ends = [
    "", // it closes
    "HTTP/1.1 400 Bad Request\r\n\r\n",
    "\x16\x03\x03\x40\x00" + "x".repeat(100_000),
    "\x15\x03\x03\x00\x02\x02\x28", // a fatal alert: handshake_failure
  ];
  for (const bytes of ends) {
    await using fake = await FakeProxy.start(async (connection) => {
      await readText(connection, (text) => text.includes("\r\n\r\n"));
      await connection.write(new TextEncoder().encode("HTTP/1.1 200 OK\r\n\r\n"));
      await connection.read(new Uint8Array(4096));
      const data = new TextEncoder().encode(bytes);
      for (let at = 0; at < data.length;) at += await connection.write(data.subarray(at));
    });
    const { networkFor } = throughProxy(TRUSTING_NETWORK, { url: fake.host });
    const dial = () => networkFor("meet.example").connectTls(REMOTE, { hostname: "meet.example" });
    const error = await assertRejects(dial, NetworkError);
    assert(error.reason === "tls" || error.reason === "reset", error.message);
  }
});

Deno.test("an abort ends a handshake of TLS in a tunnel, with its reason", async () => {
  const begun = Promise.withResolvers<void>();
  await using fake = await FakeProxy.start(async (connection) => {
    await readText(connection, (text) => text.includes("\r\n\r\n"));
    await connection.write(new TextEncoder().encode("HTTP/1.1 200 OK\r\n\r\n"));
    await connection.read(new Uint8Array(4096));
    begun.resolve();
    while (await connection.read(new Uint8Array(4096)) !== null);
  });
  const { networkFor } = throughProxy(systemNetwork, { url: fake.host });
  const controller = new AbortController();
  const dialling = networkFor("a.example")
    .connectTls(REMOTE, { hostname: "a.example", signal: controller.signal });
  await begun.promise;
  const reason = new Error("enough");
  controller.abort(reason);
  assertEquals(await dialling.catch((error) => error), reason);
});

Deno.test("errors of protocols above name the host, and not the address that stands for it", async () => {
  const proxy = throughProxy(systemNetwork, { url: "http://192.0.2.9:3128" });
  const network = proxy.networkFor("turn.example");
  const ip = await resolveHost(network, "turn.example", {});
  assertEquals([ip, await resolveHost(network, "turn.example", {})], ["240.0.0.1", "240.0.0.1"]);
  assertEquals(await resolveHost(network, "other.example", {}), "240.0.0.2");
  const failing = () =>
    withNames(
      proxy,
      () => Promise.reject(new NetworkError(`Cannot ask ${ip}:3478, nor 240.0.0.9`, "other")),
    );
  const error = await assertRejects(failing, NetworkError);
  assertEquals(error.message, "Cannot ask turn.example:3478, nor 240.0.0.9");
  await assertRejects(() => network.resolve("turn.example", 6), NetworkError);
  assertEquals(await network.resolve("192.0.2.1", 4), ["192.0.2.1"]);
});

Deno.test("the URL of a proxy has a host, and its login is in no message", () => {
  const urlOf = (url: string) => throughProxy(systemNetwork, { url }).url;
  assertEquals(
    ["http://a.example", "HTTPS://u:p@A.example/", "socks5h://[2001:db8::1]:99", "b.example:80"]
      .map(urlOf),
    [
      "http://a.example:3128",
      "https://a.example:443",
      "socks5://[2001:db8::1]:99",
      "http://b.example:80",
    ],
  );
  for (
    const url of [
      ...["", "http://", "ftp://a", "socks4://a", "http://a:99999", "http://a/path", "http://a b"],
      ...["http://me:se-cret@", "me:se-cret@:80", "http://me:se-cret%0d@a", "x://me:se-cret@a"],
      ...["http://me:se-cret@a/path", "http://me:se-cret\\@a", "http:me:se-cret@a"],
    ]
  ) {
    const error = assertThrows(() => urlOf(url), TypeError);
    assert(!error.message.includes("se-cret"), error.message);
  }
});
