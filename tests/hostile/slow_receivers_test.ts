/**
 * Someone with the ticket looks at an offer and does not answer, or answers in the worst way. The sender's other receivers
 * are not kept waiting.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { type Command, start, withScratch, withServers } from "../cli/command.ts";
import { Terminal, terminalTest } from "../cli/terminal.ts";

offerTest(
  "a receiver at its question does not lock out another, and is told that it came too late",
  (scene) =>
    scene(async ({ sender, receive, ask, folder }) => {
      await using slow = ask("slow");
      await slow.prints("[y/N]");
      const startedMs = performance.now();
      const { code, stderr } = await receive("quick").end();
      assertEquals(code, 0, stderr);
      assert(performance.now() - startedMs < 6000);
      assertEquals(await Deno.readTextFile(`${folder}/quick/file`), "content");
      assertEquals(await slow.end(), 1, slow.screen);
      assertMatch(slow.screen, /another receiver accepted the offer first/);
      assertEquals((await sender.end()).code, 0);
      assertEquals(await names(`${folder}/slow`), []);
    }),
);

offerTest(
  "of three receivers at their questions the first that says yes gets the files",
  (scene) =>
    scene(async ({ sender, ask, folder }) => {
      await using one = ask("one");
      await one.prints("[y/N]");
      await using two = ask("two");
      await two.prints("[y/N]");
      await using three = ask("three");
      await three.prints("[y/N]");
      await two.type("y\r");
      const codes = [await two.end(), await one.end(), await three.end()];
      assertEquals(codes, [0, 1, 1], one.screen + two.screen + three.screen);
      assertEquals((await sender.end()).code, 0);
      for (const [to, files] of [["one", []], ["two", ["file"]], ["three", []]] as const) {
        assertEquals(await names(`${folder}/${to}`), [...files]);
      }
    }),
);

offerTest(
  "a receiver that declines does not end the transfer while another looks at it",
  (scene) =>
    scene(async ({ sender, ask }) => {
      await using one = ask("one");
      await one.prints("[y/N]");
      await using two = ask("two");
      await two.prints("[y/N]");
      await two.type("n\r");
      assertEquals(await two.end(), 1, two.screen);
      await sender.prints(/A receiver has left: .*declined/);
      await one.type("y\r");
      assertEquals([await one.end(), (await sender.end()).code], [0, 0], one.screen);
    }),
);

offerTest(
  "a receiver that is killed at its question does not keep the next one waiting",
  (scene) =>
    scene(async ({ sender, receive, ask }) => {
      await using slow = ask("slow");
      await slow.prints("[y/N]");
      Deno.kill(await slow.pid(), "SIGKILL");
      await slow.end();
      const startedMs = performance.now();
      const { code, stderr } = await receive("quick").end();
      assertEquals([code, (await sender.end()).code], [0, 0], stderr);
      assert(performance.now() - startedMs < 6000);
    }),
);

offerTest(
  "nine receivers at their questions do not keep a tenth from looking",
  (scene) =>
    scene(async ({ sender, receive, ask }) => {
      await using screens = new AsyncDisposableStack();
      const slow = [];
      for (let index = 0; index < 9; index++) {
        const screen = screens.use(ask(`slow${index}`));
        slow.push(screen);
        await screen.prints("[y/N]");
      }
      await slow[0]!.end();
      assertMatch(slow[0]!.screen, /too many others look at the offer/);
      const { code, stderr } = await receive("quick").end();
      assertEquals([code, (await sender.end()).code], [0, 0], stderr);
    }),
);

for (
  const [what, keys, exit] of [["Ctrl-C", "\u0003", 130], [
    "the end of its window",
    "",
    129,
  ]] as const
) {
  offerTest(
    `${what} at the question declines, and the sender does not wait for more`,
    (scene) =>
      scene(async ({ sender, ask, folder }) => {
        await using slow = ask("slow");
        await slow.prints("[y/N]");
        const startedMs = performance.now();
        if (keys === "") Deno.kill(await slow.pid(), "SIGHUP");
        else await slow.type(keys);
        assertEquals(await slow.end(), exit, slow.screen);
        const { code, stderr } = await sender.end();
        assertEquals(code, 1, stderr);
        assertMatch(stderr, /declined/);
        assert(!/broke/.test(stderr), stderr);
        assert(performance.now() - startedMs < 5000);
        assertEquals(await names(`${folder}/slow`), []);
      }),
  );
}

interface Scene {
  readonly folder: string;
  readonly sender: Command;
  /** Receives into this folder without a question. */
  receive(to: string): Command;
  /** Receives into this folder, on a terminal. */
  ask(to: string): Terminal;
}

type WithScene = (test: (scene: Scene) => Promise<void>) => Promise<void>;

function offerTest(name: string, test: (scene: WithScene) => Promise<void>): void {
  terminalTest(name, () => test(withOffer));
}

function withOffer(test: (scene: Scene) => Promise<void>): Promise<void> {
  return withScratch((folder) =>
    withServers(async ({ all, connecting }) => {
      await Deno.writeTextFile(`${folder}/file`, "content");
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const sender = start(["send", `${folder}/file`, ...all], { permissions });
      const ticket = await sender.ticket();
      const words = (to: string) => {
        Deno.mkdirSync(`${folder}/${to}`);
        return ["recv", ticket, "--to", `${folder}/${to}`, ...connecting];
      };
      try {
        await test({
          ...{ folder, sender },
          receive: (to) => start([...words(to), "--yes"], { permissions }),
          ask: (to) => Terminal.start(words(to), { permissions }),
        });
      } finally {
        sender.interrupt();
        await sender.end();
      }
    })
  );
}

async function names(folder: string): Promise<string[]> {
  return await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
}
