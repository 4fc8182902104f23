// mapPort() and `map` with miniupnpd, on the kernel's own NAT and firewall.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { labTest } from "../lab/lab_test_case.ts";
import { HOME_ROUTER, HOME_ROUTER_PROGRAMS, HomeRouter } from "./miniupnpd.ts";
import { MapCommand } from "./map_command.ts";

const CLI = new URL("../../cli.ts", import.meta.url);
const GREET = new URL("programs/greet.ts", import.meta.url);
const MAP_MANY = new URL("programs/map_many.ts", import.meta.url);
async function serveStunOutside({ outside }: HomeRouter): Promise<void> {
  await outside.serve(
    Deno.execPath(),
    denoArgs(CLI, ["serve", "--address", HOME_ROUTER.outside, "--json"]),
    { ready: /listening/ },
  );
}

const NEEDS = { programs: [...HOME_ROUTER_PROGRAMS, "upnpc"] };

const PROTOCOLS = ["auto", "pcp", "nat-pmp", "upnp"] as const;

for (const protocol of PROTOCOLS) {
  for (const transport of ["tcp", "udp"] as const) {
    labTest(
      `map add ${transport} by ${protocol} lets the outside in, and Ctrl-C leaves nothing in nft`,
      async () => {
        await using home = await HomeRouter.start();
        await home.host.serve(
          Deno.execPath(),
          denoArgs(GREET, ["serve", HOME_ROUTER.host, "8080"]),
          { ready: /ready/ },
        );
        await using command = add(home, [transport, "8080", "--protocol", protocol]);
        const mapped = await command.next("mapped");
        assertEquals(mapped.external, `${HOME_ROUTER.external}:8080`);
        assertEquals(mapped.protocol, protocol === "auto" ? "pcp" : protocol);
        const answer = await home.outside.json<string>(GREET, [
          ...[transport, HOME_ROUTER.external, "8080"],
        ]);
        assertMatch(answer, new RegExp(`^${HOME_ROUTER.outside}:`));
        const { stdout } = await home.host.output("upnpc", ["-l"]);
        assertMatch(stdout, new RegExp(`${transport.toUpperCase()}\\s+8080->192.168.1.2:8080`));

        assertEquals(await command.interrupt(), 130);
        assertEquals((await command.next("released")).reason, undefined);
        assertEquals(await home.rules(), []);
      },
      NEEDS,
    );
  }
}

for (const protocol of ["pcp", "nat-pmp", "upnp"]) {
  labTest(`TERM ends map add by ${protocol} with 143, and leaves nothing in nft`, async () => {
    await using home = await HomeRouter.start();
    await using command = add(home, ["tcp", "8080", "--protocol", protocol]);
    assertEquals((await command.next("mapped")).protocol, protocol);
    assert((await home.rules()).length > 0);
    assertEquals(await command.end("SIGTERM"), 143);
    assertEquals((await command.next("released")).reason, undefined);
    assertEquals(await home.rules(), []);
  }, NEEDS);

  labTest(`closing the window of map add by ${protocol} leaves nothing in nft`, async () => {
    await using home = await HomeRouter.start();
    const words = [Deno.execPath(), ...denoArgs(CLI, ["map", "add", "--json", "tcp", "8080"])];
    const text = [...words, "--protocol", protocol].map((word) => `'${word}'`).join(" ");
    const args = ["--quiet", "--flush", "--command", `exec ${text}`, "/dev/null"];
    await using terminal = new MapCommand(home.host.spawn("script", args, PIPED));
    assertEquals((await terminal.next("mapped")).protocol, protocol);
    await terminal.end("SIGKILL"); // of `script`, which has the other end of the terminal
    const closedMs = performance.now();
    while ((await home.rules()).length > 0) {
      assert(performance.now() - closedMs < 10_000, "the mapping is still there");
      await delay(100);
    }
    note(`${protocol}: released ${seconds(closedMs)} after the window was closed`);
  }, NEEDS);
}

labTest(
  "map add reports a public mapping if a STUN server sees the router's address",
  async () => {
    await using home = await HomeRouter.start();
    await serveStunOutside(home);
    await using command = add(home, ["tcp", "8080", "--server", HOME_ROUTER.outside]);
    assertEquals((await command.next("mapped")).verdict, "public");
    assertEquals(await command.interrupt(), 130);
  },
  NEEDS,
);

