import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { systemNetwork as network } from "../../lib/net/system.ts";
import { lineLogger } from "../../lib/serve/log.ts";
import { serveMetrics } from "../../lib/serve/metrics.ts";
import { encodeMetrics } from "../../lib/serve/metrics_message.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";

const LOOPBACK = { ip: "127.0.0.1", port: 0 };
const KEY = "0123456789abcdef";

Deno.test("metrics are text that Prometheus reads, with labels escaped", () => {
  const text = encodeMetrics([
    { name: "a", kind: "gauge", help: "How many", samples: [{ value: 3 }] },
    {
      name: "b_total",
      kind: "counter",
      help: "By reason",
      samples: [
        { labels: { reason: 'a "b"\\\n' }, value: 1 },
        { labels: { reason: "x", kind: "y" }, value: 2 },
      ],
    },
    { name: "c", kind: "gauge", help: "None yet", samples: [] },
  ]);
  assertEquals(
    text,
    "# HELP a How many\n# TYPE a gauge\na 3\n" +
      "# HELP b_total By reason\n# TYPE b_total counter\n" +
      'b_total{reason="a \\"b\\"\\\\\\n"} 1\nb_total{reason="x",kind="y"} 2\n' +
      "# HELP c None yet\n# TYPE c gauge\n",
  );
});

Deno.test("metrics count what a server does, and name no client, room or key", async () => {
  await using stun = await serveStun({ network, address: LOOPBACK.ip, port: 0 });
  await using rendezvous = await serveRendezvous({ network, local: LOOPBACK, accessKey: KEY });
  const sources = { stun: [stun], rendezvous: [rendezvous], certificateExpiresMs: () => 5500 };
  await using metrics = await serveMetrics(network, LOOPBACK, sources);
  const local = localOf(metrics.url);
  await stunBinding(`127.0.0.1:${stun.addresses[0]!.port}`);
  await using _room = await openWebSocketChannel(rendezvous.url, "kitchen");
  const wrong = rendezvous.url.replace(KEY, "1123456789abcdef");
  await assertRejects(() => openWebSocketChannel(wrong, "kitchen"));

  const text = await ask(local, "GET /metrics HTTP/1.1");
  for (
    const line of [
      "punchline_connections 1",
      "punchline_rooms 1",
      "punchline_topics 0",
      "punchline_relays 0",
      "punchline_relayed_bytes_total 0",
      'punchline_refusals_total{reason="404"} 1',
      'punchline_stun_total{kind="udp-answered"} 1',
      "punchline_certificate_expiry_timestamp_seconds 5",
    ]
  ) assertEquals(text.split("\n").includes(line), true, `${line} in\n${text}`);
  for (const secret of ["kitchen", KEY, "1123456789abcdef", "127.0.0.1"]) {
    assertEquals(text.includes(secret), false, secret);
  }
  assertMatch(text, /^HTTP\/1\.1 200 OK\r\nContent-Type: text\/plain; version=0\.0\.4/);
});

Deno.test("the listener of metrics answers nothing else, and drops what is no request", async () => {
  await using metrics = await serveMetrics(network, LOOPBACK, { stun: [], rendezvous: [] });
  const local = localOf(metrics.url);
  for (const line of ["GET / HTTP/1.1", "POST /metrics HTTP/1.1", "GET /metrics/1 HTTP/1.1"]) {
    assertMatch(await ask(local, line), /^HTTP\/1\.1 404 Not Found/);
  }
  using client = await network.connectTcp(local);
  await client.write(new Uint8Array(8000).fill(65));
  try {
    assertEquals(await client.read(new Uint8Array(9)), null);
  } catch (error) {
    assertEquals(error instanceof NetworkError && error.reason, "reset");
  }
});

Deno.test("the listener of metrics keeps sixteen connections and resets more", async () => {
  await using metrics = await serveMetrics(network, LOOPBACK, { stun: [], rendezvous: [] });
  using stack = new DisposableStack();
  const dial = async () => stack.use(await network.connectTcp(localOf(metrics.url)));
  for (let i = 0; i < 16; i++) await dial();
  await assertRejects(async () => (await dial()).read(new Uint8Array(1)), NetworkError, "reset");
});

Deno.test("a log has a line for each event at its level, in text and in JSON", () => {
  const lines: string[] = [];
  const print = (line: string) => void lines.push(line);
  const text = lineLogger({ format: "text", level: "info", print });
  text.debug("hidden");
  text.info("one\ntwo");
  assertMatch(lines[0]!, /^\d{4}-\d\d-\d\dT[\d:.]+Z info one two$/);
  lineLogger({ format: "json", level: "debug", print }).debug('a "b"');
  const { time, ...rest } = JSON.parse(lines[1]!);
  assertEquals([rest, Number.isNaN(Date.parse(time))], [
    { level: "debug", message: 'a "b"' },
    false,
  ]);
  lineLogger({ format: "json", level: "warn", print }).info("hidden");
  assertEquals(lines.length, 2);
});

Deno.test("addresses of clients are logged at debug only", async () => {
  const lines: string[] = [];
  const logger = lineLogger({ format: "text", level: "debug", print: (line) => lines.push(line) });
  await using server = await serveRendezvous({ network, local: LOOPBACK, accessKey: KEY, logger });
  await assertRejects(() =>
    openWebSocketChannel(server.url.replace(KEY, "secretsecretsecret"), "r")
  );
  assertEquals(lines.length, 1);
  assertMatch(lines[0]!, / debug Refused a connection from 127\.0\.0\.1: 404$/);
});

function localOf(url: string): TransportAddress {
  return { ip: "127.0.0.1", port: Number(new URL(url).port) };
}

async function ask(remote: TransportAddress, startLine: string): Promise<string> {
  using connection = await network.connectTcp(remote);
  await writeAll(connection, new TextEncoder().encode(`${startLine}\r\nHost: a\r\n\r\n`));
  let text = "";
  const buffer = new Uint8Array(10_000);
  for (;;) {
    const length = await connection.read(buffer);
    if (length === null) return text;
    text += new TextDecoder().decode(buffer.subarray(0, length));
  }
}
