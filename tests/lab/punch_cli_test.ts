/**
 * The `punch` command on real kernels, behind NATs: what is written on one side arrives at the other.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Lab } from "../../lab/kernel/lab.ts";
import { denoArgs, type LabHost } from "../../lab/kernel/lab_host.ts";
import { labTest } from "./lab_test_case.ts";
import { nat } from "../../lab/kernel/topology.ts";
import { ATTEMPT_KEYS, CONNECTED_KEYS } from "../cli/event_keys.ts";

labTest(
  "two runs of `punch` behind NATs become one connection, and each direction ends by itself",
  async () => {
    await using lab = await startLab();
    const sent = crypto.getRandomValues(new Uint8Array(60_000));
    const big = Array.from({ length: 100 }, () => sent); // 6 MB
    const a = punch(lab.host("a"), "kitchen", big);
    const b = punch(lab.host("b"), "kitchen", [new TextEncoder().encode("short")]);
    const [fromA, fromB] = await Promise.all([a, b]);
    assertEquals([fromA.code, fromB.code], [0, 0], fromA.stderr + fromB.stderr);
    assertEquals(new TextDecoder().decode(fromA.stdout), "short");
    assertEquals(await digest([fromB.stdout]), await digest(big));
    for (const { stderr } of [fromA, fromB]) {
      const events = stderr.trim().split("\n").map((line) => JSON.parse(line));
      const connected = events.find(({ event }) => event === "connected");
      assertEquals(Object.keys(connected), CONNECTED_KEYS);
      assertEquals(connected.relayed, false);
      assertEquals(events.at(-1), { event: "closed" });
      for (const attempt of events.filter(({ event }) => event === "attempt")) {
        assertEquals(Object.keys(attempt), ATTEMPT_KEYS);
      }
    }
  },
);

labTest("`punch` says why it cannot connect, and when no peer comes", async () => {
  await using lab = await startLab();
  await lab.nat("a/nat").setBehavior("symmetric");
  await lab.nat("b/nat").setBehavior("symmetric");
  const [a, b] = await Promise.all([
    punch(lab.host("a"), "attic", [], "--no-json"),
    punch(lab.host("b"), "attic", [], "--no-json"),
  ]);
  for (const { code, stderr } of [a, b]) {
    assertEquals(code, 1, stderr);
    assertMatch(stderr, /punchline: Cannot punch: symmetric.* x symmetric.*impossible/);
    assert(!stderr.includes("    at "), stderr);
  }
  const alone = await punch(lab.host("a"), "cellar", [], "--timeout", "300ms");
  assertEquals(alone.code, 4);
  assertMatch(alone.stderr, /the other side did not join room cellar within 300 ms/);
});

async function startLab(): Promise<Lab> {
  const lab = await Lab.start({
    hosts: {
      server: { addresses: [SERVER, "203.0.113.11"] },
      a: { behind: nat("portRestricted") },
      b: { behind: nat("portRestricted") },
    },
    internet: { rttMs: 20 },
  });
  const args = ["serve", "--address", SERVER, "--alternate", "203.0.113.11", "--json"];
  await lab.host("server").serve(Deno.execPath(), denoArgs(CLI, args), { ready: /listening/ });
  return lab;
}

interface PunchOutcome {
  readonly code: number;
  readonly stdout: Uint8Array<ArrayBuffer>;
  readonly stderr: string;
}

/** Runs the command, by default with `--json`, and writes the input to it. */
async function punch(
  host: LabHost,
  room: string,
  input: readonly Uint8Array<ArrayBuffer>[],
  ...options: string[]
): Promise<PunchOutcome> {
  const json = options.includes("--no-json") ? [] : ["--json"];
  const rest = options.filter((option) => option !== "--no-json");
  const servers = ["--server", SERVER, "--server", "203.0.113.11:3479"];
  const args = ["punch", room, "--rendezvous", `ws://${SERVER}:3480`, ...servers, ...json, ...rest];
  const child = host.spawn(Deno.execPath(), denoArgs(CLI, args), {
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  });
  const feeding = ReadableStream.from(input).pipeTo(child.stdin).catch(() => {}); // the command may not read it
  const { code, stdout, stderr } = await child.output();
  await feeding;
  return { code, stdout, stderr: new TextDecoder().decode(stderr) };
}

async function digest(parts: readonly Uint8Array<ArrayBuffer>[]): Promise<string> {
  const bytes = await new Blob([...parts]).arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return `${bytes.byteLength} ${hash.toHex()}`;
}

const CLI = new URL("../../cli.ts", import.meta.url);
const SERVER = "203.0.113.10";
