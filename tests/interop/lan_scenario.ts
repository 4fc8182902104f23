/**
 * Signals in the LAN of the host that it runs on.
 *
 * `deno run lan_scenario.ts answer` publishes under one topic what it receives under another, until it is killed, and
 * checks its addresses as often as a peer whose path is lost. `deno run lan_scenario.ts ask` publishes messages of the
 * maximum length until one is answered, and prints as JSON how many answers there were, and after how long.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { equalBytes } from "../../lib/base/bytes.ts";
import { systemNetwork as network } from "../../lib/net/system.ts";
import { MAX_SIGNAL_BYTES } from "../../lib/signal/channel.ts";
import { openSignaling } from "../../lib/signal/open.ts";
import { lanTransport } from "../../lib/signal/lan.ts";

/** The answers to a question. */
export interface LanAnswers {
  /** How many questions were asked. */
  readonly asked: number;
  /** How many answers the last question got; more than one is an error. */
  readonly answers: number;
  /** From the last question to its first answer. */
  readonly elapsedMs: number;
}

const QUESTIONS = "QUESTIONSAAAAAAAAAAAAA";
const ANSWERS = "ANSWERSAAAAAAAAAAAAAAA";

async function answer(): Promise<void> {
  await using signaling = await openSignaling(lanTransport(), { network });
  await using _subscription = await signaling.subscribe(QUESTIONS, (message) => {
    signaling.publish(ANSWERS, message).catch(() => {}); // the question is repeated
  });
  print("ready");
  for (;;) {
    await delay(500);
    signaling.check!();
  }
}

async function ask(): Promise<LanAnswers> {
  await using signaling = await lanTransport().open({ network });
  for (let asked = 1;; asked++) {
    const question = crypto.getRandomValues(new Uint8Array(MAX_SIGNAL_BYTES));
    const startMs = performance.now();
    const first = Promise.withResolvers<number>();
    let answers = 0;
    await using _subscription = await signaling.subscribe(ANSWERS, (message) => {
      if (equalBytes(message, question)) answers++;
      first.resolve(performance.now() - startMs);
    });
    await signaling.publish(QUESTIONS, question);
    const elapsedMs = await Promise.race([first.promise, delay(1000).then(() => undefined)]);
    if (elapsedMs === undefined) continue;
    await delay(300); // for a duplicate over the other link
    return { asked, answers, elapsedMs };
  }
}

function print(result: unknown): void {
  // deno-lint-ignore no-console -- a program
  console.log(JSON.stringify(result));
}

if (Deno.args[0] === "answer") await answer();
else print(await ask());
