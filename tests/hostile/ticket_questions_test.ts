/**
 * A stranger's ticket names servers of this machine or of its network. On a terminal its owner is asked, once.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Peer } from "../../lib/peer/peer.ts";
import { start, withScratch, withServers } from "../cli/command.ts";
import { Terminal, terminalTest } from "../cli/terminal.ts";
import { freePort } from "./file_programs.ts";
import { readText } from "../simnet/fixtures.ts";
import { type Service, ticketFor, withService } from "./strange_tickets.ts";

for (const [what, answer] of [["Enter", "\r"], ["no", "no\r"], ["Ctrl-D", "\u0004"]] as const) {
  terminalTest(
    `a ticket cannot reach two local services without a yes: ${what}`,
    () =>
      withServices(async (one, other) => {
        const urls = [`mqtt://127.0.0.1:${one.port}`, `ws://[::1]:${other.port}`];
        await using screen = Terminal.start(["connect", ticketFor(...urls)]);
        const text = await screen.prints("Connect to them? [y/N]");
        for (const url of urls) assert(text.includes(url), text);
        assertEquals([one.connections(), other.connections()], [0, 0]);
        await screen.type(answer);
        assertEquals(await screen.end(), 1, screen.screen);
        assertEquals([one.connections(), other.connections()], [0, 0]);
        assertEquals(screen.screen.match(/\[y\/N\]/g)?.length, 1, screen.screen);
        assert(screen.screen.includes(`--mqtt ${urls[0]}`), screen.screen);
        assert(screen.screen.includes(`--rendezvous ${urls[1]}`), screen.screen);
      }),
  );
}

terminalTest(
  "a yes reaches both of them, and one question is all",
  () =>
    withServices(async (one, other) => {
      const urls = [`mqtt://127.0.0.1:${one.port}`, `ws://[::1]:${other.port}`];
      await using screen = Terminal.start(["connect", ticketFor(...urls), "--timeout", "500ms"]);
      await screen.prints("Connect to them? [y/N]");
      await screen.type("y\r");
      await screen.end();
      assert(one.connections() > 0 && other.connections() > 0, screen.screen);
      assertEquals(screen.screen.match(/\[y\/N\]/g)?.length, 1, screen.screen);
    }),
);

terminalTest(
  "a no leaves the servers that need no permission",
  () =>
    withServices(async (named, other) => {
      const url = `ws://127.0.0.1:${named.port}`;
      const ticket = ticketFor(url, `ws://[::1]:${other.port}`);
      await using screen = Terminal.start(
        ["connect", ticket, "--rendezvous", url, "--timeout", "500ms"],
      );
      const text = await screen.prints("Connect to it? [y/N]");
      assert(!text.includes(`${url} `), text);
      await screen.type("n\r");
      await screen.end();
      assertEquals([named.connections() > 0, other.connections()], [true, 0], screen.screen);
    }),
);

terminalTest(
  "recv asks about a local server if the ticket's only other one does not resolve",
  () =>
    withServices(async (one) => {
      const url = `ws://127.0.0.1:${one.port}`;
      const ticket = ticketFor(url, `ws://${"x".repeat(64)}:80`); // no name has a part that long
      await using screen = Terminal.start(["recv", ticket, "--timeout", "500"], {
        permissions: ["--allow-read", "--allow-write"],
      });
      await screen.prints("Connect to it? [y/N]");
      assertEquals(one.connections(), 0);
      await screen.type("y\r");
      await screen.end();
      assert(one.connections() > 0, screen.screen);
    }),
);

terminalTest(
  "a login in a ticket's URL does not reach the terminal of the question",
  () =>
    withServices(async (one) => {
      const url = `mqtt://user:secret@127.0.0.1:${one.port}`;
      await using screen = Terminal.start(["connect", ticketFor(url)]);
      const text = await screen.prints("[y/N]");
      assert(!text.includes("secret"), text);
      await screen.type("n\r");
      await screen.end();
    }),
);

terminalTest(
  "Ctrl-C at the question ends the command, and nothing is dialled",
  () =>
    withServices(async (one) => {
      await using screen = Terminal.start(["connect", ticketFor(`ws://127.0.0.1:${one.port}`)]);
      await screen.prints("[y/N]");
      await screen.type("\u0003");
      assertEquals([await screen.end(), one.connections()], [130, 0], screen.screen);
    }),
);

terminalTest(
  "the answer is not data, and what is typed after it is",
  () =>
    withServers(async ({ stun, url, server }) => {
      await using peer = await Peer.open({ servers: [stun], signaling: [url], mapPorts: false });
      await using screen = Terminal.start(["connect", peer.ticket, ...server]);
      await screen.prints("Connect to it? [y/N]");
      await screen.type("y\r");
      const { value: incoming } = await peer[Symbol.asyncIterator]().next();
      await using connection = await incoming.accept();
      await screen.prints("Connected");
      await screen.type("hello\r");
      assertEquals(await readText(connection, 6), "hello\n");
      await connection.closeWrite(); // a command on a terminal ends with the other side
      assertEquals(await screen.end(), 0, screen.screen);
    }),
);

for (const [what, early] of [["a line", "y\r"], ["half a line", "y"]] as const) {
  terminalTest(
    `a ticket that is pasted along with its own yes reaches nothing: ${what}`,
    () =>
      withServices(async (one) => {
        await using screen = Terminal.start(["connect", "-"]);
        await screen.prints("Enter the value of ticket");
        await screen.type(`${ticketFor(`ws://127.0.0.1:${one.port}`)}\r${early}`);
        await screen.prints("Connect to it? [y/N]");
        await screen.type("\r");
        assertEquals([await screen.end(), one.connections()], [1, 0], screen.screen);
      }),
  );
}

terminalTest(
  "what was typed before the question is not data either",
  () =>
    withServers(async ({ stun, url, server }) => {
      await using peer = await Peer.open({ servers: [stun], signaling: [url], mapPorts: false });
      await using screen = Terminal.start(["connect", "-", ...server]);
      await screen.prints("Enter the value of ticket");
      await screen.type(`${peer.ticket}\ry\rplanted\rhalf`);
      await screen.prints("Connect to it? [y/N]");
      await screen.type("y\rhello\r");
      const { value: incoming } = await peer[Symbol.asyncIterator]().next();
      await using connection = await incoming.accept();
      assertEquals(await readText(connection, 6), "hello\n");
      await connection.closeWrite();
      assertEquals(await screen.end(), 0, screen.screen);
    }),
);

terminalTest(
  "without a question, what is pasted after the ticket is data",
  () =>
    withServers(async ({ stun, url, connecting }) => {
      await using peer = await Peer.open({ servers: [stun], signaling: [url], mapPorts: false });
      await using screen = Terminal.start(["connect", "-", ...connecting]);
      await screen.prints("Enter the value of ticket");
      await screen.type(`${peer.ticket}\ry\rhello\r`);
      const { value: incoming } = await peer[Symbol.asyncIterator]().next();
      await using connection = await incoming.accept();
      assertEquals(await readText(connection, 8), "y\nhello\n");
      await connection.closeWrite();
      assertEquals(await screen.end(), 0, screen.screen);
      assert(!screen.screen.includes("[y/N]"), screen.screen);
    }),
);

terminalTest(
  "--yes does not answer for a ticket's server",
  () =>
    withScratch((folder) =>
      withServices(async (one) => {
        const ticket = ticketFor(`ws://127.0.0.1:${one.port}`);
        const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
        const args = ["recv", ticket, "--yes", "--to", folder];
        await using screen = Terminal.start(args, { permissions });
        await screen.prints("Connect to it? [y/N]");
        await screen.type("\r");
        assertEquals([await screen.end(), one.connections()], [1, 0], screen.screen);
        const { code } = await start(args, { permissions }).end();
        assertEquals([code, one.connections()], [4, 0]);
      })
    ),
);

terminalTest(
  "recv asks for the only server, then about the files",
  () =>
    withScratch((folder) =>
      withServers(async ({ all, server }) => {
        await Deno.writeTextFile(`${folder}/a`, "alpha");
        await Deno.mkdir(`${folder}/to`);
        const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
        const sender = start(["send", `${folder}/a`, ...all], { permissions });
        const args = ["recv", await sender.ticket(), "--to", `${folder}/to`, ...server];
        await using screen = Terminal.start(args, { permissions });
        await screen.prints("Connect to it? [y/N]");
        await screen.type("y\r");
        await screen.prints("Receive? [y/N]");
        await screen.type("y\r");
        assertEquals([await screen.end(), (await sender.end()).code], [0, 0], screen.screen);
      })
    ),
);

terminalTest(
  "recv skips an unusual server if there is another, so that it asks about the files alone",
  () =>
    withScratch((folder) =>
      withServices(async (named, other) => {
        const url = `ws://127.0.0.1:${named.port}`;
        const unusual = `ws://[::1]:${other.port}`;
        const args = ["recv", ticketFor(url, unusual), "--rendezvous", url, "--timeout", "500ms"];
        const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
        await using screen = Terminal.start([...args, "--to", folder], { permissions });
        await screen.end();
        assert(!screen.screen.includes("[y/N]"), screen.screen);
        assert(screen.screen.includes(`--rendezvous ${unusual}`), screen.screen);
        assertEquals(other.connections(), 0);
      })
    ),
);

Deno.test("connect --tcp ends with 4 if it may not use any server of the ticket", () =>
  withServices(async (one, other) => {
    const urls = [`mqtt://127.0.0.1:${one.port}`, `ws://[::1]:${other.port}`];
    const { code, stderr } = await start(
      ["connect", ticketFor(...urls), "--tcp", `${freePort()}`],
    ).end();
    assertEquals([code, one.connections(), other.connections()], [4, 0, 0], stderr);
    assert(stderr.includes(`--mqtt ${urls[0]}`), stderr);
    assertMatch(stderr, /there is no terminal to ask on/);
  }));

terminalTest(
  "connect --json does not print a question among its events",
  () =>
    withServices(async (one) => {
      const url = `ws://127.0.0.1:${one.port}`;
      await using screen = Terminal.start(["connect", ticketFor(url), "--json"]);
      assertEquals(await screen.end(), 4, screen.screen);
      assert(!screen.screen.includes("[y/N]"), screen.screen);
    }),
);

async function withServices(
  test: (one: Service, other: Service) => Promise<void>,
): Promise<void> {
  await withService("127.0.0.1", (one) => withService("::1", (other) => test(one, other)));
}
