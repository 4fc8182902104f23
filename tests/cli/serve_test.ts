import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { type CliIo, EXIT, Interruption, UsageError } from "../../lib/cli/io.ts";
import { withScreen } from "../../lib/cli/screen.ts";
import { serve } from "../../lib/cli/serve.ts";
import { parseTransportAddress } from "../../lib/net/address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import { tlsFixture, TRUSTING_NETWORK } from "../net/tls_fixtures.ts";
import { noTerminal } from "./no_terminal.ts";

const ANY_PORT = ["--port", "0", "--rendezvous-port", "0"];
const ANY_PORTS = [...ANY_PORT, "--alternate-port", "0"];

/** Runs the command and interrupts it after its first line. */
async function run(...args: string[]): Promise<{ code: number; out: string[]; err: string[] }> {
  const interrupt = new AbortController();
  const out: string[] = [];
  const err: string[] = [];
  const io: CliIo = {
    out(line) {
      out.push(line);
      interrupt.abort();
    },
    err: (line) => err.push(line),
    ...noTerminal(),
    signal: interrupt.signal,
  };
  using screen = withScreen(io, { asJson: args.includes("--json") });
  const code = await serve(args, screen);
  return { code, out, err };
}

Deno.test("serve --json prints one line when it is ready, and ends when interrupted", async () => {
  const { code, out, err } = await run(...ANY_PORTS, "--json");
  assertEquals([code, out.length, err], [EXIT.interrupted, 1, []]);
  const { event, stun, rendezvous } = JSON.parse(out[0]!);
  assertEquals(event, "listening");
  assertMatch(rendezvous, /^ws:\/\/127\.0\.0\.1:\d+$/);
  const addresses = (stun as string[]).map((text) => parseTransportAddress(text));
  assertEquals(addresses.map(({ ip }) => ip), ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"]);
});

Deno.test("serve prints its addresses and what to try next", async () => {
  const { out } = await run(...ANY_PORTS);
  assertMatch(out[0]!, /^Serving STUN over UDP and TCP on 127\.0\.0\.1:\d+, 127\.0\.0\.2:\d+, /);
  assertMatch(out[1]!, /^Serving a rendezvous and relay on ws:\/\/127\.0\.0\.1:\d+$/);
  assertMatch(out[2]!, /nat-test --server 127\.0\.0\.1:\d+$/);
});

Deno.test("serve --json names the relay, or null without one", async () => {
  const { out } = await run(...ANY_PORTS, "--json");
  const { rendezvous, relay } = JSON.parse(out[0]!);
  assertEquals(relay, rendezvous);
  const without = await run(...ANY_PORTS, "--no-relay", "--json");
  assertEquals(JSON.parse(without.out[0]!).relay, null);
  const text = await run(...ANY_PORTS, "--no-relay");
  assertMatch(text.out[1]!, /^Serving a rendezvous on ws/);
});

Deno.test("serve --access-key reads the key from a file, and the URL has it", async () => {
  const dir = new URL("../transfer/scratch", import.meta.url).pathname;
  await Deno.mkdir(dir, { recursive: true });
  const file = await Deno.makeTempFile({ dir });
  try {
    await Deno.writeTextFile(file, "0123456789abcdef\n");
    const { out } = await run(...ANY_PORTS, "--access-key", file, "--json");
    assertMatch(JSON.parse(out[0]!).rendezvous, /^ws:\/\/127\.0\.0\.1:\d+\/0123456789abcdef$/);
    await Deno.writeTextFile(file, "secret");
    const serveBadly = () => run(...ANY_PORTS, "--access-key", file);
    const error = await assertRejects(serveBadly, UsageError);
    assertEquals(error.message.includes("secret"), false);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("serve accepts one address of each family", async () => {
  const addresses = ["--address", "::1", "--address", "127.0.0.1"];
  const { out } = await run(...addresses, ...ANY_PORT, "--json");
  const { stun, rendezvous } = JSON.parse(out[0]!);
  assertEquals(stun.length, 2);
  assertMatch(stun[0], /^\[::1\]:/);
  assertMatch(stun[1], /^127\.0\.0\.1:/);
  assertMatch(rendezvous, /^ws:\/\/\[::1\]:\d+$/);
});

Deno.test("serve closes its sockets before it ends", async () => {
  const { out } = await run("--address", "127.0.0.1", ...ANY_PORT, "--json");
  const { stun, rendezvous } = JSON.parse(out[0]!);
  for (const address of [stun[0], rendezvous.replace("ws://", "")].map(parseTransportAddress)) {
    const error = await assertRejects(() => systemNetwork.connectTcp(address), NetworkError);
    assertEquals(error.reason, "refused");
  }
});

Deno.test("serve connects two members of a room, and closes it when it ends", async () => {
  const interrupt = new AbortController();
  const { promise: listening, resolve } = Promise.withResolvers<string>();
  const io = { out: resolve, err() {}, ...noTerminal(), signal: interrupt.signal };
  const serving = serve([...ANY_PORTS, "--json"], io);
  const { rendezvous } = JSON.parse(await listening);
  await using a = await openWebSocketChannel(rendezvous, "kitchen");
  await using b = await openWebSocketChannel(rendezvous, "kitchen");
  await b.send(new Uint8Array([1, 2]));
  assertEquals([...await a.receive()], [1, 2]);
  interrupt.abort();
  await assertRejects(() => a.receive(), NetworkError, "the server ends");
  assertEquals(await serving, EXIT.interrupted);
});

const CERT = ["--cert", tlsFixture("server.pem"), "--cert-key", tlsFixture("server.key")];

Deno.test("serve --cert speaks TLS, and says so", async () => {
  const { out } = await run(...ANY_PORTS, ...CERT, "--stuns-port", "0", "--json");
  const { rendezvous, relay, stuns } = JSON.parse(out[0]!);
  assertMatch(rendezvous, /^wss:\/\/localhost:\d+$/);
  assertEquals([relay, stuns.length], [rendezvous, 1]);
  assertMatch(stuns[0], /^127\.0\.0\.1:\d+$/);
  const text = await run(...ANY_PORTS, ...CERT, "--stuns-port", "0");
  assertMatch(text.out[1]!, /^Serving STUN over TLS on 127\.0\.0\.1:\d+$/);
});

Deno.test("serve has everything on one port if --port and --rendezvous-port are the same", async () => {
  const port = `${freePort()}`;
  const ports = ["--port", port, "--rendezvous-port", port, "--alternate-port", "0"];
  const interrupt = new AbortController();
  const { promise: listening, resolve } = Promise.withResolvers<string>();
  const io = { out: resolve, err() {}, ...noTerminal(), signal: interrupt.signal };
  const serving = serve([...ports, ...CERT, "--json"], io);
  const { stun, stuns, rendezvous } = JSON.parse(await listening);
  assertEquals([stun[0], stuns, rendezvous], [
    `127.0.0.1:${port}`,
    [`127.0.0.1:${port}`],
    `wss://localhost:${port}`,
  ]);
  for (const transport of ["udp", "tcp", "tls"] as const) {
    await stunBinding(stun[0], { network: TRUSTING_NETWORK, transport });
  }
  const url = rendezvous.replace("localhost", "127.0.0.1");
  await (await openWebSocketChannel(url, "kitchen", { network: TRUSTING_NETWORK })).close();
  interrupt.abort();
  assertEquals(await serving, EXIT.interrupted);
});

Deno.test("serve --metrics listens on loopback unless an address is given", async () => {
  const { out } = await run(...ANY_PORTS, "--metrics", "0", "--json");
  assertMatch(JSON.parse(out[0]!).metrics, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/);
  const other = await run(...ANY_PORTS, "--metrics", `[::1]:${freePort()}`);
  assertMatch(other.out[2]!, /^Serving metrics on http:\/\/\[::1\]:\d+\/metrics$/);
  assertEquals(JSON.parse((await run(...ANY_PORTS, "--json")).out[0]!).metrics, null);
});

Deno.test("serve --log json logs its start and end as JSON lines", async () => {
  const { err } = await run(...ANY_PORTS, "--log", "json");
  const lines = err.map((line) => JSON.parse(line));
  assertEquals(lines.map(({ level, message }) => [level, message]), [
    ["info", "Serving"],
    ["info", "Stopped"],
  ]);
});

Deno.test("serve --config takes options from a file, and the command line comes first", async () => {
  await withFile(
    `{"port": 0, "rendezvous-port": "0", "address": ["127.0.0.1"], "no-relay": true, "json": false}`,
    async (file) => {
      await assertRejects(() => run("--config", file), UsageError, 'unknown option "json"');
    },
  );
  await withFile(
    `{"port": 0, "rendezvous-port": "0", "address": ["127.0.0.2"], "no-relay": true, "max-rooms": 5}`,
    async (file) => {
      const { out } = await run("--config", file, "--json");
      const { stun, relay } = JSON.parse(out[0]!);
      assertMatch(stun[0], /^127\.0\.0\.2:/);
      assertEquals(relay, null);
      const { out: own } = await run("--config", file, "--address", "127.0.0.1", "--json");
      assertMatch(JSON.parse(own[0]!).stun[0], /^127\.0\.0\.1:/);
    },
  );
  for (
    const [text, message] of [
      ["{", "it is not JSON"],
      ["[]", "it is not a JSON object"],
      [`{"max-room": 5}`, 'unknown option "max-room"; did you mean "max-rooms"?'],
      [`{"no-relay": "yes"}`, '"no-relay" takes true or false'],
      [`{"port": []}`, '"port" takes a text or a number'],
      [`{"address": [1.5]}`, '"address" takes a text, a number or a list of them'],
      [`{"max-rooms": "many"}`, "--max-rooms takes a whole number"],
    ] as const
  ) {
    await withFile(text, async (file) => {
      await assertRejects(() => run("--config", file), UsageError, message);
    });
  }
});

Deno.test("serve ends with what TERM means, and says what it waits for", async () => {
  const terminate = new AbortController();
  const err: string[] = [];
  const io = {
    out: () => terminate.abort(new Interruption(EXIT.terminated)),
    err: (line: string) => void err.push(line),
    ...noTerminal(),
    signal: terminate.signal,
  };
  await serve([...ANY_PORTS, "--drain", "3s", "--log", "text"], io);
  assertMatch(
    err[1]!,
    /info Stopping: no new connections, and 0 relayed pairs have 3000 ms to end$/,
  );
  assertMatch(err[2]!, /info Stopped$/);
});

for (
  const [args, message] of [
    [["--cert", "a.pem"], /--cert and --cert-key need each other/],
    [["--stuns-port", "5"], /--stuns-port needs --cert/],
    [["--cert", "/nowhere", "--cert-key", "/nowhere"], /certificate \/nowhere: there is no such/],
    [
      ["--cert", tlsFixture("expired.pem"), "--cert-key", tlsFixture("server.key")],
      /it expired on/,
    ],
    [["--metrics", "here"], /--metrics/],
    [["--metrics", "localhost:1"], /--metrics/],
    [["--log", "xml"], /--log takes text or json, not xml/],
    [["--log-level", "info"], /--log-level needs --log/],
    [["--drain", "2h"], /--drain takes a time/],
    [["--port", "99999"], /--port takes a whole number from 0 to 65535, not 99999/],
    [["--port", "3479"], /the ports must be different, not both 3479/],
    [["--address", "nonsense"], /"nonsense"/],
    [["--address", "127.0.0.1", "--address", "127.0.0.2"], /--address takes only one IPv4 address/],
    [
      ["--alternate", "127.0.0.2"],
      /--alternate 127\.0\.0\.2 needs an --address of the same family/,
    ],
    [["--address", "::1", "--alternate", "127.0.0.2"], /needs an --address/],
    [["--address", "127.0.0.1", "--alternate", "127.0.0.1"], /the same address/],
    [["--rendezvous-port", "-1"], /--rendezvous-port takes/],
    [["extra"], /unexpected argument "extra"/],
  ] as const
) {
  Deno.test(`serve ${args.join(" ")} is rejected with a one-line usage error`, async () => {
    const error = await assertRejects(() => run(...args), UsageError);
    assertMatch(error.message, message);
    assert(!error.message.includes("\n"));
  });
}

/** A port that is free for UDP and TCP on loopback now. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

async function withFile(text: string, job: (path: string) => Promise<void>): Promise<void> {
  const dir = new URL("../transfer/scratch", import.meta.url).pathname;
  await Deno.mkdir(dir, { recursive: true });
  const file = await Deno.makeTempFile({ dir });
  try {
    await Deno.writeTextFile(file, text);
    await job(file);
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("serve rejects with the reason if an address is not one of this machine", async () => {
  const error = await assertRejects(
    () => run("--address", "192.0.2.77", ...ANY_PORT),
    NetworkError,
  );
  assertEquals(error.reason, "address-not-available");
});