labTest(
  "map add reports an upstream NAT if a STUN server sees another address",
  async () => {
    await using home = await HomeRouter.start();
    // Another NAT that translates the router's address again, in the same kernel.
    await home.router.sh(`
    ip addr add 44.0.0.50/24 dev wan0
    nft insert rule inet filter postrouting ip daddr ${HOME_ROUTER.outside} snat ip to 44.0.0.50
  `);
    await serveStunOutside(home);
    await using command = add(home, ["tcp", "8080", "--server", HOME_ROUTER.outside]);
    assertEquals((await command.next("mapped")).verdict, "double-nat");
    assertEquals(await command.interrupt(), 130);
  },
  NEEDS,
);

labTest("map add claims nothing if no STUN server was asked, or none answers", async () => {
  await using home = await HomeRouter.start();
  for (const options of [[], ["--server", `${HOME_ROUTER.outside}:9`]]) {
    await using command = add(home, ["tcp", "8080", ...options]);
    assertEquals((await command.next("mapped")).verdict, "unverified");
    assertEquals(await command.interrupt(), 130);
  }
}, NEEDS);

for (const protocol of ["pcp", "upnp"]) {
  labTest(`map add by ${protocol} opens an IPv6 pinhole, and Ctrl-C closes it`, async () => {
    await using home = await HomeRouter.start();
    await home.host.serve(
      Deno.execPath(),
      denoArgs(GREET, ["serve", HOME_ROUTER.host6, "8080"]),
      { ready: /ready/ },
    );
    const args = ["tcp", "8080", "--protocol", protocol, "--gateway", HOME_ROUTER.gateway6];
    await using command = add(home, args);
    assertEquals((await command.next("mapped")).external, `[${HOME_ROUTER.host6}]:8080`);
    const answer = await home.outside.json<string>(GREET, ["tcp", HOME_ROUTER.host6, "8080"]);
    assert(answer.startsWith(`[${HOME_ROUTER.outside6}]:`));
    assertEquals(await command.interrupt(), 130);
    assertEquals(await home.rules(), []);
  }, NEEDS);
}

for (const protocol of PROTOCOLS) {
  labTest(
    `map add by ${protocol} restores the mapping after the router restarted with an empty table`,
    async () => {
      await using home = await HomeRouter.start();
      await using command = add(home, ["tcp", "8080", "--protocol", protocol]);
      await command.next("mapped");
      await delay(MIN_AGE_MS);
      await home.stopDaemon({ flush: true });
      const restartedMs = performance.now();
      await home.startDaemon();
      const lost = await command.next("lost");
      assertEquals(lost.external, `${HOME_ROUTER.external}:8080`);
      const again = await command.next("mapped");
      note(`${protocol}: back ${seconds(restartedMs)} after the restart`);
      assertEquals(again.external, `${HOME_ROUTER.external}:8080`);
      assert((await home.rules()).length > 0);
      await command.interrupt();
      assertEquals(await home.rules(), []);
    },
    NEEDS,
  );
}

for (const protocol of PROTOCOLS) {
  labTest(`map add by ${protocol} notices a change of the external address`, async () => {
    await using home = await HomeRouter.start();
    await using command = add(home, ["udp", "8080", "--protocol", protocol, "--check", "3"]);
    await command.next("mapped");
    await home.router.sh("ip addr add 44.0.0.8/24 dev wan0; ip addr del 44.0.0.7/24 dev wan0");
    await home.router.sh("ip addr replace 44.0.0.8/24 dev wan0");
    const changedMs = performance.now();
    const changed = await command.next("changed");
    note(`${protocol}: ${changed.external} after ${seconds(changedMs)}`);
    assertEquals(changed.external, "44.0.0.8:8080");
    await command.interrupt();
    assertEquals(await home.rules(), []);
  }, NEEDS);
}

for (const protocol of PROTOCOLS) {
  labTest(`map add by ${protocol} restores a mapping that the router lost silently`, async () => {
    await using home = await HomeRouter.start();
    await using command = add(home, ["udp", "8080", "--protocol", protocol, "--check", "3"]);
    await command.next("mapped");
    const before = await home.rules();
    assert(before.length > 0);
    // For UPnP miniupnpd reads its own list, not the kernel's, which still holds what was flushed behind its back.
    if (protocol === "upnp") await home.host.output("upnpc", ["-d", "8080", "UDP"]);
    else await home.flush();
    assertEquals(await home.rules(), []);
    const flushedMs = performance.now();
    const signal = AbortSignal.timeout(15_000);
    while ((await home.rules()).length < before.length) signal.throwIfAborted();
    note(`${protocol}: back ${seconds(flushedMs)} after the loss, asking every 3 s`);
    await command.interrupt();
    assertEquals(await home.rules(), []);
  }, NEEDS);
}

