// Two machines with a router between them that swallows the longer packets on the way from one to the other, on real
// kernels; the way to the rendezvous and its relay, which runs on the router, has no hole:
//
//   alice, 203.0.113.2 ── west ─ 203.0.113.1, world, 198.51.100.1 ─ east ── bob, 198.51.100.2
//
// TCP connects, and stalls. UDP has to carry the connection, or the relay where UDP is blocked, and both are told.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { labTest } from "../lab/lab_test_case.ts";
import { NetworkPlace, wire } from "./network_place.ts";

for (
  const [bytes, isUdpBlocked, isLater] of [
    [1280, false, false],
    [1280, true, false],
    [1420, false, false],
    [1420, true, false],
    [1280, false, true],
  ] as const
) {
  const what = `${isLater ? " that is there later" : ""}${
    isUdpBlocked ? ", where UDP is blocked" : ""
  }`;
  labTest(`a megabyte crosses an MTU hole of ${bytes} bytes${what}`, async () => {
    await using world = await NetworkPlace.open("world");
    await using alice = await NetworkPlace.open("alice", world);
    await using bob = await NetworkPlace.open("bob", world);
    await wire({ place: alice, name: "eth0" }, { place: world, name: "west" });
    await wire({ place: bob, name: "eth0" }, { place: world, name: "east" });
    await alice.sh(
      "ip addr add 203.0.113.2/24 dev eth0; ip route add default via 203.0.113.1",
    );
    await bob.sh(
      "ip addr add 198.51.100.2/24 dev eth0; ip route add default via 198.51.100.1",
    );
    await world.sh(`
        ip addr add 203.0.113.1/24 dev west
        ip addr add 198.51.100.1/24 dev east
        sysctl -qw net.ipv4.ip_forward=1
        nft -f - <<'END'
table ip hole {
  chain forward {
    type filter hook forward priority 0;
    ${isUdpBlocked ? "meta l4proto udp drop" : ""}
  }
}
END`);
    const shrink = () => world.sh(`nft add rule ip hole forward meta length \\> ${bytes} drop`);
    if (!isLater) await shrink();
    const serve = ["serve", "--address", "203.0.113.1", "--alternate", "198.51.100.1"];
    await world.serve(Deno.execPath(), [...CLI, ...serve], { ready: /rendezvous/i });
    const meet = ["--rendezvous", "ws://203.0.113.1:3480", "--server", "203.0.113.1", "--json"];
    const listener = bob.spawn(Deno.execPath(), [...CLI, "listen", ...meet], PIPED);
    const heard = new Events(listener.stderr);
    const { ticket } = await heard.next("ticket");
    const startedAt = performance.now();
    const caller = alice.spawn(
      Deno.execPath(),
      [...CLI, "connect", ticket as string, ...meet],
      PIPED,
    );
    const called = new Events(caller.stderr);
    const input = caller.stdin.getWriter();
    const half = new Uint8Array(BYTES / 2).fill(120);
    const sent = [input.write(half)];
    let received = 0;
    for await (const part of listener.stdout) {
      const isHalf = received < BYTES / 2 && received + part.length >= BYTES / 2;
      received += part.length;
      if (isHalf) {
        if (isLater) await shrink();
        sent.push(input.write(half));
      }
      if (received === BYTES) break;
    }
    await Promise.all(sent);
    const elapsedMs = performance.now() - startedAt;
    assertEquals(received, BYTES);
    assert(elapsedMs < 15_000, `${elapsedMs} ms`);
    for (const events of [called, heard]) {
      const finding = await events.next("finding");
      assertEquals(finding.kind, "mtu");
      if (isLater) await events.next("path", ({ relayed }) => relayed === isUdpBlocked);
      const paths = events.all.filter(({ event }) => event === "connected" || event === "path");
      const last = paths.at(-1)!;
      assertEquals(
        [last.relayed, last.transport],
        isUdpBlocked ? [true, "tcp"] : [false, "udp"],
        JSON.stringify(events.all),
      );
    }
    await input.close();
    for (const child of [caller, listener]) {
      try {
        child.kill("SIGKILL");
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // it has ended
      }
      await child.status;
    }
    await Promise.all([caller.stdout.cancel(), listener.stdin.abort()]);
  });
}

labTest(
  "an MTU hole on the way to the relay itself is told, where nothing else connects",
  async () => {
    await using world = await NetworkPlace.open("world");
    await using alice = await NetworkPlace.open("alice", world);
    await wire({ place: alice, name: "eth0" }, { place: world, name: "west" });
    await alice.sh("ip addr add 203.0.113.2/24 dev eth0; ip route add default via 203.0.113.1");
    await world.sh(`
    ip addr add 203.0.113.1/24 dev west
    nft -f - <<'END'
table ip hole {
  chain input {
    type filter hook input priority 0;
    iifname "west" meta l4proto udp drop
  }
}
END`);
    const serve = ["serve", "--address", "203.0.113.1"];
    await world.serve(Deno.execPath(), [...CLI, ...serve], { ready: /rendezvous/i });
    const meet = ["--rendezvous", "ws://203.0.113.1:3480", "--relay-only", "--json"];
    const listener = world.spawn(Deno.execPath(), [...CLI, "listen", ...meet], PIPED);
    const heard = new Events(listener.stderr);
    const { ticket } = await heard.next("ticket");
    const caller = alice.spawn(
      Deno.execPath(),
      [...CLI, "connect", ticket as string, ...meet],
      PIPED,
    );
    const called = new Events(caller.stderr);
    await called.next("connected");
    await world.sh(`nft add rule ip hole input iifname west meta length \\> 1280 drop`);
    const input = caller.stdin.getWriter();
    const startedAt = performance.now();
    const sent = input.write(new Uint8Array(100_000));
    const { kind, summary } = await called.next("finding");
    assertEquals(kind, "mtu");
    assertMatch(summary as string, /link to the relay ws:\/\/203\.0\.113\.1:3480 swallows/);
    const tookMs = performance.now() - startedAt;
    assert(tookMs < 12_000, `${tookMs} ms`);
    assertEquals(heard.all.some(({ event }) => event === "finding"), false); // its own link is all right
    for (const child of [caller, listener]) child.kill("SIGKILL");
    await Promise.allSettled([sent, input.abort(), caller.status, listener.status]);
    await Promise.all([caller.stdout.cancel(), listener.stdout.cancel(), listener.stdin.abort()]);
  },
);

/** The events of a command. */
class Events {
  readonly all: Record<string, unknown>[] = [];
  readonly #changed: (() => void)[] = [];
  #hasEnded = false;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#read(stream).finally(() => {
      this.#hasEnded = true;
      this.#notify();
    });
  }

  /** The first event of this name, and of this kind, which may be yet to come. */
  async next(
    name: string,
    isRight: (event: Record<string, unknown>) => boolean = () => true,
  ): Promise<Record<string, unknown>> {
    for (;;) {
      const found = this.all.find((each) => each.event === name && isRight(each));
      if (found !== undefined) return found;
      if (this.#hasEnded) throw new Error(`Cannot find ${name} in ${JSON.stringify(this.all)}`);
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    let text = "";
    for await (const part of stream.pipeThrough(new TextDecoderStream())) {
      const lines = (text + part).split("\n");
      text = lines.pop()!;
      this.all.push(
        ...lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line)),
      );
      this.#notify();
    }
  }

  #notify(): void {
    for (const resolve of this.#changed.splice(0)) resolve();
  }
}

const CLI = ["run", "-A", new URL("../../cli.ts", import.meta.url).pathname];

const PIPED = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;

const BYTES = 1_000_000;
