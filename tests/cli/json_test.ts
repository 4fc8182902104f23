import { assert, assertEquals, assertMatch } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { closedPort, runMain, serveLocally } from "./run_main.ts";

type Check = (value: unknown) => boolean;

const isNumber: Check = (value) => typeof value === "number" && value >= 0;
const isWhole: Check = (value) => Number.isInteger(value);
const isBoolean: Check = (value) => typeof value === "boolean";
const isText: Check = (value) => typeof value === "string" && value.length > 0;
const isAddress: Check = (value) =>
  typeof value === "string" && /^(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+$/.test(value);
const oneOf = (...values: unknown[]): Check => (value) => values.includes(value);
const orNull = (check: Check): Check => (value) => value === null || check(value);
const listOf = (check: Check): Check => (value) => Array.isArray(value) && value.every(check);

const BEHAVIOR = {
  behavior: oneOf(
    "endpoint-independent",
    "address-dependent",
    "address-and-port-dependent",
    "none",
    "unknown",
  ),
  confidence: (value: unknown) => isNumber(value) && (value as number) <= 1,
  evidence: listOf(isText),
};

/** What other programs rely on: exactly these keys, in this order. */
const FAMILY = {
  reachable: isBoolean,
  server: orNull(isAddress),
  local: orNull(isAddress),
  external: orNull(isAddress),
  translated: oneOf(true, false, "unknown"),
  rttMs: orNull(isNumber),
  elapsedMs: isNumber,
  mapping: BEHAVIOR,
  filtering: BEHAVIOR,
  allocation: {
    kind: oneOf("preserving", "offset", "sequential", "random", "unknown"),
    delta: orNull(isWhole),
    range: orNull(listOf(isWhole)),
  },
  hairpinning: oneOf(true, false, "unknown"),
  unsolicitedSyn: oneOf("dropped", "reset", "accepted", "unknown"),
  crossingSyn: oneOf("dropped", "reset", "accepted", "unknown"),
  rfc3489Name: isText,
};

const VERDICT = {
  difficulty: oneOf("open", "easy", "moderate", "hard", "blocked", "offline", "unknown"),
  summary: isText,
  scope: oneOf("internet", "network", "machine"),
};

const isFinding: Check = (value) =>
  JSON.stringify(Object.keys(value as object)) === '["kind","summary","remedy"]' &&
  Object.values(value as object).every(isText);

const NAT_TEST = {
  version: oneOf(1),
  elapsedMs: isNumber,
  udp: { ipv4: FAMILY, ipv6: oneOf(null) },
  tcp: { ipv4: FAMILY, ipv6: oneOf(null) },
  verdict: VERDICT,
  findings: listOf(isFinding),
};

Deno.test("nat-test --json prints one object with exactly the promised keys and types", async () => {
  await using server = await serveLocally();
  const { code, out, err } = await runMain(["nat-test", "--server", server.name, "--json"]);
  assertEquals([code, out.length, err], [0, 1, []]);
  const report = JSON.parse(out[0]!);
  assertShape(report, NAT_TEST, "report");
  for (const family of [report.udp.ipv4, report.tcp.ipv4]) {
    assertEquals(family.server, server.name);
    assertEquals([family.mapping.behavior, family.filtering.behavior], ["none", "none"]);
    assertEquals([family.translated, family.local], [false, family.external]);
  }
  assertEquals([report.verdict.difficulty, report.tcp.ipv4.unsolicitedSyn], ["open", "accepted"]);
});

Deno.test("nat-test --json prints null for what was not requested", async () => {
  await using server = await serveLocally();
  const run = async (...args: string[]) => {
    const { out } = await runMain(["nat-test", "--server", server.name, "--json", ...args]);
    return JSON.parse(out[0]!);
  };
  const udp = await run("--transport", "udp");
  assertShape(udp, { ...NAT_TEST, tcp: { ipv4: oneOf(null), ipv6: oneOf(null) } }, "report");
  const tcp = await run("--transport=tcp", "--family=4");
  assertShape(tcp, { ...NAT_TEST, udp: { ipv4: oneOf(null), ipv6: oneOf(null) } }, "report");
});

Deno.test("nat-test --json adds the lifetime on request, and no other key", async () => {
  await using server = await serveLocally();
  const { out } = await runMain([
    ...["nat-test", "--server", server.name, "--transport", "udp", "--lifetime", "1", "--json"],
  ]);
  const report = JSON.parse(out[0]!);
  const family = { ...FAMILY, lifetimeSeconds: { atLeast: oneOf(1), lessThan: oneOf(null) } };
  assertShape(report.udp, { ipv4: family, ipv6: oneOf(null) }, "udp");
});

Deno.test("nat-test --json keeps its shape if nothing answers, and exits with 3", async () => {
  // TCP connects, so the network is up.
  using silent = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const server = `127.0.0.1:${silent.local.port}`;
  const args = ["nat-test", "--server", server, "--transport", "udp", "--json"];
  const { code, out } = await runMain(args);
  const report = JSON.parse(out[0]!);
  assertShape(report, { ...NAT_TEST, tcp: { ipv4: oneOf(null), ipv6: oneOf(null) } }, "report");
  assertEquals([code, report.verdict.difficulty, report.udp.ipv4.reachable], [3, "blocked", false]);
  assertEquals([report.udp.ipv4.server, report.udp.ipv4.external], [null, null]);
});

const STUN = {
  server: isAddress,
  transport: oneOf("udp", "tcp", "tls"),
  local: orNull(isAddress),
  mapped: isAddress,
  otherAddress: orNull(isAddress),
  rttMs: isNumber,
};

for (const transport of ["udp", "tcp"]) {
  Deno.test(`stun --json over ${transport} prints exactly the promised keys and types`, async () => {
    await using server = await serveLocally();
    const flags = transport === "udp" ? [] : [`--${transport}`];
    const { code, out, err } = await runMain(["stun", server.name, ...flags, "--json"]);
    assertEquals([code, out.length, err], [0, 1, []]);
    const binding = JSON.parse(out[0]!);
    assertShape(binding, STUN, "binding");
    assertEquals([binding.server, binding.transport], [server.name, transport]);
    assertEquals(binding.otherAddress, server.other);
    assertMatch(binding.mapped, /^127\.0\.0\.1:\d+$/);
    assertEquals(binding.local, binding.mapped);
  });
}

Deno.test("stun --json prints nothing on stdout if the server does not answer", async () => {
  const { code, out, err } = await runMain([
    "stun",
    await closedPort(),
    "--timeout",
    "50ms",
    "--json",
  ]);
  assertEquals([code, out, err.length], [124, [], 2]);
});

const NO_SERVER = ["--rendezvous", "ws://127.0.0.1:9"];
const TICKET = encodeTicket({
  ...{ publicKey: new Uint8Array(32).fill(9), secret: new Uint8Array(16) },
  signaling: ["ws://127.0.0.1:9"],
});

for (
  const [what, args, remedy] of [
    ["no server answers", ["connect", TICKET, ...NO_SERVER], /^Check the address and the port/],
    [
      "none may be used",
      ["connect", TICKET],
      /^If you trust it, add --rendezvous ws:\/\/127\.0\.0\.1:9$/,
    ],
    ["none can be listened on", ["listen", ...NO_SERVER], /^Check the address and the port/],
    ["there is no room", ["punch", "room", ...NO_SERVER], /^Check the address and the port/],
    ["a code has a typing error", ["connect", "7-quartz-lantern-otter"], /^Type the number/],
    ["a ticket is damaged", ["connect", `${TICKET}A`], /^Copy the whole ticket again/],
    ["a time has no unit", ["listen", "--timeout", "5"], /^Write 5s, 5m or 5ms$/],
    ["an argument is too many", ["listen", "extra"], /^`punchline help listen` explains/],
    ["there is no such friend", ["connect", "laptop"], /^`punchline peers list` shows friends/],
  ] as [string, string[], RegExp][]
) {
  Deno.test(`text and JSON have the same remedy if ${what}`, async () => {
    const text = await runMain(args);
    const json = await runMain([...args, "--json"]);
    assertEquals(json.code, text.code);
    const failure = JSON.parse(json.err.at(-1)!);
    assertEquals(failure.event, "error");
    assertEquals(text.err.slice(-2), [`punchline: ${failure.message}`, failure.remedy]);
    assertMatch(failure.remedy, remedy);
  });
}

Deno.test("an event about a server that fails has a remedy", async () => {
  const { err } = await runMain(["listen", ...NO_SERVER, "--json"]);
  const events = err.map((line) => JSON.parse(line));
  const signaling = events.find(({ event }) => event === "signaling");
  assertEquals(signaling.state, "failed");
  assertMatch(signaling.remedy, /^Check the address and the port/);
});

for (
  const [args, remedy] of [[["send", "/no/such/file", "--lan"], /^Check the spelling/]] as const
) {
  Deno.test(`${args[0]} --json has the remedy of its text`, async () => {
    const text = await runMain([...args]);
    const json = await runMain([...args, "--json"]);
    assertEquals(json.err, text.err);
    assertMatch(text.err.at(-1)!, remedy);
  });
}

interface Shape {
  readonly [key: string]: Check | Shape;
}

function assertShape(value: unknown, shape: Shape, path: string): void {
  assert(typeof value === "object" && value !== null, `${path} is not an object`);
  assertEquals(Object.keys(value), Object.keys(shape), `keys of ${path}`);
  for (const [key, found] of Object.entries(value)) {
    const expected = shape[key]!;
    if (typeof expected !== "function") assertShape(found, expected, `${path}.${key}`);
    else assert(expected(found), `${path}.${key} is ${JSON.stringify(found)}`);
  }
}