labTest("mapPort() opens 200 ports for 20 callers at once, and releases them", async () => {
  await using home = await HomeRouter.start();
  const { granted, elapsedMs } = await home.host.json<{ granted: number; elapsedMs: number }>(
    MAP_MANY,
    ["200", "20", "release"],
  );
  note(`200 mappings mapped and released in ${Math.round(elapsedMs)} ms`);
  assertEquals(granted, 200);
  assertEquals(await home.rules(), []);
}, NEEDS);

labTest("mapPort() releases everything when it is aborted at any time", async () => {
  await using home = await HomeRouter.start();
  await home.host.json(MAP_MANY, ["20", "20", "abort"]);
  assertEquals(await home.rules(), []);
}, NEEDS);

labTest(
  "map list, delete and probe report on the router, and --keep leaves a mapping open",
  async () => {
    await using home = await HomeRouter.start();
    await using kept = add(home, ["tcp", "8080", "--keep"]);
    await kept.next("mapped");
    assertEquals(await kept.interrupt(), 130);
    assert((await home.rules()).length > 0);

    const listed = await cli(home, ["list"]);
    assertMatch(listed.stdout, /^192\.168\.1\.1:\n.*\n {2}TCP +8080 +192\.168\.1\.2:8080 +\d+ s/);
    const probed = await cli(home, ["probe", "--json"]);
    const { gateways: [gateway] } = JSON.parse(probed.stdout);
    assertEquals(
      [gateway.pcp.answer, gateway.natPmp.answer, gateway.upnp.answer, gateway.external],
      ["supported", "supported", "supported", HOME_ROUTER.external],
    );
    const deleted = await cli(home, ["delete", "tcp", "8080"]);
    assertEquals([deleted.code, deleted.stderr], [0, ""]);
    assertEquals(await home.rules(), []);
    assertMatch((await cli(home, ["list"])).stdout, /^192\.168\.1\.1 has no mappings\n/);
  },
  NEEDS,
);

labTest("map add works with --allow-net alone, with a named gateway and without", async () => {
  await using home = await HomeRouter.start();
  for (const gateway of [["--gateway", HOME_ROUTER.gateway], []]) {
    const allow = ["run", "--quiet", "--no-lock", "--no-prompt", "--unstable-net", "--allow-net"];
    const args = [...allow, CLI.href, "map", "add", "tcp", "8080", "--json", ...gateway];
    await using command = new MapCommand(home.host.spawn(Deno.execPath(), args, PIPED));
    assertEquals((await command.next("mapped")).external, `${HOME_ROUTER.external}:8080`);
    assertEquals(await command.interrupt(), 130);
    assertEquals(await home.rules(), []);
  }
}, NEEDS);

labTest("map add reports within seconds that every gateway failed", async () => {
  await using home = await HomeRouter.start();
  await home.stopDaemon({ flush: true });
  const { code, stdout, stderr } = await cli(home, ["add", "tcp", "8080", "--json"]);
  assertEquals([code, stdout], [1, ""]);
  assertMatch(
    stderr,
    /^punchline: Cannot map TCP port 8080: every gateway failed \(192\.168\.1\.1: .*silent.*\)\n(?:.+\n)?$/,
  );
}, NEEDS);

function add(home: HomeRouter, args: readonly string[]): MapCommand {
  const all = denoArgs(CLI, ["map", "add", "--json", ...args]);
  return new MapCommand(home.host.spawn(Deno.execPath(), all, PIPED));
}

function cli(home: HomeRouter, args: readonly string[]) {
  return home.host.output(Deno.execPath(), denoArgs(CLI, ["map", ...args]));
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
}

function note(text: string): void {
  // deno-lint-ignore no-console -- figures for the log
  console.log(text);
}

/** A younger router could restart without its clock showing it: RFC 6887 §8.5 allows for reordering. */
const MIN_AGE_MS = 6000;

const PIPED = { stdin: "null", stdout: "piped", stderr: "inherit" } as const;
