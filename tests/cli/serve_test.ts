import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { type CliIo, EXIT, UsageError } from "../../lib/cli/io.ts";
import { withScreen } from "../../lib/cli/screen.ts";
import { serve } from "../../lib/cli/serve.ts";
import { parseTransportAddress } from "../../lib/net/address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
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

for (
  const [args, message] of [
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

Deno.test("serve rejects with the reason if an address is not one of this machine", async () => {
  const error = await assertRejects(
    () => run("--address", "192.0.2.77", ...ANY_PORT),
    NetworkError,
  );
  assertEquals(error.reason, "address-not-available");
});
